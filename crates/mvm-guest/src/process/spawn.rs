//! The start of a process: fork, a session of its own, the user's numbers, execve.
#![expect(unsafe_code, reason = "what happens between fork and exec is unsafe in Rust's standard library")]

use super::user::User;
use mvm_wire::WindowSize;
use nix::sys::signal::SigSet;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::stdio::stdin;
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Added to the error number of what fails before execve, to tell the two apart in the parent.
const BEFORE_EXEC: i32 = 0x1_0000;
/// Added to the error number of opening the log file.
const LOG_FILE: i32 = 0x2_0000;

/// What to execute, and as whom.
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a Path,
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a [String],
    pub(crate) directory: &'a str,
    pub(crate) user: &'a User,
    /// The file by which it joins a control group.
    pub(crate) door: Option<OwnedFd>,
    /// Whether it gives up for good what only root may do, also for what it executes.
    pub(crate) confined: bool,
}

/// Which standard streams a process has; the others are `/dev/null`.
pub(crate) enum StandardStreams {
    Pipes {
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Terminal(WindowSize),
    /// Nothing to read; standard output and standard error are one.
    Output(OutputTo),
}

/// Where all that a process writes goes.
pub(crate) enum OutputTo {
    Nowhere,
    /// The end of a pipe, which the process may open again by name.
    Pipe(OwnedFd),
    /// The end of a file that the process's user may write.
    File(PathBuf),
}

/// A process that runs, and this side of its streams, which never block.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) streams: OwnStreams,
}

/// This side of a process's streams.
#[derive(Debug)]
pub(crate) enum OwnStreams {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    /// The terminal's slave is kept open so that a process which closes it for a while doesn't end it.
    Terminal {
        master: OwnedFd,
        slave: OwnedFd,
    },
}

/// A process that can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("making a {what} failed")]
    Stream {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the {what} holds a NUL")]
    Nul { what: &'static str },
    #[error("preparing a process failed")]
    Prepare(#[source] io::Error),
    #[error("opening log file {} as the process's user failed", path.display())]
    LogFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("executing {} failed", program.display())]
    Execute {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Starts a process in a new session, as leader of the terminal if it has one.
pub(crate) fn spawn(plan: &Plan<'_>, streams: StandardStreams) -> Result<Spawned, SpawnError> {
    let mut command = Command::new(plan.program);
    let terminal = matches!(streams, StandardStreams::Terminal(_));
    let log_file = match &streams {
        StandardStreams::Output(OutputTo::File(path)) => Some(path.clone()),
        _ => None,
    };
    let streams = match streams {
        StandardStreams::Pipes { stdin, stdout, stderr } => pipes(&mut command, stdin, stdout, stderr),
        StandardStreams::Terminal(size) => open_terminal(&mut command, size, plan.user),
        StandardStreams::Output(to) => output(&mut command, to, plan.user),
    };
    let streams = streams.map_err(|(what, errno)| SpawnError::Stream { what, source: errno.into() })?;

    let nul = |what| move |_| SpawnError::Nul { what };
    let strings =
        |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    let program = CString::new(plan.program.as_os_str().as_encoded_bytes()).map_err(nul("program's path"))?;
    let argv = strings(plan.argv).map_err(nul("command"))?;
    let env = strings(plan.env).map_err(nul("environment"))?;
    let directory = CString::new(plan.directory).map_err(nul("working directory"))?;
    let uid = Uid::from_raw(plan.user.uid);
    let gid = Gid::from_raw(plan.user.gid);
    let groups: Vec<Gid> = plan.user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();

    let door = plan.door.as_ref().map(|door| fcntl_dupfd_cloexec(door, 3)).transpose();
    let door = door.map_err(|errno| SpawnError::Prepare(errno.into()))?;
    let confined = plan.confined;

    let prepare = move || -> rustix::io::Result<()> {
        if let Some(door) = &door {
            rustix::io::write(door, b"0")?;
        }
        setsid()?;
        if terminal {
            ioctl_tiocsctty(stdin())?;
        }
        rustix::process::chdir(directory.as_c_str())?;
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        if confined {
            empty_bounding_set()?;
        }
        set_thread_res_uid(uid, uid, uid)?;
        if confined {
            give_up_rights()?;
        }
        SigSet::empty().thread_set_mask().map_err(|error| Errno::from_raw_os_error(error as i32))
    };
    let log_path = log_file.clone();
    let execute = move || -> io::Result<()> {
        if let Err(error) = prepare() {
            return Err(io::Error::from_raw_os_error(BEFORE_EXEC + error.raw_os_error()));
        }
        if let Some(Err(error)) = log_path.as_ref().map(|path| append_to(path)) {
            return Err(io::Error::from_raw_os_error(LOG_FILE + error.raw_os_error()));
        }
        // Not the standard library's own, which hands a file of unknown format to the root's shell.
        let never: Result<Infallible, _> = nix::unistd::execve(&program, &argv, &env);
        match never {
            Ok(never) => match never {},
            Err(error) => Err(io::Error::from_raw_os_error(error as i32)),
        }
    };
    // SAFETY: the closure runs in the child of a process that has one thread, so no lock (the allocator's, in
    // particular) can be held by a thread that the child lacks; it touches nothing but its own values.
    unsafe { command.pre_exec(execute) };

    match command.spawn() {
        // The agent reaps by itself; the standard library's handle is only dropped, which does nothing.
        Ok(child) => Ok(Spawned { pid: Pid::from_child(&child), streams }),
        Err(error) => Err(match error.raw_os_error() {
            Some(code) if code >= LOG_FILE => SpawnError::LogFile {
                path: log_file.unwrap_or_default(),
                source: io::Error::from_raw_os_error(code - LOG_FILE),
            },
            Some(code) if code >= BEFORE_EXEC => {
                SpawnError::Prepare(io::Error::from_raw_os_error(code - BEFORE_EXEC))
            }
            _ => SpawnError::Execute { program: plan.program.to_owned(), source: error },
        }),
    }
}

/// Sends a signal, by its number in 1 to 64.
pub(crate) fn send_signal(pid: Pid, number: i32) -> rustix::io::Result<()> {
    if !(1..=64).contains(&number) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the number is one of the kernel's. The C library's own real-time signals are refused by nobody, but
    // the process that gets one is not this one.
    kill_process(pid, unsafe { Signal::from_raw_unchecked(number) })
}

/// Empties the set of capabilities that a program could ever give (capabilities(7)).
fn empty_bounding_set() -> rustix::io::Result<()> {
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives up all capabilities, and that programs executed from here on can bring any.
fn give_up_rights() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)
}

/// Makes a file the standard output and standard error. As the user, who may or may not write it; one that nobody
/// reads, where somebody made it a pipe, is not waited for.
fn append_to(path: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    rustix::stdio::dup2_stdout(&file)?;
    rustix::stdio::dup2_stderr(&file)
}

fn output(command: &mut Command, to: OutputTo, user: &User) -> StreamResult<OwnStreams> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let OutputTo::Pipe(end) = to {
        let pipe = || -> rustix::io::Result<OwnedFd> {
            // `/dev/stdout` is opened under the user's rights.
            rustix::fs::fchown(&end, Some(Uid::from_raw(user.uid)), None)?;
            fcntl_dupfd_cloexec(&end, 3)
        };
        let copy = pipe().map_err(|error| ("pipe", error))?;
        command.stdout(copy).stderr(end);
    }
    Ok(OwnStreams::Pipes { stdin: None, stdout: None, stderr: None })
}

type StreamResult<T> = Result<T, (&'static str, Errno)>;

fn pipes(command: &mut Command, stdin: bool, stdout: bool, stderr: bool) -> StreamResult<OwnStreams> {
    let pipe = |wanted: bool| -> StreamResult<Option<(OwnedFd, OwnedFd)>> {
        wanted
            .then(|| rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))
            .transpose()
            .map_err(|e| ("pipe", e))
    };
    let own = |fd: OwnedFd| -> StreamResult<OwnedFd> {
        make_nonblocking(&fd).map_err(|error| ("pipe", error))?;
        Ok(fd)
    };
    let (theirs, stdin) = pipe(stdin)?.unzip();
    command.stdin(theirs.map_or_else(Stdio::null, Stdio::from));
    let (stdout, theirs) = pipe(stdout)?.unzip();
    command.stdout(theirs.map_or_else(Stdio::null, Stdio::from));
    let (stderr, theirs) = pipe(stderr)?.unzip();
    command.stderr(theirs.map_or_else(Stdio::null, Stdio::from));
    Ok(OwnStreams::Pipes {
        stdin: stdin.map(own).transpose()?,
        stdout: stdout.map(own).transpose()?,
        stderr: stderr.map(own).transpose()?,
    })
}

fn open_terminal(command: &mut Command, size: WindowSize, user: &User) -> StreamResult<OwnStreams> {
    let terminal = || -> rustix::io::Result<(OwnedFd, OwnedFd, [OwnedFd; 3])> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        resize(&master, size)?;
        // The process may open its terminal again by name.
        rustix::fs::fchown(&slave, Some(Uid::from_raw(user.uid)), None)?;
        make_nonblocking(&master)?;
        let copy = |fd| fcntl_dupfd_cloexec(fd, 3);
        let theirs = [copy(&slave)?, copy(&slave)?, copy(&slave)?];
        Ok((master, slave, theirs))
    };
    let (master, slave, [stdin, stdout, stderr]) = terminal().map_err(|error| ("terminal", error))?;
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    Ok(OwnStreams::Terminal { master, slave })
}

/// Changes the size of a terminal, whose foreground processes are told by SIGWINCH.
pub(crate) fn resize(master: &OwnedFd, size: WindowSize) -> rustix::io::Result<()> {
    let WindowSize { rows, cols } = size;
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })
}

pub(crate) fn make_nonblocking(fd: &OwnedFd) -> rustix::io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    fcntl_setfl(fd, flags | OFlags::NONBLOCK)
}
