//! The stream of one layer: a thread that receives, hashes and inflates, and a reader that hashes the tar.
//!
//! Buffers go round between the two through a pair of channels, so that a layer has at most
//! [`BUFFERS`] × [`BUFFER`] bytes in flight and allocates nothing while it runs.

use crate::inflate::Decoder;
use crate::source::ByteSource;
use crate::{CancelToken, FetchError};
use mvm_ref::verify::{self, CompressedSide, Expected, TarSide};
use mvm_ref::{Descriptor, VerifiedLayer};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Length of one buffer: small enough to stay in the processor's cache between the two threads.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 4;

/// Streams one layer through `body`, on the caller's thread, and verifies it.
///
/// The stream is read to its end even when `body` stops early. An error of `body` is returned as it is, unless
/// it comes from a failure of the stream, which is returned instead.
pub(crate) fn read<T, E: From<FetchError>>(
    descriptor: &Descriptor,
    expected: Expected,
    source: impl FnOnce() -> Result<Box<dyn ByteSource>, FetchError> + Send,
    cancel: &CancelToken,
    progress: &(dyn Fn(u64) + Sync),
    body: impl FnOnce(&mut dyn BufRead) -> Result<T, E>,
) -> Result<(T, VerifiedLayer), E> {
    let (compressed, tar) = verify::layer(expected);
    let (filled, to_reader) = sync_channel(BUFFERS);
    let (emptied, to_filler) = channel();
    for _ in 0..BUFFERS {
        // The receiver is alive: it is a local of this function.
        emptied.send(Vec::new()).unwrap_or_default();
    }
    let job = Filler { descriptor, compressed, filled, emptied: to_filler, cancel, progress };
    std::thread::scope(|scope| {
        let filler = std::thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(scope, move || job.run(source))
            .map_err(FetchError::Thread)?;
        let mut reader =
            LayerReader { filled: to_reader, emptied, buffer: Vec::new(), at: 0, tar, state: State::Flowing };
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
                let compressed = outcome?;
                let value = result?;
                let layer = compressed.finish(tar).map_err(FetchError::Verify)?;
                Ok((value, layer))
            }
        }
    })
}

/// A message to the reader: a filled buffer, or the end.
enum Piece {
    Data(Vec<u8>),
    End,
}

struct Filler<'a> {
    descriptor: &'a Descriptor,
    compressed: CompressedSide,
    filled: SyncSender<Piece>,
    emptied: Receiver<Vec<u8>>,
    cancel: &'a CancelToken,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Filler<'_> {
    fn run(
        mut self,
        source: impl FnOnce() -> Result<Box<dyn ByteSource>, FetchError>,
    ) -> Result<CompressedSide, FetchError> {
        let digest = self.descriptor.digest;
        let corrupt = |source| FetchError::Inflate { digest, source };
        let mut decoder = Decoder::new(self.descriptor.compression()).map_err(corrupt)?;
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
            self.compressed.update(input);
            (self.progress)(received);
            loop {
                length += decoder.run(&mut input, &mut buffer[length..]).map_err(corrupt)?;
                if length < BUFFER {
                    break;
                }
                self.send(Piece::Data(buffer))?;
                buffer = self.take_buffer()?;
                length = 0;
            }
        }
        if received < self.descriptor.size {
            return Err(FetchError::Short { digest, expected: self.descriptor.size, got: received });
        }
        decoder.finish().map_err(corrupt)?;
        buffer.truncate(length);
        self.send(Piece::Data(buffer))?;
        self.send(Piece::End)?;
        Ok(self.compressed)
    }

    fn take_buffer(&self) -> Result<Vec<u8>, FetchError> {
        let mut buffer = self.emptied.recv().map_err(|_| FetchError::Abandoned)?;
        buffer.resize(BUFFER, 0);
        Ok(buffer)
    }

    fn send(&self, piece: Piece) -> Result<(), FetchError> {
        self.filled.send(piece).map_err(|_| FetchError::Abandoned)
    }
}

/// The uncompressed stream; everything that passes is hashed.
struct LayerReader {
    filled: Receiver<Piece>,
    emptied: Sender<Vec<u8>>,
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

impl LayerReader {
    fn drain(&mut self) {
        while let Ok(length @ 1..) = self.fill_buf().map(<[u8]>::len) {
            self.consume(length);
        }
    }
}

impl BufRead for LayerReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.len() && self.state != State::Ended {
            let empty = std::mem::take(&mut self.buffer);
            self.at = 0;
            if empty.capacity() > 0 {
                // A filler that has nothing more to fill no longer takes buffers.
                self.emptied.send(empty).unwrap_or_default();
            }
            match self.filled.recv() {
                Ok(Piece::Data(buffer)) => {
                    self.tar.update(&buffer);
                    self.buffer = buffer;
                }
                Ok(Piece::End) => self.state = State::Ended,
                Err(_) => {
                    self.state = State::Broken;
                    return Err(io::Error::other(BrokenStream));
                }
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.buffer.len());
    }
}

impl Read for LayerReader {
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
