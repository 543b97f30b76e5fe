//! Copies of files out of the root and into it, as tar archives, and of store paths, as Nix archives.
//!
//! Each copy has a thread, since a disk may be slow, and a pipe to it. An archive that breaks off lacks the mark of its
//! end; the console says why.

mod nar;
mod pack;
mod unpack;

use super::secrets::Answer;
use super::streams::{Pumped, Sink, Source};
use crate::console;
use mvm_wire::{Connection, Direction, Failure, FailureKind, FileKind, Reply, StreamId};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::thread::JoinHandle;

/// Bytes that wait between who packs store paths and who sends them.
const NAR_PIPE: usize = 1 << 20;
/// Copies at one time.
const MAX_COPIES: usize = 8;

/// The copies under way.
#[derive(Debug, Default)]
pub(super) struct Copies {
    out: Vec<Out>,
    into: Vec<Into>,
}

/// A copy out of the root.
#[derive(Debug)]
struct Out {
    source: Source,
    work: Work,
}

/// A copy into the root.
#[derive(Debug)]
struct Into {
    request: u64,
    stream: StreamId,
    /// Gone once all has been passed on, or nothing more is wanted.
    sink: Option<Sink>,
    /// Hangs up when the work is done.
    done: OwnedFd,
    work: Work,
}

type Work = JoinHandle<io::Result<()>>;

impl Copies {
    fn check_count(&self) -> Result<(), Failure> {
        if self.out.len() + self.into.len() < MAX_COPIES {
            return Ok(());
        }
        Err(failure(FailureKind::Limit, format!("{MAX_COPIES} copies are under way already")))
    }

    /// Begins to pack what is at a path.
    pub(super) fn pack(
        &mut self,
        wire: &mut Connection,
        (path, follow, stream): (&str, bool, StreamId),
    ) -> Result<Reply, Failure> {
        self.check_count()?;
        let path = absolute(path)?.to_owned();
        let top = if follow { path.metadata() } else { path.symlink_metadata() };
        let top = top.map_err(|error| of_path(&path, &error))?;
        let (read, written) = pipe()?;
        accept(wire, stream, Direction::Send)?;
        let work = start(move || pack::pack(&path, &top, File::from(written)))?;
        self.out.push(Out { source: Source { stream: Some(stream), fd: Rc::new(read) }, work });
        Ok(Reply::Done {})
    }

    /// Begins to pack store paths as Nix archives.
    pub(super) fn nars(
        &mut self,
        wire: &mut Connection,
        paths: &[String],
        stream: StreamId,
    ) -> Result<Reply, Failure> {
        self.check_count()?;
        let open = nar::open(paths).map_err(|error| failure(error.kind(), error.to_string()))?;
        let (read, written) = pipe()?;
        // As much as one turn moves; a kernel that gives less only takes more turns.
        let _is_large = fcntl_setpipe_size(&read, NAR_PIPE).is_ok();
        accept(wire, stream, Direction::Send)?;
        let work = start(move || nar::write(open, File::from(written)))?;
        self.out.push(Out { source: Source { stream: Some(stream), fd: Rc::new(read) }, work });
        Ok(Reply::Done {})
    }

    /// Begins to unpack into a directory; the answer follows when all of it is there.
    pub(super) fn unpack(
        &mut self,
        wire: &mut Connection,
        request: u64,
        (path, owners, stream): (&str, bool, StreamId),
    ) -> Result<(), Failure> {
        self.check_count()?;
        let path = absolute(path)?;
        let directory = unpack::open(path).map_err(|error| of_path(path, &error))?;
        let (read, written) = pipe()?;
        let (done, finished) = pipe()?;
        accept(wire, stream, Direction::Receive)?;
        blocking(&read)?;
        nonblocking(&written)?;
        let work = start(move || {
            let outcome = unpack::unpack(&directory, owners, File::from(read));
            drop(finished);
            outcome
        })?;
        let sink =
            Sink { stream, fd: Rc::new(written), terminal: false, pending: VecDeque::new(), eof: false };
        self.into.push(Into { request, stream, sink: Some(sink), done, work });
        Ok(())
    }

    /// Adds what the copies wait for.
    pub(super) fn add_interests<'a>(&'a self, wire: &Connection, fds: &mut Vec<PollFd<'a>>) {
        for copy in self.out.iter().filter(|copy| copy.source.is_ready(wire)) {
            fds.push(PollFd::from_borrowed_fd(copy.source.fd.as_fd(), PollFlags::IN));
        }
        for copy in &self.into {
            fds.push(PollFd::from_borrowed_fd(copy.done.as_fd(), PollFlags::IN));
            if let Some(sink) = copy.sink.as_ref().filter(|sink| !sink.pending.is_empty()) {
                fds.push(PollFd::from_borrowed_fd(sink.fd.as_fd(), PollFlags::OUT));
            }
        }
    }

    /// Moves what can be moved, and returns the answers to copies that are done.
    pub(super) fn pump(&mut self, wire: &mut Connection) -> Vec<Answer> {
        let mut running = Vec::new();
        for copy in self.out.drain(..) {
            if copy.source.pump(wire) != Pumped::End {
                running.push(copy);
            } else if let Err(error) = outcome(copy.work) {
                console::say(&format!("packing files failed: {error}"));
            }
        }
        self.out = running;
        let mut answers = Vec::new();
        let mut running = Vec::new();
        for mut copy in self.into.drain(..) {
            copy.sink.take_if(|sink| !sink.pump(wire));
            // Nobody writes to this pipe: it is empty until it ends.
            if rustix::io::read(&copy.done, &mut [0; 1]) != Ok(0) {
                running.push(copy);
                continue;
            }
            wire.reset(copy.stream, mvm_wire::ResetReason::Closed);
            let result = outcome(copy.work).map(|()| Reply::Done {});
            let result = result.map_err(|error| failure(FailureKind::Invalid, format!("unpacking: {error}")));
            answers.push((copy.request, result));
        }
        self.into = running;
        answers
    }

    /// Takes data for a copy into the root. Returns whether the stream is one's.
    pub(super) fn take_data(&mut self, wire: &mut Connection, stream: StreamId, bytes: &[u8]) -> bool {
        let Some(copy) = self.into.iter_mut().find(|copy| copy.stream == stream) else { return false };
        match &mut copy.sink {
            Some(sink) => sink.pending.extend(bytes),
            None => wire.consumed(stream, bytes.len()),
        }
        true
    }

    /// Takes the end of a copy into the root.
    pub(super) fn take_eof(&mut self, stream: StreamId) {
        if let Some(sink) =
            self.into.iter_mut().find(|copy| copy.stream == stream).and_then(|c| c.sink.as_mut())
        {
            sink.eof = true;
        }
    }

    /// Takes the host's giving up of a copy.
    pub(super) fn take_reset(&mut self, stream: StreamId) {
        // Whoever packs is told by the next write.
        self.out.retain(|copy| copy.source.stream != Some(stream));
        if let Some(copy) = self.into.iter_mut().find(|copy| copy.stream == stream) {
            copy.sink = None;
        }
    }
}

/// Says what is at a path.
pub(super) fn stat(path: &str) -> Result<Reply, Failure> {
    let path = absolute(path)?;
    let kind = |metadata: Metadata| match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => FileKind::Regular,
        (_, true) => FileKind::Directory,
        _ => FileKind::Other,
    };
    match path.metadata() {
        Ok(metadata) => Ok(Reply::File { kind: Some(kind(metadata)) }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Reply::File { kind: None })
        }
        Err(error) => Err(of_path(path, &error)),
    }
}

fn absolute(path: &str) -> Result<&Path, Failure> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(Path::new(path));
    }
    Err(failure(FailureKind::Invalid, format!("{path:?} is no absolute path")))
}

fn accept(wire: &mut Connection, stream: StreamId, direction: Direction) -> Result<(), Failure> {
    let accepted = wire.accept(stream, direction);
    accepted.map_err(|error| failure(FailureKind::Invalid, error.to_string()))
}

/// Makes a pipe whose read end does not block.
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let internal =
        |error: rustix::io::Errno| failure(FailureKind::Internal, format!("making a pipe failed: {error}"));
    let (read, written) = pipe_with(PipeFlags::CLOEXEC).map_err(internal)?;
    nonblocking(&read)?;
    Ok((read, written))
}

fn nonblocking(pipe: &OwnedFd) -> Result<(), Failure> {
    set_flags(pipe, |flags| flags | OFlags::NONBLOCK)
}

fn blocking(pipe: &OwnedFd) -> Result<(), Failure> {
    set_flags(pipe, |flags| flags - OFlags::NONBLOCK)
}

fn set_flags(pipe: &OwnedFd, change: impl FnOnce(OFlags) -> OFlags) -> Result<(), Failure> {
    let changed = fcntl_getfl(pipe).and_then(|flags| fcntl_setfl(pipe, change(flags)));
    changed.map_err(|error| failure(FailureKind::Internal, format!("setting up a pipe failed: {error}")))
}

fn start(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<Work, Failure> {
    let started = std::thread::Builder::new().name("copy".to_owned()).spawn(work);
    started.map_err(|error| failure(FailureKind::Internal, format!("starting a thread failed: {error}")))
}

fn outcome(work: Work) -> io::Result<()> {
    work.join().unwrap_or_else(|_| Err(io::Error::other("the copy panicked")))
}

fn of_path(path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => FailureKind::NotFound,
        _ => FailureKind::Invalid,
    };
    failure(kind, format!("{}: {error}", path.display()))
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}
