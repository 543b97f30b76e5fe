//! A running machine, as the supervisor holds it.

use crate::confinement::Reservation;
use crate::exec::Running;
use crate::network::UserNetwork;
use crate::share::DirectoryServer;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::io;
use std::process::ExitStatus;

/// How much of what a hypervisor says about itself is kept.
const MAX_STDERR: usize = 64 * 1024;

/// A hypervisor process that runs one guest, killed when dropped.
#[derive(Debug)]
pub struct Machine {
    running: Running,
    /// Never blocks; its writing end neither, so a talkative hypervisor loses words instead of time.
    stderr: OwnedFd,
    said: Vec<u8>,
    /// Ends after the hypervisor.
    network: Option<UserNetwork>,
    /// End after the hypervisor.
    shared: Vec<DirectoryServer>,
    /// Given back after the process has been killed.
    _confinement: Reservation,
}

impl Machine {
    /// Wraps a started hypervisor, the reading end of its standard error, its network, what serves it directories, and what is
    /// reserved for it.
    pub(crate) fn new(
        running: Running,
        stderr: OwnedFd,
        network: Option<UserNetwork>,
        shared: Vec<DirectoryServer>,
        confinement: Reservation,
    ) -> Self {
        Self { running, stderr, said: Vec::new(), network, shared, _confinement: confinement }
    }

    /// Tells how the program is confined that carries the guest's packets, if it has a network.
    pub fn network_protections(&self) -> Option<&str> {
        self.network.as_ref().map(UserNetwork::protections)
    }

    /// Returns the hypervisor's process ID.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Returns a descriptor that polls readable once the machine has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    /// Returns descriptors that poll readable once a program has ended that serves it a directory of the host.
    pub fn directory_pidfds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.shared.iter().map(DirectoryServer::pidfd)
    }

    /// Says which program that serves it a directory of the host has ended in another way than with the machine.
    pub fn failed_directory(&mut self) -> Option<String> {
        self.shared.iter_mut().find_map(DirectoryServer::failure)
    }

    /// Ends the programs that serve it directories of the host, which it has no use for any more.
    pub fn release_directories(&mut self) {
        self.shared.clear();
    }

    /// Returns how the hypervisor ended, or nothing while it runs.
    ///
    /// A guest that reboots ends the machine with exit code 0, whatever it rebooted for.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.running.try_wait()
    }

    /// Waits for the machine's end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.running.wait()
    }

    /// Ends the machine at once, without asking the guest; a machine that has ended already is no error.
    ///
    /// Its network ends with it, after telling what is not told yet of what was not let through, and so does what serves
    /// it directories.
    pub fn kill(&mut self) -> io::Result<()> {
        let killed = self.running.kill();
        self.network = None;
        self.shared.clear();
        killed
    }

    /// Returns what the hypervisor has written to standard error so far, at most 64 KiB.
    pub fn stderr(&mut self) -> String {
        let mut buffer = [0; 4096];
        while self.said.len() < MAX_STDERR {
            match rustix::io::read(&self.stderr, &mut buffer) {
                Ok(count) if count > 0 => self.said.extend_from_slice(&buffer[..count]),
                // Ended, nothing there yet, or broken: in each case that was all.
                _ => break,
            }
        }
        String::from_utf8_lossy(&self.said).into_owned()
    }
}
