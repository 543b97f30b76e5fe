//! What a service manager wants to hear: sd_notify(3).

use super::Supervisor;
use mvm_wire::Health;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells a service manager that a VM is up, and that it ends.
#[derive(Debug)]
pub struct Notifier {
    /// Nothing for an address that is none.
    address: Option<SocketAddr>,
    ready: bool,
}

impl Notifier {
    /// Takes the address as `$NOTIFY_SOCKET` has it: a path, or an abstract name after `@`.
    pub fn new(address: &OsStr) -> Self {
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(address),
        };
        Self { address: address.ok(), ready: false }
    }

    /// Says, once, that the VM is up.
    pub fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.send("READY=1\nSTATUS=running");
        }
    }

    /// Says that the VM ends.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Sends what is to be known. A manager that doesn't listen changes nothing for the VM.
    fn send(&self, words: &str) {
        let Some(address) = &self.address else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(words.as_bytes(), address)
        });
        drop(sent);
    }
}

impl Supervisor {
    /// Tells the service manager when the VM is up: its main process runs, if it has one, and the health checks of its plan,
    /// if it has any, succeed.
    pub(super) fn notify(&mut self) {
        let healthy = match self.state.overall_health() {
            Some(health) => health == Health::Healthy,
            None => !self.has_checks,
        };
        let runs = self.ready && (self.main.is_some() || !self.has_main) && !self.stopping;
        if let Some(notifier) = &mut self.notifier
            && runs
            && healthy
        {
            notifier.ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_of_both_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listeners = [(path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()), {
            let name = format!("mvm-test-{}", std::process::id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            (format!("@{name}").into(), UnixDatagram::bind_addr(&address).unwrap())
        }];
        for (address, listener) in listeners {
            let mut notifier = Notifier::new(&address);
            notifier.ready();
            notifier.ready();
            notifier.stopping();
            listener.set_nonblocking(true).unwrap();
            let mut buffer = [0; 100];
            let mut heard = Vec::new();
            while let Ok(count) = listener.recv(&mut buffer) {
                heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            assert_eq!(heard, ["READY=1\nSTATUS=running", "STOPPING=1\nSTATUS=stopping"]);
        }
        // Nobody there, and no address at all.
        Notifier::new(OsStr::new("/nonexistent/socket")).ready();
        Notifier::new(OsStr::new(&"x".repeat(200))).ready();
    }
}
