//! The stream of one layer: received, inflated and hashed both ways.
//!
//! It begins on the caller's thread alone, since images of many small layers would spend their time on threads. What comes after
//! the first [`ALONE`] bytes is received and inflated by a thread of its own, and the caller hashes. Buffers go round between the
//! two through a pair of channels, so that a layer has at most [`BUFFERS`] × 2 × [`BUFFER`] bytes in flight and allocates nothing
//! while it runs.
//!
//! The two threads may run on processors that share no cache. Inflating gzip writes byte by byte, so that it must not wait for
//! lines that the other processor holds: it goes to memory of its own and is copied from there in one go. What was received is
//! hashed by whichever of the two would have to wait for the other.

use crate::inflate::{Decoder, ExpansionLimit, InflateError};
use crate::source::ByteSource;
use crate::{CancelToken, FetchError};
use mvm_ref::verify::{self, CompressedSide, Expected, TarSide};
use mvm_ref::{Descriptor, LayerCompression, VerifiedLayer};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, RecvError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// Length of one buffer between threads.
const BUFFER: usize = 1 << 20;
const BUFFERS: usize = 3;

/// Received bytes that may wait for being hashed.
const BACKLOG: usize = 2 << 20;

/// Bytes that are inflated before they are copied to a buffer, or hashed: what a processor's own cache holds.
const SCRATCH: usize = 256 << 10;

/// Uncompressed bytes after which a thread pays.
const ALONE: usize = 4 * SCRATCH;

/// Streams one layer through `body`, on the caller's thread, and verifies it.
///
/// The stream is read to its end even when `body` stops early. An error of `body` is returned as it is, unless
/// it comes from a failure of the stream, which is returned instead.
pub(crate) fn read<T, E: From<FetchError>>(
    descriptor: &Descriptor,
    expected: Expected,
    source: impl FnOnce() -> Result<Box<dyn ByteSource>, FetchError>,
    expansion: ExpansionLimit,
    cancel: &CancelToken,
    progress: &(dyn Fn(u64) + Sync),
    body: impl FnOnce(&mut dyn BufRead) -> Result<T, E>,
) -> Result<(T, VerifiedLayer), E> {
    let (compressed, tar) = verify::layer(expected);
    let stored = Stored { side: Mutex::new((compressed, Vec::new())), backlog: Mutex::default() };
    let filler = Filler {
        descriptor,
        stored: &stored,
        cancel,
        progress,
        source: source()?,
        decoder: Decoder::new(descriptor.compression(), expansion),
        received: 0,
        scratch: Vec::new(),
    };
    let (value, tar) = std::thread::scope(|scope| {
        let mut reader = LayerReader {
            scope,
            stored: &stored,
            feed: Feed::Here { filler: Box::new(filler), passed: 0 },
            buffer: Vec::new(),
            at: 0,
            tar,
            state: State::Flowing,
        };
        let result = body(&mut reader);
        if result.is_ok() {
            reader.drain();
        }
        let LayerReader { tar, state, feed, .. } = reader;
        let outcome = feed.end();
        match result {
            Err(error) if state != State::Broken => Err(error),
            result => {
                outcome?;
                Ok((result?, tar))
            }
        }
    })?;
    stored.hash();
    let (compressed, _) = stored.side.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((value, compressed.finish(tar).map_err(FetchError::Verify)?))
}

/// A message to the reader: a part of the uncompressed stream, or the end.
enum Piece {
    Data(Vec<u8>),
    End,
}

/// What was received: a part that is hashed, and a part that waits for it.
struct Stored {
    /// With the memory that the next backlog gets.
    side: Mutex<(CompressedSide, Vec<u8>)>,
    /// Taken only by who has `side`, so that bytes are hashed in their order.
    backlog: Mutex<Vec<u8>>,
}

impl Stored {
    /// Adds bytes to those that wait. Hashes them where too many do.
    fn push(&self, bytes: &[u8]) {
        let length = {
            let mut backlog = lock(&self.backlog);
            backlog.extend_from_slice(bytes);
            backlog.len()
        };
        if length > BACKLOG {
            self.hash();
        }
    }

    /// Hashes what waits.
    fn hash(&self) {
        let (side, bytes) = &mut *lock(&self.side);
        std::mem::swap(bytes, &mut *lock(&self.backlog));
        side.update(bytes);
        bytes.clear();
    }

    /// Receives a message; hashes what waits rather than waiting itself.
    fn receive<T>(&self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        match receiver.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => self.hash(),
        }
        receiver.recv()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Receives and inflates.
struct Filler<'a> {
    descriptor: &'a Descriptor,
    stored: &'a Stored,
    cancel: &'a CancelToken,
    progress: &'a (dyn Fn(u64) + Sync),
    source: Box<dyn ByteSource>,
    decoder: Decoder,
    /// Stored bytes that went to the decoder.
    received: u64,
    /// Where to inflate gzip if the reader is another thread; else empty.
    scratch: Vec<u8>,
}

impl Filler<'_> {
    /// Fills a buffer, up to its length, with what comes next. Returns false after the last bytes of a stream that is complete.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<bool, FetchError> {
        let &Descriptor { digest, size, .. } = self.descriptor;
        let corrupt = |source| FetchError::Inflate { digest, source };
        let mut length = 0;
        while length < buffer.len() {
            let input = self.source.fill()?;
            if self.cancel.is_cancelled() {
                return Err(FetchError::Cancelled);
            }
            if self.received + input.len() as u64 > size {
                return Err(FetchError::TooLong { digest, expected: size });
            }
            let mut rest = input;
            let target = &mut buffer[length..];
            // At the end of the input too, lest the decoder hold something back.
            let produced =
                inflate(&mut self.decoder, &mut self.scratch, &mut rest, target).map_err(corrupt)?;
            length += produced;
            let (consumed, is_end) = (input.len() - rest.len(), input.is_empty());
            self.stored.push(&input[..consumed]);
            self.received += consumed as u64;
            if rest.is_empty() {
                (self.progress)(self.received);
            }
            self.source.consume(consumed);
            if is_end && length < buffer.len() {
                buffer.truncate(length);
                if self.received < size {
                    return Err(FetchError::Short { digest, expected: size, got: self.received });
                }
                self.decoder.finish().map_err(corrupt)?;
                return Ok(false);
            }
        }
        buffer.truncate(length);
        Ok(true)
    }

    /// Fills buffers for another thread until the end.
    fn run(mut self, filled: &SyncSender<Piece>, emptied: &Receiver<Vec<u8>>) -> Result<(), FetchError> {
        if self.descriptor.compression() == LayerCompression::Gzip {
            self.scratch = vec![0; SCRATCH];
        }
        let mut more = true;
        while more {
            let mut buffer = self.stored.receive(emptied).map_err(|_| FetchError::Abandoned)?;
            if buffer.capacity() == 0 {
                // Memory that a small layer doesn't reach is never touched.
                buffer = vec![0; BUFFER];
            }
            buffer.resize(BUFFER, 0);
            more = self.fill(&mut buffer)?;
            filled.send(Piece::Data(buffer)).map_err(|_| FetchError::Abandoned)?;
        }
        filled.send(Piece::End).map_err(|_| FetchError::Abandoned)
    }
}

/// Decompresses from the front of `input`, through `scratch` if it has a length; else as [`Decoder::run`] does.
fn inflate(
    decoder: &mut Decoder,
    scratch: &mut [u8],
    input: &mut &[u8],
    target: &mut [u8],
) -> Result<usize, InflateError> {
    if scratch.is_empty() {
        return decoder.run(input, target);
    }
    let mut filled = 0;
    loop {
        let room = scratch.len().min(target.len() - filled);
        let length = decoder.run(input, &mut scratch[..room])?;
        target[filled..filled + length].copy_from_slice(&scratch[..length]);
        filled += length;
        if length < room || filled == target.len() {
            return Ok(filled);
        }
    }
}

/// Where the reader's buffers come from.
enum Feed<'scope> {
    /// The reader's thread fills them itself.
    Here { filler: Box<Filler<'scope>>, passed: usize },
    /// Another thread does.
    Thread {
        filled: Receiver<Piece>,
        emptied: Sender<Vec<u8>>,
        filler: ScopedJoinHandle<'scope, Result<(), FetchError>>,
    },
    /// The stream has ended, or failed.
    Over(Result<(), FetchError>),
}

impl<'scope> Feed<'scope> {
    /// Has a thread of its own go on.
    fn spawn<'env>(
        filler: Box<Filler<'scope>>,
        scope: &'scope Scope<'scope, 'env>,
    ) -> Result<Self, FetchError> {
        let (filled, to_reader) = sync_channel(BUFFERS);
        let (emptied, to_filler) = channel();
        for _ in 0..BUFFERS {
            // The receiver is alive: it is a local of this function.
            emptied.send(Vec::new()).unwrap_or_default();
        }
        let filler = std::thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(scope, move || filler.run(&filled, &to_filler))
            .map_err(FetchError::Thread)?;
        Ok(Self::Thread { filled: to_reader, emptied, filler })
    }

    /// Returns how the stream ended.
    fn end(self) -> Result<(), FetchError> {
        match self {
            Self::Here { .. } => Err(FetchError::Abandoned),
            Self::Thread { filled, emptied, filler } => {
                // Without its channels a filler that is still busy ends at once.
                drop((filled, emptied));
                filler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            Self::Over(outcome) => outcome,
        }
    }
}

/// The uncompressed stream; everything that passes is hashed.
struct LayerReader<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    stored: &'scope Stored,
    feed: Feed<'scope>,
    buffer: Vec<u8>,
    at: usize,
    tar: TarSide,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    Ended,
    Broken,
}

/// Says that the stream failed; why is known by whoever filled it.
#[derive(Debug, thiserror::Error)]
#[error("layer stream broke off")]
struct BrokenStream;

impl LayerReader<'_, '_> {
    fn drain(&mut self) {
        while let Ok(length @ 1..) = self.fill_buf().map(<[u8]>::len) {
            self.consume(length);
        }
    }

    /// Takes the next part of the stream into the buffer and hashes it.
    fn advance(&mut self) -> io::Result<()> {
        self.at = 0;
        let feed = std::mem::replace(&mut self.feed, Feed::Over(Ok(())));
        let next = match feed {
            Feed::Here { filler, passed } if passed >= ALONE => {
                self.buffer = Vec::new();
                Feed::spawn(filler, self.scope)
            }
            Feed::Here { mut filler, passed } => {
                self.buffer.resize(SCRATCH, 0);
                match filler.fill(&mut self.buffer) {
                    Ok(true) => Ok(Feed::Here { filler, passed: passed + self.buffer.len() }),
                    Ok(false) => Ok(Feed::Over(Ok(()))),
                    Err(error) => Err(error),
                }
            }
            Feed::Thread { filled, emptied, filler } => {
                let empty = std::mem::take(&mut self.buffer);
                if empty.capacity() > 0 {
                    // A filler that has nothing more to fill no longer takes buffers.
                    emptied.send(empty).unwrap_or_default();
                }
                match self.stored.receive(&filled) {
                    Ok(Piece::Data(buffer)) => self.buffer = buffer,
                    Ok(Piece::End) => self.state = State::Ended,
                    Err(_) => self.state = State::Broken,
                }
                Ok(Feed::Thread { filled, emptied, filler })
            }
            Feed::Over(outcome) => {
                self.buffer = Vec::new();
                if self.state == State::Flowing {
                    self.state = State::Ended;
                }
                Ok(Feed::Over(outcome))
            }
        };
        self.feed = next.unwrap_or_else(|error| {
            self.buffer = Vec::new();
            self.state = State::Broken;
            Feed::Over(Err(error))
        });
        if self.state == State::Broken {
            return Err(io::Error::other(BrokenStream));
        }
        self.tar.update(&self.buffer);
        Ok(())
    }
}

impl BufRead for LayerReader<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.len() && self.state != State::Ended {
            self.advance()?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.buffer.len());
    }
}

impl Read for LayerReader<'_, '_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        target[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
