//! The archive's bytes, counted.

use std::io::{self, BufRead};

use super::error::{Refusal, SparseFault};
use super::header::BLOCK;

/// Why reading stopped, before it is known where.
#[derive(Debug)]
pub(super) enum Fault<E> {
    Read(io::Error),
    Refused(Refusal),
    Store(E),
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

pub(super) struct Input<'r, R> {
    inner: &'r mut R,
    offset: u64,
    limit: u64,
}

impl<'r, R: BufRead> Input<'r, R> {
    pub(super) fn new(inner: &'r mut R, limit: u64) -> Self {
        Self { inner, offset: 0, limit }
    }

    /// Returns the number of bytes read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Hands the next `len` bytes to `take`, in the pieces in which the input has them.
    pub(super) fn copy<E>(
        &mut self,
        len: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
    ) -> Result<(), Fault<E>> {
        let mut left = len;
        while left > 0 {
            let bytes = fill(self.inner)?;
            if bytes.is_empty() {
                return Err(Refusal::Truncated { missing: left }.into());
            }
            let count = usize::try_from(left).map_or(bytes.len(), |left| bytes.len().min(left));
            take(&bytes[..count])?;
            self.inner.consume(count);
            self.advance(count)?;
            left -= count as u64;
        }
        Ok(())
    }

    pub(super) fn skip<E>(&mut self, len: u64) -> Result<(), Fault<E>> {
        self.copy(len, |_| Ok(()))
    }

    /// Returns the next `len` bytes. The memory grows with what is really there.
    pub(super) fn bytes<E>(&mut self, len: u64) -> Result<Vec<u8>, Fault<E>> {
        let mut bytes = Vec::new();
        self.copy(len, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Returns the next block, which must be there.
    pub(super) fn block<E>(&mut self) -> Result<[u8; BLOCK], Fault<E>> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        self.copy(BLOCK as u64, |piece| {
            block[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })?;
        Ok(block)
    }

    /// Returns the next block, or nothing at the end of the input.
    pub(super) fn next_block<E>(&mut self) -> Result<Option<[u8; BLOCK]>, Fault<E>> {
        if fill(self.inner)?.is_empty() {
            return Ok(None);
        }
        self.block().map(Some)
    }

    /// Reads to the end of the input.
    pub(super) fn drain<E>(&mut self) -> Result<(), Fault<E>> {
        loop {
            let count = fill(self.inner)?.len();
            if count == 0 {
                return Ok(());
            }
            self.inner.consume(count);
            self.advance(count)?;
        }
    }

    fn advance(&mut self, count: usize) -> Result<(), Refusal> {
        self.offset += count as u64;
        if self.offset > self.limit {
            let (got, limit) = (self.offset, self.limit);
            return Err(Refusal::OverLimit { what: "bytes of the archive", got, limit });
        }
        Ok(())
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
