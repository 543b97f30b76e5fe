//! slirp4netns: turns a guest's packets into connections of an ordinary process.
//!
//! In its "bess" mode it takes frames on a socket, one a message, and so needs no network namespace, no device and no
//! rights. It listens on a path, which is in a directory that it is handed open. It does not end when its peer does, so it
//! is killed.

use super::{MTU, NetworkError};
use crate::confinement::HelperConfinement;
use crate::exec::{Invocation, Running, find_program};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::pipe::PipeFlags;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const PROGRAM: &str = "slirp4netns";
const PACKAGE: &str = "slirp4netns";
/// The socket's name in its directory.
const SOCKET: &str = "s";
/// How long it may take to listen; a busy machine is slow.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);
/// How long what is left of one may take to listen.
const CLEAR_LIMIT: Duration = Duration::from_millis(100);

/// slirp4netns, found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slirp {
    program: PathBuf,
}

impl Slirp {
    /// Finds it in the directories of `path`, the text of a `PATH` variable, or where systems keep it.
    pub fn find(path: &OsStr) -> Result<Self, NetworkError> {
        let program = find_program(PROGRAM, path).map_err(|source| NetworkError::NotInstalled {
            program: PROGRAM,
            package: PACKAGE,
            source,
        })?;
        Ok(Self { program })
    }

    /// Returns the program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts it with its socket in `directory`, which is made and removed. It dies with the calling thread.
    pub(super) fn start(
        &self,
        directory: &Path,
        confinement: &HelperConfinement,
    ) -> Result<Helper, NetworkError> {
        let failed = |act| move |source| NetworkError::Helper { act, source };
        clear(directory).map_err(failed("clear the directory of"))?;
        DirBuilder::new().mode(0o700).create(directory).map_err(failed("make a directory for"))?;
        let started = self.start_in(directory, confinement);
        // Who is connected needs no name any more.
        let removed = remove(directory).map_err(failed("clear the directory of"));
        started.and_then(|helper| removed.map(|()| helper))
    }

    fn start_in(&self, path: &Path, confinement: &HelperConfinement) -> Result<Helper, NetworkError> {
        let failed = |act| move |errno: Errno| NetworkError::Helper { act, source: errno.into() };
        let open = || open_directory(path).map_err(failed("open the directory of"));
        let (directory, theirs) = (open()?, open()?);
        let restrictions = confinement.restrict(&self.program, path, directory.as_fd())?;
        let (stderr, their_stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(failed("make a pipe for"))?;
        let mut invocation = Invocation::new(&self.program).directory("/").die_with_parent();
        let socket = format!("/proc/self/fd/{}/{SOCKET}", invocation.inherit(theirs));
        let running = invocation
            .args(["--target-type=bess", "--disable-host-loopback", "--enable-seccomp"])
            .arg(format!("--mtu={MTU}"))
            .arg(socket)
            .restrict(restrictions)
            .start(Stdio::null(), Stdio::from(their_stderr))?;
        let mut helper = Helper { running, socket: None, stderr };
        let until = Instant::now() + START_LIMIT;
        loop {
            match connect_in(&directory) {
                Ok(socket) => {
                    helper.socket = Some(socket);
                    return Ok(helper);
                }
                // It has not made it yet, or does not listen yet.
                Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => {}
                Err(errno) => return Err(failed("connect to")(errno)),
            }
            let ended = helper.running.try_wait();
            if let Some(status) = ended.map_err(|source| NetworkError::Helper { act: "watch", source })? {
                let said = crate::exec::saying(&helper.said());
                return Err(NetworkError::Ended { status: status.to_string(), said });
            }
            if Instant::now() >= until {
                return Err(NetworkError::Helper { act: "wait for", source: io::ErrorKind::TimedOut.into() });
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Removes what is left of a helper whose starter was killed meanwhile: the directory of its socket, and half of the helper
/// itself, which waits for somebody to connect and ends once somebody has.
pub fn clear(directory: &Path) -> io::Result<()> {
    let opened = match open_directory(directory) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let until = Instant::now() + CLEAR_LIMIT;
    // It may be about to listen. What else there is in the way of connecting says that nobody waits.
    while let Err(Errno::CONNREFUSED | Errno::AGAIN) = connect_in(&opened) {
        if Instant::now() >= until {
            break;
        }
        std::thread::sleep(POLL);
    }
    remove(directory)
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Connects to the socket in a directory, whose path may be longer than an address may be.
fn connect_in(directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
    connect(&socket, &address).map(|()| socket)
}

/// Removes the directory and the socket in it, if they are there.
fn remove(directory: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    absent_is_fine(fs::remove_file(directory.join(SOCKET)))?;
    absent_is_fine(fs::remove_dir(directory))
}

/// A running helper; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Helper {
    running: Running,
    /// Carries frames. It is there once the helper has been started.
    socket: Option<OwnedFd>,
    /// Never blocks, and its writing end neither.
    stderr: OwnedFd,
}

impl Helper {
    /// Returns the socket that carries frames.
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Returns a descriptor that polls readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    /// Says whether it has ended, or can't be watched.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.running.try_wait(), Ok(None))
    }

    /// Returns what it has said since this was asked last, a page of it at most.
    fn said(&self) -> String {
        let mut buffer = [0; 4096];
        let count = rustix::io::read(&self.stderr, &mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{accept, bind, listen};

    #[test]
    fn who_waits_for_a_connection_is_released() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("network");
        clear(&directory).unwrap();
        for listens in [true, false] {
            fs::create_dir(&directory).unwrap();
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            bind(&socket, &SocketAddrUnix::new(directory.join(SOCKET)).unwrap()).unwrap();
            let waits = listens.then(|| {
                listen(&socket, 1).unwrap();
                std::thread::spawn(move || drop(accept(&socket).unwrap()))
            });
            clear(&directory).unwrap();
            assert!(!directory.exists());
            if let Some(thread) = waits {
                thread.join().unwrap();
            }
        }
        fs::create_dir(&directory).unwrap();
        clear(&directory).unwrap();
        assert!(!directory.exists());
    }
}
