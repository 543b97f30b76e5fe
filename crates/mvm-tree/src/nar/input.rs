//! The bytes of a NAR, counted: numbers, texts, words.

use super::error::NarRefusal;
use crate::{Breach, Escaped};
use std::io::{self, BufRead};

/// Most bytes of a word of the format.
const MAX_WORD: u64 = 32;

/// Why reading stopped, before it is known where.
#[derive(Debug)]
pub(super) enum Fault<E> {
    Read(io::Error),
    Refused(NarRefusal),
    Store(E),
}

impl<E> From<NarRefusal> for Fault<E> {
    fn from(refusal: NarRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<E> From<Breach> for Fault<E> {
    fn from(breach: Breach) -> Self {
        Self::Refused(breach.into())
    }
}

impl<E> From<io::Error> for Fault<E> {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// A reader that never takes more than it is asked for.
pub(super) struct Input<'a, R> {
    inner: &'a mut R,
    offset: u64,
}

impl<'a, R: BufRead> Input<'a, R> {
    pub(super) fn new(inner: &'a mut R) -> Self {
        Self { inner, offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads a length.
    pub(super) fn number<E>(&mut self) -> Result<u64, Fault<E>> {
        let mut bytes = [0; 8];
        let mut at = 0;
        self.pieces(8, |piece| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a text of at most `limit` bytes.
    pub(super) fn text<E>(
        &mut self,
        limit: u64,
        too_long: impl FnOnce(u64) -> Fault<E>,
    ) -> Result<Vec<u8>, Fault<E>> {
        let length = self.number()?;
        if length > limit {
            return Err(too_long(length));
        }
        // Grows with what is really there.
        let mut text = Vec::new();
        self.pieces(length, |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        self.padding(length)?;
        Ok(text)
    }

    /// Reads a word of the format; `expected` is what may stand here, for messages.
    pub(super) fn word<E>(&mut self, expected: &'static str) -> Result<Vec<u8>, Fault<E>> {
        self.text(MAX_WORD, |got| NarRefusal::Length { expected, got }.into())
    }

    /// Reads the one word that may stand here.
    pub(super) fn expect<E>(&mut self, word: &'static str) -> Result<(), Fault<E>> {
        let got = self.word(word)?;
        if got == word.as_bytes() { Ok(()) } else { Err(unexpected(word, &got)) }
    }

    /// Reads what fills up a text to eight bytes.
    pub(super) fn padding<E>(&mut self, length: u64) -> Result<(), Fault<E>> {
        self.pieces((8 - length % 8) % 8, |piece| match piece.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(NarRefusal::Padding { length }.into()),
        })
    }

    /// Hands the next `length` bytes to `take`, in the pieces in which the input has them.
    pub(super) fn pieces<E>(
        &mut self,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
    ) -> Result<(), Fault<E>> {
        let mut left = length;
        while left > 0 {
            let bytes = match self.inner.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                return Err(NarRefusal::Truncated { missing: left }.into());
            }
            let count = usize::try_from(left).map_or(bytes.len(), |left| bytes.len().min(left));
            take(&bytes[..count])?;
            self.inner.consume(count);
            self.offset += count as u64;
            left -= count as u64;
        }
        Ok(())
    }
}

pub(super) fn unexpected<E>(expected: &'static str, got: &[u8]) -> Fault<E> {
    NarRefusal::Word { expected, got: Escaped::new(got) }.into()
}
