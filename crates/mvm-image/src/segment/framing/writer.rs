//! Writes a framing while the archive passes.

use super::{BLOCK, BLOCK_LEN, BYTES, DATA, END, HOLE, MAGIC, MEMORIES, Memories, VERSION, WORDS, ZEROS};
use std::io::{self, Write};

/// Bytes that are collected before they are written.
const BUFFER: usize = 256 << 10;

/// Where the type flag is in a header.
const TYPE_FLAG: usize = 156;

/// Writes a framing. How what comes is split into calls means nothing.
pub(in crate::segment) struct FramingWriter<W> {
    out: W,
    buffer: Vec<u8>,
    /// Length of the archive so far.
    length: u64,
    /// Bytes since the last multiple of 512, as far as they are no data.
    partial: [u8; BLOCK_LEN],
    partial_len: usize,
    run: Run,
    memories: Memories,
}

/// A run that may go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    None,
    Zeros(u64),
    Data(u64),
    Hole(u64),
}

impl<W: Write> FramingWriter<W> {
    pub fn new(out: W) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER + 2 * BLOCK_LEN);
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&VERSION.to_le_bytes());
        let (partial, memories) = ([0; BLOCK_LEN], [[0; BLOCK_LEN]; MEMORIES]);
        Self { out, buffer, length: 0, partial, partial_len: 0, run: Run::None, memories }
    }

    /// Says that the bytes of another file follow.
    pub fn begin(&mut self) {
        self.settle();
    }

    /// Takes bytes of the archive that are no file's data.
    pub fn framing(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file_ends();
        while !bytes.is_empty() {
            let at = (self.length % BLOCK_LEN as u64) as usize;
            if let (0, Some((block, rest))) = (at, bytes.split_first_chunk()) {
                self.length += BLOCK_LEN as u64;
                self.block(block);
                bytes = rest;
            } else {
                let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_LEN - at));
                self.partial[self.partial_len..][..now.len()].copy_from_slice(now);
                self.partial_len += now.len();
                self.length += now.len() as u64;
                bytes = rest;
                if at + now.len() == BLOCK_LEN {
                    self.partial();
                }
            }
            self.flush(BUFFER)?;
        }
        Ok(())
    }

    /// Takes so many bytes of a file that are in the archive.
    pub fn data(&mut self, len: u64) {
        self.length += len;
        match &mut self.run {
            Run::Data(run) => *run += len,
            _ => {
                self.settle();
                self.run = Run::Data(len);
            }
        }
    }

    /// Takes so many bytes of a file that are not in the archive.
    pub fn hole(&mut self, len: u64) {
        match &mut self.run {
            Run::Hole(run) => *run += len,
            _ => {
                self.settle();
                self.run = Run::Hole(len);
            }
        }
    }

    /// Writes all that is buffered, and the end.
    pub fn finish(mut self) -> io::Result<()> {
        self.settle();
        self.buffer.push(END);
        self.buffer.extend_from_slice(&self.length.to_le_bytes());
        self.flush(1)?;
        self.out.flush()
    }

    fn file_ends(&mut self) {
        if matches!(self.run, Run::Data(_) | Run::Hole(_)) {
            self.end_run();
        }
    }

    /// Writes what was waiting for more of its kind.
    fn settle(&mut self) {
        self.partial();
        self.end_run();
    }

    fn end_run(&mut self) {
        let (tag, len) = match std::mem::replace(&mut self.run, Run::None) {
            Run::None => return,
            Run::Zeros(len) => (ZEROS, len),
            Run::Data(len) => (DATA, len),
            Run::Hole(len) => (HOLE, len),
        };
        self.buffer.push(tag);
        self.number(len);
    }

    fn zeros(&mut self, len: usize) {
        match &mut self.run {
            Run::Zeros(run) => *run += len as u64,
            _ => {
                self.end_run();
                self.run = Run::Zeros(len as u64);
            }
        }
    }

    /// Writes the bytes that reach to a multiple of 512, or to data.
    fn partial(&mut self) {
        let len = std::mem::take(&mut self.partial_len);
        if len == 0 {
            return;
        }
        let partial = self.partial;
        if let Some(block) = partial[..len].as_array() {
            return self.block(block);
        }
        if partial[..len].iter().all(|byte| *byte == 0) {
            return self.zeros(len);
        }
        self.end_run();
        self.buffer.push(BYTES);
        self.number(len as u64);
        self.buffer.extend_from_slice(&partial[..len]);
    }

    fn block(&mut self, block: &[u8; BLOCK_LEN]) {
        let (words, _) = block.as_chunks::<8>();
        if words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) == 0 {
            return self.zeros(BLOCK_LEN);
        }
        self.end_run();
        let flag = block[TYPE_FLAG];
        let memory = usize::from(flag ^ (flag >> 4)) % MEMORIES;
        let (before, _) = self.memories[memory].as_chunks::<8>();
        let mut differences = [0; WORDS];
        for ((difference, word), before) in differences.iter_mut().zip(words).zip(before) {
            *difference = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*before);
        }
        let mask = (0..WORDS).fold(0, |mask, at| mask | (u64::from(differences[at] != 0) << at));
        self.buffer.push(BLOCK + memory as u8);
        self.buffer.extend_from_slice(&mask.to_le_bytes());
        let mut left = mask;
        while left != 0 {
            self.buffer.extend_from_slice(&differences[left.trailing_zeros() as usize].to_le_bytes());
            left &= left - 1;
        }
        self.memories[memory] = *block;
    }

    /// Appends an unsigned LEB128 number.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.buffer.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.buffer.push(number as u8);
    }

    fn flush(&mut self, at_least: usize) -> io::Result<()> {
        if self.buffer.len() >= at_least {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}
