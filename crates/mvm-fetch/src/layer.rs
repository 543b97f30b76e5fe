//! The stream of one layer: a thread that receives and inflates, and a reader that hashes.
//!
//! Buffers go round between the two through a pair of channels, so that a layer has at most
//! [`BUFFERS`] × 2 × [`BUFFER`] bytes in flight and allocates nothing while it runs.
//!
//! The two threads may run on processors that share no cache. Inflating gzip takes longest of all and writes byte by byte,
//! so that it must not wait for lines that the other processor holds: it goes to memory of its own and is copied from there
//! in one go, and what was received is hashed by the reader, who has time.

use crate::inflate::{Decoder, ExpansionLimit, InflateError};
use crate::source::ByteSource;
use crate::{CancelToken, FetchError};
use mvm_ref::verify::{self, CompressedSide, Expected, TarSide};
use mvm_ref::{Descriptor, LayerCompression, VerifiedLayer};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Length of one buffer, and about how many received bytes go with it.
const BUFFER: usize = 1 << 20;
const BUFFERS: usize = 3;

/// Bytes that are inflated before they are copied to a buffer: what a processor's own cache holds.
const SCRATCH: usize = 256 << 10;

/// Streams one layer through `body`, on the caller's thread, and verifies it.
///
/// The stream is read to its end even when `body` stops early. An error of `body` is returned as it is, unless
/// it comes from a failure of the stream, which is returned instead.
pub(crate) fn read<T, E: From<FetchError>>(
    descriptor: &Descriptor,
    expected: Expected,
    source: impl FnOnce() -> Result<Box<dyn ByteSource>, FetchError> + Send,
    expansion: ExpansionLimit,
    cancel: &CancelToken,
    progress: &(dyn Fn(u64) + Sync),
    body: impl FnOnce(&mut dyn BufRead) -> Result<T, E>,
) -> Result<(T, VerifiedLayer), E> {
    let (compressed, tar) = verify::layer(expected);
    let compressed = Mutex::new(compressed);
    let (filled, to_reader) = sync_channel(BUFFERS);
    let (emptied, to_filler) = channel();
    for _ in 0..BUFFERS {
        // The receiver is alive: it is a local of this function.
        emptied.send(Buffer::default()).unwrap_or_default();
    }
    let job = Filler {
        descriptor,
        expansion,
        compressed: &compressed,
        filled,
        emptied: to_filler,
        cancel,
        progress,
    };
    let (value, tar) = std::thread::scope(|scope| {
        let filler = std::thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(scope, move || job.run(source))
            .map_err(FetchError::Thread)?;
        let mut reader = LayerReader {
            filled: to_reader,
            emptied,
            buffer: Buffer::default(),
            at: 0,
            compressed: &compressed,
            tar,
            state: State::Flowing,
        };
        let result = body(&mut reader);
        if result.is_ok() {
            reader.drain();
        }
        let LayerReader { tar, state, filled, emptied, .. } = reader;
        // Without its channels a filler that is still busy ends at once.
        drop((filled, emptied));
        let outcome = filler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match result {
            Err(error) if state != State::Broken => Err(error),
            result => {
                outcome?;
                Ok((result?, tar))
            }
        }
    })?;
    let compressed = compressed.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((value, compressed.finish(tar).map_err(FetchError::Verify)?))
}

/// What goes to the reader and comes back empty.
#[derive(Default)]
struct Buffer {
    /// A part of the uncompressed stream.
    tar: Vec<u8>,
    /// Received bytes that have not been hashed yet.
    stored: Vec<u8>,
}

/// A message to the reader: a filled buffer, or the end.
enum Piece {
    Data(Buffer),
    End,
}

fn hash(compressed: &Mutex<CompressedSide>, bytes: &[u8]) {
    compressed.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
}

struct Filler<'a> {
    descriptor: &'a Descriptor,
    expansion: ExpansionLimit,
    compressed: &'a Mutex<CompressedSide>,
    filled: SyncSender<Piece>,
    emptied: Receiver<Buffer>,
    cancel: &'a CancelToken,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Filler<'_> {
    fn run(self, source: impl FnOnce() -> Result<Box<dyn ByteSource>, FetchError>) -> Result<(), FetchError> {
        let digest = self.descriptor.digest;
        let corrupt = |source| FetchError::Inflate { digest, source };
        let compression = self.descriptor.compression();
        let gzip = compression == LayerCompression::Gzip;
        let mut decoder = Decoder::new(compression, self.expansion);
        let mut scratch = vec![0; if gzip { SCRATCH } else { 0 }];
        let mut source = source()?;
        let mut buffer = self.take_buffer()?;
        let (mut length, mut received) = (0, 0);
        loop {
            let mut input = source.next()?;
            if self.cancel.is_cancelled() {
                return Err(FetchError::Cancelled);
            }
            if input.is_empty() {
                break;
            }
            received += input.len() as u64;
            if received > self.descriptor.size {
                return Err(FetchError::TooLong { digest, expected: self.descriptor.size });
            }
            if gzip {
                buffer.stored.extend_from_slice(input);
            } else {
                hash(self.compressed, input);
            }
            (self.progress)(received);
            loop {
                let target = &mut buffer.tar[length..];
                length += inflate(&mut decoder, &mut scratch, &mut input, target).map_err(corrupt)?;
                // Bytes that yield nothing fill a buffer too.
                if length < BUFFER && buffer.stored.len() < BUFFER {
                    break;
                }
                let more = length == BUFFER;
                self.send(buffer, length)?;
                buffer = self.take_buffer()?;
                length = 0;
                if !more {
                    break;
                }
            }
        }
        if received < self.descriptor.size {
            return Err(FetchError::Short { digest, expected: self.descriptor.size, got: received });
        }
        decoder.finish().map_err(corrupt)?;
        self.send(buffer, length)?;
        self.filled.send(Piece::End).map_err(|_| FetchError::Abandoned)
    }

    fn take_buffer(&self) -> Result<Buffer, FetchError> {
        let mut buffer = self.emptied.recv().map_err(|_| FetchError::Abandoned)?;
        if buffer.tar.capacity() == 0 {
            // Memory that a small layer doesn't reach is never touched.
            buffer.tar = vec![0; BUFFER];
        }
        buffer.tar.resize(BUFFER, 0);
        buffer.stored.clear();
        Ok(buffer)
    }

    fn send(&self, mut buffer: Buffer, length: usize) -> Result<(), FetchError> {
        buffer.tar.truncate(length);
        self.filled.send(Piece::Data(buffer)).map_err(|_| FetchError::Abandoned)
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

/// The uncompressed stream; everything that passes is hashed.
struct LayerReader<'a> {
    filled: Receiver<Piece>,
    emptied: Sender<Buffer>,
    buffer: Buffer,
    at: usize,
    compressed: &'a Mutex<CompressedSide>,
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

impl LayerReader<'_> {
    fn drain(&mut self) {
        while let Ok(length @ 1..) = self.fill_buf().map(<[u8]>::len) {
            self.consume(length);
        }
    }
}

impl BufRead for LayerReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.tar.len() && self.state != State::Ended {
            let empty = std::mem::take(&mut self.buffer);
            self.at = 0;
            if empty.tar.capacity() > 0 {
                // A filler that has nothing more to fill no longer takes buffers.
                self.emptied.send(empty).unwrap_or_default();
            }
            match self.filled.recv() {
                Ok(Piece::Data(buffer)) => {
                    hash(self.compressed, &buffer.stored);
                    self.tar.update(&buffer.tar);
                    self.buffer = buffer;
                }
                Ok(Piece::End) => self.state = State::Ended,
                Err(_) => {
                    self.state = State::Broken;
                    return Err(io::Error::other(BrokenStream));
                }
            }
        }
        Ok(&self.buffer.tar[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.buffer.tar.len());
    }
}

impl Read for LayerReader<'_> {
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
