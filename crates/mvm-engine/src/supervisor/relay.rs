//! Streams between the guest and the supervisor's clients.
//!
//! Each pipe goes one way, to one stream or to several, and to the log. What can't be passed on yet is held here; it is
//! never more than the window that was granted to the sender, since credit is only given back for what all have got.

use crate::journal::{Journal, Origin};
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
#[derive(Debug)]
struct Branch {
    to: End,
    /// How much of what is held it has got.
    sent: usize,
    /// It came later, to a pipe that goes on without it.
    joined: bool,
}

/// A pipe from one stream to any number of others, and to the log.
#[derive(Debug)]
struct Pipe {
    branches: Vec<Branch>,
    /// Whose output it is, if that is kept.
    log: Option<Origin>,
    /// How much of what is held is in the log.
    logged: usize,
    held: VecDeque<u8>,
    ended: bool,
    /// Its end is not the end of the streams that it goes to.
    open_end: bool,
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
    /// Lays a pipe between two streams; what passes is logged too, if it has an origin.
    pub fn connect(&mut self, from: End, to: End, log: Option<Origin>) {
        self.lay(from, Some(to), log, false);
    }

    /// Lays a pipe from a stream to the log.
    pub fn log(&mut self, from: End, origin: Origin) {
        self.lay(from, None, Some(origin), false);
    }

    /// Lays a pipe from a client that joins to an input that goes on without it, unless the client ends it.
    pub fn join_input(&mut self, from: End, to: End) {
        self.lay(from, Some(to), None, true);
    }

    /// Has what comes from a stream from now on go to a further one, too. Returns whether there is such a pipe.
    pub fn join_output(&mut self, from: End, to: End) -> bool {
        let Some(pipe) = self.pipes.get_mut(&from) else { return false };
        pipe.branches.push(Branch { to, sent: pipe.held.len(), joined: true });
        true
    }

    fn lay(&mut self, from: End, to: Option<End>, log: Option<Origin>, joined: bool) {
        let branches = to.into_iter().map(|to| Branch { to, sent: 0, joined }).collect();
        let held = VecDeque::new();
        let pipe = Pipe { branches, log, logged: 0, held, ended: false, open_end: false };
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

    /// Notes that a client is gone: its input ends, unless it had joined, and what was meant for it is dropped.
    pub fn client_gone(&mut self, client: u32) {
        for (from, pipe) in &mut self.pipes {
            if from.0 == Peer::Client(client) {
                pipe.ended = true;
                pipe.open_end |= pipe.branches.iter().any(|branch| branch.joined);
            }
            pipe.branches.retain(|branch| branch.to.0 != Peer::Client(client));
        }
    }

    /// Notes that a peer gave a stream up, and gives up the other end for it.
    ///
    /// A client that closes an input leaves it open for others.
    pub fn reset(&mut self, end: End, reason: ResetReason, peers: &mut impl Connections) {
        for (from, pipe) in &mut self.pipes {
            if *from == end {
                pipe.ended = true;
                pipe.open_end |= end.0 != Peer::Guest && reason == ResetReason::Closed;
            }
            let Some(at) = pipe.branches.iter().position(|branch| branch.to == end) else { continue };
            let branch = pipe.branches.remove(at);
            // Who joined an output may leave it, and it goes on for who is still there.
            let lasting = from.0 == Peer::Guest && (branch.joined || !pipe.branches.is_empty());
            if !lasting {
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
    pub fn pump(&mut self, peers: &mut impl Connections, log: &mut Journal) {
        let mut finished = Vec::new();
        for (&from, pipe) in &mut self.pipes {
            let moved = pipe.pass_on(peers, log);
            if moved > 0
                && let Some(source) = peers.connection(from.0)
            {
                source.consumed(from.1, moved);
            }
            if pipe.ended && pipe.held.is_empty() {
                for Branch { to: (peer, stream), .. } in &pipe.branches {
                    if !pipe.open_end
                        && let Some(target) = peers.connection(*peer)
                    {
                        target.send_eof(*stream);
                    }
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
    /// Passes bytes on and returns how many all receivers have got.
    fn pass_on(&mut self, peers: &mut impl Connections, log: &mut Journal) -> usize {
        if self.held.is_empty() {
            return 0;
        }
        let held = self.held.make_contiguous();
        if let Some(origin) = &self.log
            && self.logged < held.len()
        {
            log.append(origin, &held[self.logged..]);
            self.logged = held.len();
        }
        let mut moved = held.len();
        for Branch { to: (peer, stream), sent, .. } in &mut self.branches {
            let rest = &held[*sent..];
            if !rest.is_empty() {
                *sent += match peers.connection(*peer) {
                    Some(target) if target.sends(*stream) => target.send_data(*stream, rest),
                    // It was given up, and what was meant for it has nowhere to go.
                    Some(_) | None => rest.len(),
                };
            }
            moved = moved.min(*sent);
        }
        self.held.drain(..moved);
        self.logged = self.logged.saturating_sub(moved);
        for branch in &mut self.branches {
            branch.sent -= moved;
        }
        moved
    }
}

#[cfg(test)]
mod tests;
