//! The archive's bytes: counted, and each handed to the sink, as file data or as framing.

use std::io::{self, BufRead};

use super::error::{Refusal, SparseFault};
use super::header::BLOCK;
use crate::{Breach, LayerSink, UnpackPolicy};

/// Why reading stopped, before it is known where.
#[derive(Debug)]
pub(super) enum Fault<E> {
    Read(io::Error),
    Refused(Refusal),
    Store(E),
}

impl<E> From<Breach> for Fault<E> {
    fn from(breach: Breach) -> Self {
        Self::Refused(breach.into())
    }
}

impl<E> From<Refusal> for Fault<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<E> From<SparseFault> for Fault<E> {
    fn from(reason: SparseFault) -> Self {
        Self::Refused(reason.into())
    }
}

impl<E> From<io::Error> for Fault<E> {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

pub(super) struct Input<'a, R, S> {
    inner: &'a mut R,
    sink: &'a mut S,
    offset: u64,
    policy: &'a UnpackPolicy,
}

impl<'a, R: BufRead, S: LayerSink> Input<'a, R, S> {
    pub(super) fn new(inner: &'a mut R, policy: &'a UnpackPolicy, sink: &'a mut S) -> Self {
        Self { inner, sink, offset: 0, policy }
    }

    /// Returns the number of bytes read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns where what the archive says goes.
    pub(super) fn sink(&mut self) -> &mut S {
        self.sink
    }

    /// Hands the next `len` bytes to the sink as data of a file.
    pub(super) fn data(&mut self, len: u64) -> Result<(), Fault<S::Error>> {
        self.pieces(len, |sink, piece| sink.data(piece).map_err(Fault::Store))
    }

    /// Passes over the next `len` bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<(), Fault<S::Error>> {
        self.framing(len, |_| ())
    }

    /// Passes over the next `len` bytes, or to the end of the input if that comes before.
    pub(super) fn skip_at_most(&mut self, len: u64) -> Result<(), Fault<S::Error>> {
        let mut left = len;
        while left > 0 && !fill(self.inner)?.is_empty() {
            // One piece, which is there.
            let now = left.min(fill(self.inner)?.len() as u64);
            self.skip(now)?;
            left -= now;
        }
        Ok(())
    }

    /// Returns the next `len` bytes. The memory grows with what is really there.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>, Fault<S::Error>> {
        let mut bytes = Vec::new();
        self.framing(len, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Returns the next block, which must be there.
    pub(super) fn block(&mut self) -> Result<[u8; BLOCK], Fault<S::Error>> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        self.framing(BLOCK as u64, |piece| {
            block[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })?;
        Ok(block)
    }

    /// Returns the next block, or nothing at the end of the input.
    pub(super) fn next_block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault<S::Error>> {
        if fill(self.inner)?.is_empty() {
            return Ok(None);
        }
        self.block().map(Some)
    }

    /// Reads to the end of the input.
    pub(super) fn drain(&mut self) -> Result<(), Fault<S::Error>> {
        loop {
            let bytes = fill(self.inner)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let count = bytes.len();
            self.sink.framing(bytes).map_err(Fault::Store)?;
            self.inner.consume(count);
            self.advance(count)?;
        }
    }

    /// Hands the next `len` bytes, which are no file's data, to the sink and to `take`.
    fn framing(&mut self, len: u64, mut take: impl FnMut(&[u8])) -> Result<(), Fault<S::Error>> {
        self.pieces(len, |sink, piece| {
            sink.framing(piece).map_err(Fault::Store)?;
            take(piece);
            Ok(())
        })
    }

    /// Hands the next `len` bytes to `take`, in the pieces in which the input has them.
    fn pieces(
        &mut self,
        len: u64,
        mut take: impl FnMut(&mut S, &[u8]) -> Result<(), Fault<S::Error>>,
    ) -> Result<(), Fault<S::Error>> {
        let mut left = len;
        while left > 0 {
            let bytes = fill(self.inner)?;
            if bytes.is_empty() {
                return Err(Refusal::Truncated { missing: left }.into());
            }
            let count = usize::try_from(left).map_or(bytes.len(), |left| bytes.len().min(left));
            take(self.sink, &bytes[..count])?;
            self.inner.consume(count);
            self.advance(count)?;
            left -= count as u64;
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) -> Result<(), Refusal> {
        self.offset += count as u64;
        Ok(self.policy.check_archive(self.offset)?)
    }
}

fn fill<R: BufRead>(inner: &mut R) -> io::Result<&[u8]> {
    // Asked twice, since the borrow checker doesn't let a loop return what it borrowed.
    loop {
        match inner.fill_buf() {
            Ok([]) => return Ok(&[]),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    inner.fill_buf()
}
