//! The one place that starts programs: an argument vector, an explicit environment, no shell.
//!
//! A program gets nothing that its [`Invocation`] does not name: the environment is empty, standard input is
//! `/dev/null`, every descriptor but the three standard ones is closed on exec, wherever it came from (Linux 5.11),
//! and it leads a process group of its own, so that a terminal's Ctrl-C reaches only the caller and a kill reaches its
//! children too. With [`Restrictions`] it is confined before it begins.

mod capture;
mod child_setup;

#[cfg(test)]
mod tests;

use child_setup::ChildSetup;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

pub use capture::{Limits, Output, OutputStream};
pub use child_setup::{Identity, OwnNamespaces, RestrictionStep, Restrictions};

/// Directories that hold system programs and that an ordinary user's `PATH` often lacks.
const SYSTEM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Says what went wrong with starting or watching a program.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No directory that was searched holds an executable file of that name.
    #[error("no program {program:?} in {searched}")]
    NotFound {
        /// The name that was looked for.
        program: String,
        /// The directories, joined by colons.
        searched: String,
    },
    /// The kernel refused to start the program.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program's path.
        program: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The program could not be confined before its start.
    #[error("cannot start {}: {step}", program.display())]
    Confine {
        /// The program's path.
        program: PathBuf,
        /// What could not be done.
        step: RestrictionStep,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Waiting for the program, or reading what it printed, failed.
    #[error("cannot watch {}", program.display())]
    Watch {
        /// The program's path.
        program: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The program was killed because it ran longer than it was allowed to.
    #[error("{} did not finish within {seconds} s{}", program.display(), saying(stderr))]
    TimedOut {
        /// The program's path.
        program: PathBuf,
        /// The limit.
        seconds: u64,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The program was killed because its result is not wanted any more.
    #[error("{} was ended", program.display())]
    Stopped {
        /// The program's path.
        program: PathBuf,
    },
    /// The program was killed because it printed more than it was allowed to.
    #[error("{} printed more than {limit} bytes", program.display())]
    TooMuchOutput {
        /// The program's path.
        program: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// The program ended, but not with exit code 0.
    #[error("{} failed with {status}{}", program.display(), saying(stderr))]
    Failed {
        /// The program's path.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
}

/// Formats captured standard error as the tail of a one-line message.
pub(crate) fn saying(stderr: &str) -> String {
    let line = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// Returns the path of an executable file called `name`, from the directories of `path` (the text of a `PATH`
/// variable) and then from the system's own program directories.
///
/// Relative directories in `path` are not searched: what they hold depends on where the caller stands.
pub fn find_program(name: &str, path: &OsStr) -> Result<PathBuf, ExecError> {
    let mut directories: Vec<PathBuf> = Vec::new();
    let given = std::env::split_paths(path).filter(|directory| directory.is_absolute());
    for directory in given.chain(SYSTEM_DIRECTORIES.iter().map(PathBuf::from)) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    let found = directories.iter().map(|directory| directory.join(name)).find(|file| is_executable(file));
    found.ok_or_else(|| ExecError::NotFound {
        program: name.to_owned(),
        searched: directories.iter().map(|d| d.to_string_lossy()).collect::<Vec<_>>().join(":"),
    })
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A program with everything it will be given.
#[derive(Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    input: Option<File>,
    descriptors: Vec<OwnedFd>,
    die_with_parent: bool,
    restrictions: Option<Restrictions>,
}

impl Invocation {
    /// Describes a run of `program` without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            input: None,
            descriptors: Vec::new(),
            die_with_parent: false,
            restrictions: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets one environment variable; a program sees no others than those set here.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the directory that the program starts in; without it, it starts where the caller stands.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Gives the program `input` as its standard input instead of `/dev/null`.
    pub fn input(mut self, input: File) -> Self {
        self.input = Some(input);
        self
    }

    /// Hands `descriptor` to the program and returns the number under which it will be open there.
    ///
    /// It is the number that the descriptor has here, so that no two can collide. The caller's copy is closed when
    /// the invocation is used or dropped.
    pub fn inherit(&mut self, descriptor: OwnedFd) -> i32 {
        let number = descriptor.as_raw_fd();
        self.descriptors.push(descriptor);
        number
    }

    /// Has the kernel kill the program when the thread that starts it ends, however that happens.
    ///
    /// The kernel ties this to the starting *thread* (`PR_SET_PDEATHSIG`, prctl(2)), so it must be one that
    /// lives as long as the program should.
    pub fn die_with_parent(mut self) -> Self {
        self.die_with_parent = true;
        self
    }

    /// Confines the program before it begins; what can't be done keeps it from starting.
    pub fn restrict(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = Some(restrictions);
        self
    }

    /// Returns the program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the arguments, without the program's own name.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Runs the program to its end and returns what it printed, whatever its exit code.
    pub fn run(self, limits: Limits) -> Result<Output, ExecError> {
        capture::run(self, limits, &mut |_, _| {}, None)
    }

    /// Runs the program like [`Invocation::run`], but kills it when `stop`, which is asked all the time, returns true.
    pub fn run_unless(self, limits: Limits, stop: &dyn Fn() -> bool) -> Result<Output, ExecError> {
        capture::run(self, limits, &mut |_, _| {}, Some(stop))
    }

    /// Runs the program like [`Invocation::run`], handing over what it prints as it comes.
    pub fn run_watched(
        self,
        limits: Limits,
        watch: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<Output, ExecError> {
        capture::run(self, limits, watch, None)
    }

    /// Starts the program and returns at once; `stdout` and `stderr` say where its output goes.
    pub fn start(self, stdout: Stdio, stderr: Stdio) -> Result<Running, ExecError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment).process_group(0);
        command.stdin(self.input.map_or_else(Stdio::null, Stdio::from)).stdout(stdout).stderr(stderr);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let refused = |source| ExecError::Start { program: self.program.clone(), source };
        let setup = ChildSetup {
            descriptors: self.descriptors,
            die_with_parent: self.die_with_parent,
            restrictions: self.restrictions,
        };
        let report = setup.prepare(&mut command).map_err(refused)?;
        let mut child = command.spawn().map_err(|source| {
            // Closes this side's copies of all that was handed over, so that the report ends.
            drop(command);
            match report.failed_step() {
                Some(step) => ExecError::Confine { program: self.program.clone(), step, source },
                None => refused(source),
            }
        })?;
        match rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Running { program: self.program, child, pidfd, reaped: false, detached: false }),
            Err(errno) => {
                let source = child.kill().and_then(|()| child.wait()).err().unwrap_or(errno.into());
                Err(ExecError::Watch { program: self.program, source })
            }
        }
    }
}

/// A started program, killed with its process group when dropped, unless it has been detached.
#[derive(Debug)]
pub struct Running {
    program: PathBuf,
    child: Child,
    pidfd: OwnedFd,
    reaped: bool,
    detached: bool,
}

impl Running {
    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a descriptor that polls readable once the program has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Returns how the program ended, or nothing while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.reaped |= status.is_some();
        Ok(status)
    }

    /// Waits for the program's end and returns how it ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }

    /// Kills the program and its process group; a program that has ended already is no error.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.reaped {
            return Ok(());
        }
        // Unreaped, so the number cannot belong to another process group yet.
        match rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the reading end of the program's standard output, where that was piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the reading end of the program's standard error, where that was piped.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Lets the program run on by itself; its group is not killed when this ends.
    pub fn detach(mut self) {
        self.detached = true;
    }

    fn unwatchable(&self, source: io::Error) -> ExecError {
        ExecError::Watch { program: self.program.clone(), source }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.detached && self.kill().is_ok() && !self.reaped {
            // Nothing is left to report to; a failed wait means that somebody else has reaped it.
            drop(self.child.wait());
        }
    }
}
