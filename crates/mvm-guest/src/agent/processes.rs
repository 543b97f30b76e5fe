//! The processes that the agent started.

use super::streams::{Pumped, Sink, Source};
use crate::process::spawn::{OwnStreams, Spawned};
use mvm_wire::{Connection, ExitStatus, ProcessStatus, ResetReason, StreamId, Streams};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// A process that was started, until its end was told.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) name: String,
    pub(super) stop_signal: i32,
    /// The machine ends with it.
    pub(super) main: bool,
    pub(super) terminal: Option<Rc<OwnedFd>>,
    slave: Option<OwnedFd>,
    stdin: Option<Sink>,
    outputs: Vec<Source>,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Closes this side of the terminal, once its output has been given up.
    fn hang_up(&mut self, wire: &mut Connection) {
        self.terminal = None;
        self.slave = None;
        if let Some(sink) = self.stdin.take() {
            wire.reset(sink.stream, ResetReason::Closed);
        }
    }
}

/// All processes that the agent started, by handle.
#[derive(Debug, Default)]
pub(super) struct Processes {
    running: BTreeMap<u32, Running>,
    last_handle: u32,
    /// Outputs that outlive their process, held by its children. They are read and dropped, so that a child that
    /// writes is not killed by a closed pipe.
    orphans: Vec<Source>,
}

impl Processes {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Returns a process that has not ended.
    pub(super) fn get(&self, handle: u32) -> Option<&Running> {
        self.running.get(&handle).filter(|process| process.ended.is_none())
    }

    /// Returns the processes that have not ended.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Running)> {
        self.running
            .iter()
            .filter(|(_, process)| process.ended.is_none())
            .map(|(handle, process)| (*handle, process))
    }

    /// Takes over a process and connects its streams, which are accepted; returns its handle.
    pub(super) fn add(
        &mut self,
        spawned: Spawned,
        (name, stop_signal, main): (String, i32, bool),
        streams: &Streams,
    ) -> u32 {
        let sink = |stream: Option<StreamId>, fd: Option<Rc<OwnedFd>>, terminal| {
            Some(Sink { stream: stream?, fd: fd?, terminal, pending: VecDeque::new(), eof: false })
        };
        let source = |stream: Option<StreamId>, fd: Option<Rc<OwnedFd>>| Some(Source { stream, fd: fd? });
        let (terminal, slave, stdin, outputs) = match spawned.streams {
            OwnStreams::Pipes { stdin, stdout, stderr } => {
                let outputs = [
                    source(streams.stdout, stdout.map(Rc::new)),
                    source(streams.stderr, stderr.map(Rc::new)),
                ];
                (None, None, sink(streams.stdin, stdin.map(Rc::new), false), outputs)
            }
            OwnStreams::Terminal { master, slave } => {
                let master = Rc::new(master);
                let outputs = [source(streams.stdout, Some(Rc::clone(&master))), None];
                let stdin = sink(streams.stdin, Some(Rc::clone(&master)), true);
                (Some(master), Some(slave), stdin, outputs)
            }
        };
        let outputs = outputs.into_iter().flatten().collect();
        self.last_handle += 1;
        let pid = spawned.pid;
        let running = Running { pid, name, stop_signal, main, terminal, slave, stdin, outputs, ended: None };
        self.running.insert(self.last_handle, running);
        self.last_handle
    }

    /// Takes the end of a process, if it is one of these.
    pub(super) fn reaped(&mut self, pid: Pid, status: ExitStatus) {
        let ended = self.running.values_mut().find(|process| process.pid == pid && process.ended.is_none());
        if let Some(process) = ended {
            process.ended = Some(status);
            process.slave = None;
        }
    }

    /// Adds what the processes wait for.
    pub(super) fn add_interests<'a>(&'a self, wire: &Connection, fds: &mut Vec<PollFd<'a>>) {
        for process in self.running.values() {
            if let Some(sink) = process.stdin.as_ref().filter(|sink| !sink.pending.is_empty() || sink.eof) {
                fds.push(PollFd::from_borrowed_fd(sink.fd.as_fd(), PollFlags::OUT));
            }
            for source in process.outputs.iter().filter(|source| source.is_ready(wire)) {
                fds.push(PollFd::from_borrowed_fd(source.fd.as_fd(), PollFlags::IN));
            }
        }
        for source in &self.orphans {
            fds.push(PollFd::from_borrowed_fd(source.fd.as_fd(), PollFlags::IN));
        }
    }

    /// Moves what can be moved, a chunk from each process; returns whether output was moved.
    pub(super) fn pump(&mut self, wire: &mut Connection) -> bool {
        let mut moved = false;
        for process in self.running.values_mut() {
            if process.stdin.as_mut().is_some_and(|sink| !sink.pump(wire)) {
                process.stdin = None;
            }
            let (ended, orphans) = (process.ended.is_some(), &mut self.orphans);
            process.outputs.retain(|source| {
                loop {
                    let pumped = source.pump(wire);
                    moved |= pumped == Pumped::Some;
                    match pumped {
                        Pumped::End => break false,
                        Pumped::Blocked => break true,
                        Pumped::Some if ended => {}
                        Pumped::Some => break true,
                        // All that the process wrote is moved; whoever else holds the other end goes on unheard.
                        Pumped::Empty if ended => {
                            source.end(wire);
                            orphans.push(Source { stream: None, fd: Rc::clone(&source.fd) });
                            break false;
                        }
                        Pumped::Empty => break true,
                    }
                }
            });
        }
        self.orphans.retain(|source| source.pump(wire) != Pumped::End);
        moved
    }

    /// Forgets processes that have ended and whose output was moved; returns them with whether each was the main one.
    pub(super) fn take_ended(&mut self, wire: &mut Connection) -> Vec<(u32, ExitStatus, bool)> {
        let mut gone = Vec::new();
        self.running.retain(|handle, process| match process.ended {
            Some(status) if process.outputs.is_empty() => {
                if let Some(sink) = &process.stdin {
                    wire.reset(sink.stream, ResetReason::Closed);
                }
                gone.push((*handle, status, process.main));
                false
            }
            _ => true,
        });
        gone
    }

    /// Takes data for a standard input.
    pub(super) fn take_data(&mut self, wire: &mut Connection, stream: StreamId, bytes: &[u8]) {
        match self.sink(stream) {
            Some(sink) => sink.pending.extend(bytes),
            // Its process is gone, and the stream with it or soon.
            None => wire.consumed(stream, bytes.len()),
        }
    }

    /// Takes the end of a standard input.
    pub(super) fn take_eof(&mut self, stream: StreamId) {
        if let Some(sink) = self.sink(stream) {
            sink.eof = true;
        }
    }

    /// Takes the host's giving up of a stream. A process whose output nobody reads any more is told by its next
    /// write, or by its terminal, which hangs up.
    pub(super) fn take_reset(&mut self, wire: &mut Connection, stream: StreamId) {
        for process in self.running.values_mut() {
            if process.stdin.as_ref().is_some_and(|sink| sink.stream == stream) {
                process.stdin = None;
            }
            let outputs = process.outputs.len();
            process.outputs.retain(|source| source.stream != Some(stream));
            if process.outputs.len() < outputs && process.terminal.is_some() {
                process.hang_up(wire);
            }
        }
    }

    fn sink(&mut self, stream: StreamId) -> Option<&mut Sink> {
        self.running
            .values_mut()
            .filter_map(|process| process.stdin.as_mut())
            .find(|sink| sink.stream == stream)
    }

    /// Returns what is told of the processes.
    pub(super) fn statuses(&self) -> Vec<ProcessStatus> {
        self.iter()
            .map(|(handle, process)| ProcessStatus {
                handle,
                pid: process.pid.as_raw_nonzero().get().unsigned_abs(),
                name: process.name.clone(),
                terminal: process.terminal.is_some(),
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
