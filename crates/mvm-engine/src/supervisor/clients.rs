//! The clients of a supervisor: commands that attach, execute or stop.

use crate::link::Link;
use mvm_wire::{Limits, Message, Role};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

/// Most clients at one time; more wait in the socket's backlog.
const LIMIT: usize = 64;

/// All clients, by a number that is never used again.
#[derive(Debug, Default)]
pub struct Clients {
    links: BTreeMap<u32, Link>,
    next: u32,
}

impl Clients {
    /// Takes one waiting client, if there is one.
    pub fn accept(&mut self, listener: &UnixListener) -> io::Result<()> {
        match listener.accept() {
            Ok((socket, _)) if self.links.len() < LIMIT => self.add(socket, Limits::default()),
            // Dropping the socket tells it that there is no room.
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Greets a connected client, of which no more is held than `limits` say.
    pub fn add(&mut self, socket: UnixStream, limits: Limits) -> io::Result<()> {
        let Ok(mut link) = Link::with_limits(socket, Role::Guest, limits) else { return Ok(()) };
        if link.wire.send(&super::hello()).is_ok() {
            self.links.insert(self.next, link);
            self.next += 1;
        }
        Ok(())
    }

    /// Returns a client's link, unless it has gone.
    pub fn link(&mut self, id: u32) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Returns all links.
    pub fn links(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links.iter().map(|(&id, link)| (id, link))
    }

    /// Tells a client something; one that doesn't read is given up when its link says so.
    pub fn tell(&mut self, id: u32, message: &Message) {
        if let Some(link) = self.links.get_mut(&id)
            && link.wire.send(message).is_err()
        {
            self.links.remove(&id);
        }
    }

    /// Tells all clients something.
    pub fn tell_all(&mut self, message: &Message) {
        let ids: Vec<u32> = self.links.keys().copied().collect();
        for id in ids {
            self.tell(id, message);
        }
    }

    /// Sends what waits to be sent, and returns the clients that have gone.
    pub fn send(&mut self) -> Vec<u32> {
        let mut gone = Vec::new();
        for (&id, link) in &mut self.links {
            if link.send().is_err() || link.closed() {
                gone.push(id);
            }
        }
        for id in &gone {
            self.links.remove(id);
        }
        gone
    }

    /// Forgets a client.
    pub fn remove(&mut self, id: u32) {
        self.links.remove(&id);
    }
}
