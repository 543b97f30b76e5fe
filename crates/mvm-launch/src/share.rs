//! Directories of the host in a machine: one virtiofsd for each, which serves it over virtio-fs.
//!
//! ```text
//! guest ◄─ virtio queues in memory that both have ─► virtiofsd ◄─► the directory
//!   QEMU ◄─── vhost-user socket: only to set up ───► virtiofsd
//! ```
//!
//! virtiofsd is given the directory open and makes it its root; it runs as the user whose files they are, in a namespace
//! of users with nobody else in it. Every number of a user or group that the guest gives a file becomes that user's, and that
//! user's files have the number in the guest that they have here.

use crate::confinement::{ConfinementError, Reservation};
use crate::exec::{ExecError, Invocation, Running, find_program, saying};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, Uid};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const PROGRAM: &str = "virtiofsd";
/// Where systems keep it beside their other programs. The program of that name in `/usr/lib/qemu` is an older one, which has to
/// be root and knows no read-only directories.
const LIBEXEC: [&str; 2] = ["/usr/libexec", "/usr/lib"];
/// What it exits with when it does not know an option.
const UNKNOWN_OPTION: i32 = 2;
/// The numbers that users and groups can have; the last one stands for none.
const NUMBERS: u32 = u32::MAX;

/// Says why a directory of the host can't be shared with a machine.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The program is not on this host.
    #[error("{PROGRAM} is not installed, and no directory of the host is shared without it")]
    NotInstalled(#[source] ExecError),
    /// Something that it needs could not be done.
    #[error("cannot {act} {PROGRAM} for {}", path.display())]
    Start {
        /// What was tried.
        act: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It can't be confined.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// It can't be started.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// virtiofsd, found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Virtiofsd {
    program: PathBuf,
}

impl Virtiofsd {
    /// Finds it in the directories of `path`, the text of a `PATH` variable, or where systems keep it.
    pub fn find(path: &OsStr) -> Result<Self, ShareError> {
        let mut searched = OsString::from(path);
        for directory in LIBEXEC {
            searched.push(":");
            searched.push(directory);
        }
        let program = find_program(PROGRAM, &searched).map_err(ShareError::NotInstalled)?;
        Ok(Self { program })
    }

    /// Returns the program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// A directory that a machine gets.
#[derive(Debug)]
pub struct SharedDirectory {
    /// What the guest finds it by.
    pub tag: String,
    /// Its path, for words.
    pub path: PathBuf,
    /// The directory, open.
    pub directory: File,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// What a machine's shared directories are served with.
#[derive(Debug)]
pub struct ShareConfig<'a> {
    /// The program.
    pub virtiofsd: &'a Virtiofsd,
    /// A path for a socket, which is there for a moment only. Nothing is there, or what a launch before left.
    pub socket: PathBuf,
    /// The directories.
    pub directories: Vec<SharedDirectory>,
}

/// A running virtiofsd; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct DirectoryServer {
    path: PathBuf,
    running: Running,
    /// Never blocks, and its writing end neither.
    stderr: OwnedFd,
}

impl DirectoryServer {
    /// Starts one for a directory, which dies with the calling thread. Returns the hypervisor's end of its socket too, on
    /// which nobody needs to wait for it.
    pub fn start(
        virtiofsd: &Virtiofsd,
        socket: &Path,
        shared: &SharedDirectory,
        confinement: &Reservation,
    ) -> Result<(Self, OwnedFd), ShareError> {
        let failed = |act| {
            let path = shared.path.clone();
            move |source| ShareError::Start { act, path, source }
        };
        let (restrictions, owner) =
            confinement.for_directory(&virtiofsd.program, shared.directory.as_fd(), shared.read_only)?;
        let (listener, ours) = connected(socket).map_err(failed("make a socket for"))?;
        let (stderr, their_stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|errno| failed("make a pipe for")(errno.into()))?;
        let directory = shared.directory.try_clone().map_err(failed("hand the directory to"))?;
        let mut invocation = Invocation::new(&virtiofsd.program).directory("/").die_with_parent();
        let (listener, directory) =
            (invocation.inherit(listener.into()), invocation.inherit(directory.into()));
        let running = invocation
            .args(arguments(listener, directory, owner, shared.read_only))
            .restrict(restrictions)
            .start(Stdio::null(), Stdio::from(their_stderr))?;
        Ok((Self { path: shared.path.clone(), running, stderr }, ours.into()))
    }

    /// Returns a descriptor that polls readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    /// Returns what to say of its end, if it has ended in another way than with its machine.
    pub fn failure(&mut self) -> Option<String> {
        let status = self.running.try_wait().ok().flatten().filter(|status| !status.success())?;
        let mut buffer = [0; 4096];
        let count = rustix::io::read(&self.stderr, &mut buffer).unwrap_or(0);
        let said = saying(&String::from_utf8_lossy(&buffer[..count]));
        let old = match status.code() {
            Some(UNKNOWN_OPTION) => "; version 1.13 or later is needed",
            _ => "",
        };
        Some(format!("{PROGRAM}, which serves {}, ended ({status}){said}{old}", self.path.display()))
    }
}

/// Makes a listening socket, and one that is connected to it, so that nobody else comes first.
fn connected(path: &Path) -> io::Result<(UnixListener, UnixStream)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    remove(path)?;
    // The address of a socket is shorter than many a path.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty())?;
    let address = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    let listener = UnixListener::bind(&address)?;
    let connection = UnixStream::connect(&address);
    remove(path)?;
    Ok((listener, connection?))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns virtiofsd's argument vector.
fn arguments(listener: i32, directory: i32, (user, group): (Uid, Gid), read_only: bool) -> Vec<String> {
    let mut arguments = vec![
        format!("--fd={listener}"),
        format!("--shared-dir=/proc/self/fd/{directory}"),
        // In namespaces of its own already, and without a second process.
        "--sandbox=chroot".to_owned(),
        "--seccomp=kill".to_owned(),
        // What it has is a limit already.
        "--rlimit-nofile=0".to_owned(),
        // Handles take a privilege that it does not have.
        "--inode-file-handles=never".to_owned(),
        "--log-level=error".to_owned(),
    ];
    arguments.extend(translation("uid", user.as_raw()));
    arguments.extend(translation("gid", group.as_raw()));
    arguments.extend(read_only.then(|| "--readonly".to_owned()));
    arguments
}

/// Returns options by which `number`, which is 0 in the namespace, is itself in the guest, and all others of the guest become it.
fn translation(kind: &str, number: u32) -> Vec<String> {
    let above = number.saturating_add(1);
    let rules = [
        (number > 0).then(|| format!("squash-guest:0:0:{number}")),
        Some(format!("map:{number}:0:1")),
        (above < NUMBERS).then(|| format!("squash-guest:{above}:0:{}", NUMBERS - above)),
    ];
    rules.into_iter().flatten().map(|rule| format!("--translate-{kind}={rule}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_users_are_one_users() {
        for (number, expected) in [
            (0, &["map:0:0:1", "squash-guest:1:0:4294967294"][..]),
            (1000, &["squash-guest:0:0:1000", "map:1000:0:1", "squash-guest:1001:0:4294966294"]),
            (u32::MAX - 1, &["squash-guest:0:0:4294967294", "map:4294967294:0:1"]),
        ] {
            let expected: Vec<String> =
                expected.iter().map(|rule| format!("--translate-uid={rule}")).collect();
            assert_eq!(translation("uid", number), expected, "{number}");
        }
    }

    #[test]
    fn the_socket_is_connected_and_has_no_name_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("s");
        // What a launch that was killed left behind.
        drop(File::create(&path).unwrap());
        let (listener, connection) = connected(&path).unwrap();
        assert!(!path.exists());
        listener.set_nonblocking(true).unwrap();
        listener.accept().unwrap();
        drop(connection);
    }
}
