//! The virtio-serial port that leads to the host.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name that the host gave the port.
const NAME: &str = "mvm.agent";
const PORTS: &str = "/sys/class/virtio-ports";

/// The port is not there or can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("no virtio port is named {NAME}; the names are {found:?}")]
    Missing { found: Vec<String> },
    #[error("opening {} failed", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("nobody is at the other end of port {NAME}")]
    NotConnected,
    #[error("waiting for port {NAME} failed")]
    Poll(#[source] io::Error),
}

/// Opens the port without blocking reads and writes, waiting for it and for the host up to `limit`.
pub(crate) fn open(limit: Duration) -> Result<OwnedFd, PortError> {
    let until = Instant::now() + limit;
    let path = loop {
        match find(Path::new(PORTS)) {
            Ok(name) => break Path::new("/dev").join(name),
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(found) => return Err(PortError::Missing { found }),
        }
    };
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let port = rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|error| PortError::Open { path, source: error.into() })?;
    // The driver reports a hang-up until the host's side is known to be open.
    loop {
        let mut fds = [PollFd::new(&port, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default())).map_err(|error| PortError::Poll(error.into()))?;
        if !fds[0].revents().contains(PollFlags::HUP) {
            return Ok(port);
        }
        if Instant::now() >= until {
            return Err(PortError::NotConnected);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the port's device name, or all names that ports have.
fn find(ports: &Path) -> Result<std::ffi::OsString, Vec<String>> {
    let mut found = Vec::new();
    // A port's directory and name come and go while the driver learns of it; what can't be read is not there yet.
    for entry in std::fs::read_dir(ports).into_iter().flatten().flatten() {
        if let Ok(name) = std::fs::read_to_string(entry.path().join("name")) {
            if name.trim_end() == NAME {
                return Ok(entry.file_name());
            }
            found.push(name.trim_end().to_owned());
        }
    }
    Err(found)
}
