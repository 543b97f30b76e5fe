//! Running a program with a time limit and all that it says captured.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use thiserror::Error;

/// How long a program may take if nothing else is said. Far beyond any honest run: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(240);

/// Bytes of each stream that a message shows.
const SHOWN: usize = 4096;

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns the exit code, 128 and the signal's number for a signal, as a shell would.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Returns standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Returns itself if the program succeeded.
    pub fn ok(self) -> Result<Output, ProcessError> {
        self.exits(0)
    }

    /// Returns itself if the program ended with this exit code.
    pub fn exits(self, code: i32) -> Result<Output, ProcessError> {
        if self.code() == code { Ok(self) } else { Err(ProcessError::Code { expected: code, output: self }) }
    }
}

/// Why a run did not give what it should.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The program could not be started, fed or waited for.
    #[error("cannot run {command}: {source}")]
    Run {
        /// The command line.
        command: String,
        /// The cause.
        source: io::Error,
    },
    /// The program took too long and was killed.
    #[error("{} did not end in {limit:?}{}", output.command, said(output))]
    Late {
        /// What it had said.
        output: Output,
        /// The limit.
        limit: Duration,
    },
    /// The program ended with another exit code.
    #[error("{} exited with {}, expected {expected}{}", output.command, output.code(), said(output))]
    Code {
        /// The code expected.
        expected: i32,
        /// What it said.
        output: Output,
    },
}

/// Formats the ends of what a program said.
fn said(output: &Output) -> String {
    let end =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned();
    format!("\n--- stdout\n{}\n--- stderr\n{}", end(&output.stdout), end(&output.stderr))
}

/// A program with its arguments.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
    signal: Option<(Moment, Signal)>,
}

/// When a signal is sent.
#[derive(Debug, Clone)]
enum Moment {
    /// This long after the start.
    After(Duration),
    /// When the program's standard output has this text.
    Said(String),
}

/// What has been read of a stream so far.
type Shared = Arc<Mutex<Vec<u8>>>;

impl Program {
    /// Names a program, given as a path or to be found in the search path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref();
        let found = name.to_str().filter(|name| !name.contains('/')).and_then(crate::workspace::find);
        let mut command = Command::new(found.map_or_else(|| name.to_owned(), PathBuf::into_os_string));
        command.env("LC_ALL", "C").process_group(0);
        Self { command, input: Vec::new(), limit: LIMIT, signal: None }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes all variables but the search path.
    pub fn clean_env(mut self) -> Self {
        self.command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/local/bin:/usr/bin:/bin");
        self
    }

    /// Starts in this directory.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Gives these bytes as standard input; without them it is empty.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs as this user and group, with no other groups.
    pub fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Sends a signal to the program (not its children) after a time.
    pub fn signal_after(mut self, delay: Duration, signal: Signal) -> Self {
        self.signal = Some((Moment::After(delay), signal));
        self
    }

    /// Sends a signal to the program (not its children) when its standard output has a text.
    pub fn signal_when(mut self, text: &str, signal: Signal) -> Self {
        self.signal = Some((Moment::Said(text.to_owned()), signal));
        self
    }

    /// Kills the program after a time other than the usual.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the command line for messages.
    pub fn describe(&self) -> String {
        let words: Vec<OsString> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_owned)
            .collect();
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Runs the program to its end.
    pub fn run(mut self) -> Result<Output, ProcessError> {
        let command = self.describe();
        let failed = |source| ProcessError::Run { command: command.clone(), source };
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = std::mem::take(&mut self.input);
        let stdin = child.stdin.take();
        // A program that does not read its input is no failure of the test.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let (heard, said) = (Shared::default(), Shared::default());
        let readers = [collect(child.stdout.take(), &heard), collect(child.stderr.take(), &said)];
        let (status, late) = wait(&mut child, self.limit, self.signal, &heard).map_err(failed)?;
        readers.map(JoinHandle::join).into_iter().for_each(drop);
        let output = Output { command: command.clone(), status, stdout: taken(&heard), stderr: taken(&said) };
        if late { Err(ProcessError::Late { output, limit: self.limit }) } else { Ok(output) }
    }

    /// Starts the program with these streams, and returns at once.
    pub fn spawn_with(
        mut self,
        stdin: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
    ) -> Result<Child, ProcessError> {
        let command = self.describe();
        let spawned = self.command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        spawned.map_err(|source| ProcessError::Run { command, source })
    }

    /// Starts the program with its output to files, and returns at once.
    pub fn spawn(self, stdout: Stdio, stderr: Stdio) -> Result<Child, ProcessError> {
        self.spawn_with(Stdio::null(), stdout, stderr)
    }
}

/// Returns the processes that have something below a directory open, and their command lines.
///
/// Of other users' processes only root sees all.
pub fn holders(directory: &Path) -> io::Result<Vec<(u32, String)>> {
    let directory = directory.canonicalize()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let number = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
        let Some(pid) = number else { continue };
        // A process may end while we look.
        let Ok(descriptors) = std::fs::read_dir(path.join("fd")) else { continue };
        let targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        if targets.into_iter().any(|target| target.starts_with(&directory)) {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    Ok(found)
}

/// Waits for the end; tells whether the time ran out, in which case the process group has been killed.
fn wait(
    child: &mut Child,
    limit: Duration,
    mut signal: Option<(Moment, Signal)>,
    heard: &Shared,
) -> io::Result<(ExitStatus, bool)> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        let elapsed = begin.elapsed();
        let is_due = |moment: &Moment| match moment {
            Moment::After(delay) => elapsed >= *delay,
            Moment::Said(text) => String::from_utf8_lossy(&locked(heard)).contains(text),
        };
        if let Some((_, number)) = signal.take_if(|(moment, _)| is_due(moment)) {
            rustix::process::kill_process(Pid::from_child(child), number)?;
        }
        if elapsed >= limit {
            rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL)?;
            return child.wait().map(|status| (status, true));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a stream to its end on a thread of its own.
fn collect(stream: Option<impl Read + Send + 'static>, into: &Shared) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 64 * 1024];
        // What was read before an error is all there is to show.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            locked(&into).extend_from_slice(&buffer[..count]);
        }
    })
}

fn locked(shared: &Shared) -> MutexGuard<'_, Vec<u8>> {
    // Bytes are whole whatever a thread that held the lock did.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken(shared: &Shared) -> Vec<u8> {
    std::mem::take(&mut locked(shared))
}
