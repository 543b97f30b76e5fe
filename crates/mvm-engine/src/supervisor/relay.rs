//! Streams between the guest and the supervisor's clients.
//!
//! Each pipe goes one way. What can't be passed on yet is held here; it is never more than the window that was
//! granted to the sender, since credit is only given back for what was passed on.

use super::log::BoundedLog;
use mvm_wire::{Connection, ResetReason, StreamId};
use std::collections::{BTreeMap, VecDeque};

/// Identifies one of the supervisor's peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The agent.
    Guest,
    /// A client, by number.
    Client(u32),
}

/// One end of a pipe.
pub type End = (Peer, StreamId);

/// Where the bytes of a pipe go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// To a stream of a peer.
    Stream(End),
    /// To the VM's output log.
    Log,
    /// Nowhere: whoever asked for them has gone.
    Nowhere,
}

#[derive(Debug)]
struct Pipe {
    sink: Sink,
    held: VecDeque<u8>,
    ended: bool,
    /// Bytes go to the log once the client is gone.
    logged: bool,
}

/// All pipes, by the end that their bytes come from.
#[derive(Debug, Default)]
pub struct Relay {
    pipes: BTreeMap<End, Pipe>,
}

/// Gives access to the peers' connections while pipes are pumped.
pub trait Connections {
    /// Returns a peer's connection, unless it is gone.
    fn connection(&mut self, peer: Peer) -> Option<&mut Connection>;
}

impl Relay {
    /// Lays a pipe between two streams; `logged` bytes go to the log when their client goes.
    pub fn connect(&mut self, from: End, to: End, logged: bool) {
        let pipe = Pipe { sink: Sink::Stream(to), held: VecDeque::new(), ended: false, logged };
        self.pipes.insert(from, pipe);
    }

    /// Lays a pipe from a stream to the log.
    pub fn log(&mut self, from: End) {
        let pipe = Pipe { sink: Sink::Log, held: VecDeque::new(), ended: false, logged: true };
        self.pipes.insert(from, pipe);
    }

    /// Takes bytes that came from a stream.
    pub fn data(&mut self, from: End, bytes: &[u8]) {
        if let Some(pipe) = self.pipes.get_mut(&from) {
            pipe.held.extend(bytes);
        }
    }

    /// Notes that no more will come from a stream.
    pub fn ended(&mut self, from: End) {
        if let Some(pipe) = self.pipes.get_mut(&from) {
            pipe.ended = true;
        }
    }

    /// Notes that nothing more will come from a peer.
    pub fn source_gone(&mut self, peer: Peer) {
        for (from, pipe) in &mut self.pipes {
            pipe.ended |= from.0 == peer;
        }
    }

    /// Notes that a client is gone: its input ends, and what was meant for it is logged or dropped.
    pub fn client_gone(&mut self, client: u32) {
        for (from, pipe) in &mut self.pipes {
            if from.0 == Peer::Client(client) {
                pipe.ended = true;
            }
            if matches!(pipe.sink, Sink::Stream((peer, _)) if peer == Peer::Client(client)) {
                pipe.sink = if pipe.logged { Sink::Log } else { Sink::Nowhere };
            }
        }
    }

    /// Notes that a peer gave a stream up, and gives up the other end for it.
    pub fn reset(&mut self, end: End, peers: &mut impl Connections) {
        for (from, pipe) in &mut self.pipes {
            if *from == end {
                pipe.ended = true;
            }
            if pipe.sink == Sink::Stream(end) {
                pipe.sink = Sink::Nowhere;
                pipe.ended = true;
                if let Some(source) = peers.connection(from.0) {
                    source.reset(from.1, ResetReason::Closed);
                }
            }
        }
    }

    /// Returns whether nothing that came from the guest waits to be passed on to a client.
    pub fn drained(&self) -> bool {
        self.pipes.iter().all(|(from, pipe)| from.0 != Peer::Guest || pipe.held.is_empty())
    }

    /// Passes on as much as the receivers take.
    pub fn pump(&mut self, peers: &mut impl Connections, log: &mut BoundedLog) {
        let mut finished = Vec::new();
        for (&from, pipe) in &mut self.pipes {
            let moved = pipe.pass_on(peers, log);
            if moved > 0
                && let Some(source) = peers.connection(from.0)
            {
                source.consumed(from.1, moved);
            }
            if pipe.ended && pipe.held.is_empty() {
                if let Sink::Stream((peer, stream)) = pipe.sink
                    && let Some(target) = peers.connection(peer)
                {
                    target.send_eof(stream);
                }
                finished.push(from);
            }
        }
        for from in finished {
            self.pipes.remove(&from);
        }
    }
}

impl Pipe {
    /// Passes bytes on and returns how many.
    fn pass_on(&mut self, peers: &mut impl Connections, log: &mut BoundedLog) -> usize {
        if self.held.is_empty() {
            return 0;
        }
        let moved = match self.sink {
            Sink::Stream((peer, stream)) => match peers.connection(peer) {
                Some(target) => target.send_data(stream, self.held.make_contiguous()),
                None => self.held.len(),
            },
            Sink::Log => {
                log.append(self.held.make_contiguous());
                self.held.len()
            }
            Sink::Nowhere => self.held.len(),
        };
        self.held.drain(..moved);
        moved
    }
}

#[cfg(test)]
mod tests;
