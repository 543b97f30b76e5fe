//! One forwarded UDP port: a stream for each sender, on which each datagram follows its length.

use mvm_wire::{Connection, StreamId};
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// After such a silence nothing is known of a sender any more (RFC 4787 section 4.3 asks for two minutes).
const SILENCE: Duration = Duration::from_secs(120);
/// Longest datagram, with its length before it.
const MAX_FRAMED: usize = 2 + 65_535;

/// A UDP port of the host.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    port: u16,
    senders: BTreeMap<SocketAddr, Sender>,
    buffer: Vec<u8>,
}

/// Somebody whom the guest can answer.
#[derive(Debug)]
struct Sender {
    stream: StreamId,
    /// A datagram on its way to the guest. Others that come meanwhile are lost, as datagrams are.
    to_guest: VecDeque<u8>,
    /// The beginning of one on its way from the guest; never more than the longest.
    from_guest: VecDeque<u8>,
    last: Instant,
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Datagrams {
    /// Forwards what comes to a socket to a port of the guest.
    pub fn new(socket: UdpSocket, port: u16) -> Self {
        Self { socket, port, senders: BTreeMap::new(), buffer: vec![0; MAX_FRAMED] }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    /// Takes a datagram that has come, and who sent it.
    pub fn receive(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        // An error tells that somebody took no answer, which is of no interest.
        let (length, from) = self.socket.recv_from(&mut self.buffer).ok()?;
        Some((from, self.buffer[..length].to_vec()))
    }

    pub fn stream_of(&self, from: SocketAddr) -> Option<StreamId> {
        self.senders.get(&from).map(|sender| sender.stream)
    }

    pub fn add(&mut self, from: SocketAddr, stream: StreamId) {
        let (to_guest, from_guest) = (VecDeque::new(), VecDeque::new());
        self.senders.insert(from, Sender { stream, to_guest, from_guest, last: Instant::now() });
    }

    /// Sends a datagram to the guest.
    pub fn send(&mut self, wire: &mut Connection, stream: StreamId, datagram: &[u8], now: Instant) {
        let Some(sender) = self.senders.values_mut().find(|sender| sender.stream == stream) else { return };
        sender.last = now;
        let Ok(length) = u16::try_from(datagram.len()) else { return };
        if sender.to_guest.is_empty() {
            sender.to_guest.extend(length.to_be_bytes());
            sender.to_guest.extend(datagram);
            sender.pump(wire);
        }
    }

    /// Goes on with what the connection did not take before.
    pub fn pump(&mut self, wire: &mut Connection) {
        for sender in self.senders.values_mut() {
            sender.pump(wire);
        }
    }

    /// Takes bytes from the guest and sends the datagrams that are whole.
    pub fn take(&mut self, stream: StreamId, bytes: &[u8]) {
        let Some((to, sender)) = self.senders.iter_mut().find(|(_, sender)| sender.stream == stream) else {
            return;
        };
        sender.last = Instant::now();
        sender.from_guest.extend(bytes);
        while let (Some(&high), Some(&low)) = (sender.from_guest.front(), sender.from_guest.get(1)) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if sender.from_guest.len() < 2 + length {
                return;
            }
            let datagram: Vec<u8> = sender.from_guest.drain(..2 + length).skip(2).collect();
            // One that can't be sent is lost, as datagrams are.
            drop(self.socket.send_to(&datagram, to));
        }
    }

    pub fn forget(&mut self, stream: StreamId) {
        self.senders.retain(|_, sender| sender.stream != stream);
    }

    /// Returns when somebody will have been silent for long.
    pub fn next_silence(&self) -> Option<Instant> {
        self.senders.values().map(|sender| sender.last + SILENCE).min()
    }

    /// Forgets who has been silent for long.
    pub fn drop_silent(&mut self, wire: &mut Connection, now: Instant) {
        self.senders.retain(|_, sender| {
            let speaks = now < sender.last + SILENCE;
            if !speaks {
                wire.reset(sender.stream, mvm_wire::ResetReason::Closed);
            }
            speaks
        });
    }
}

impl Sender {
    fn pump(&mut self, wire: &mut Connection) {
        if !self.to_guest.is_empty() {
            let count = wire.send_data(self.stream, self.to_guest.make_contiguous());
            self.to_guest.drain(..count);
        }
    }
}
