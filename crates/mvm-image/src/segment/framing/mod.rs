//! The framing of a segment: what it takes to give the layer's archive back, byte for byte.
//!
//! A segment keeps what the files of a layer hold, not how the archive says it. The framing keeps the rest (headers,
//! padding, what is skipped, what follows the end) and the places where file data goes, so that archive, and
//! with it diff ID and image ID, can be made again without having been stored.
//!
//! # Format
//!
//! The magic, the version (`u32`, little endian), then records, then the end. A length is an unsigned LEB128 number. Each record
//! begins with a byte that says which it is:
//!
//! | byte | record | followed by |
//! |---|---|---|
//! | 0 | end | length of the archive (`u64`, little endian); nothing follows |
//! | 1 | zero bytes | how many |
//! | 2 | bytes that are no whole block | how many, up to 511, and the bytes |
//! | 3 | data of the current file | how many |
//! | 4 | bytes of the current file that are zero and not in the archive | how many |
//! | 8 + *n* | a block of 512 bytes | a mask (`u64`, little endian) and the words that it selects |
//!
//! Blocks are those of the archive: they begin at multiples of 512. A block differs little from the last one of its type, so it
//! is seen as 64 words of 8 bytes and written as the exclusive or with a block before it: bit *i* of the mask says that word *i*
//! differs, and the difference of such words follows. There are eight memories of blocks, *n* says which is meant; each
//! begins as zeros and is replaced by the block. Which memory a block goes to is the writer's choice; this one folds the byte
//! that is the type flag of a tar header.
//!
//! The current file is the first regular file of the index, in its order, whose length is not reached by the records so far.
//!
//! Compressing would halve what this takes, and cost five times the time.

mod reader;
mod writer;

pub use reader::{Places, RebuildError, rebuild};
pub(super) use writer::FramingWriter;

const MAGIC: [u8; 8] = *b"mvmframe";
const VERSION: u32 = 1;

const END: u8 = 0;
const ZEROS: u8 = 1;
const BYTES: u8 = 2;
const DATA: u8 = 3;
const HOLE: u8 = 4;
const BLOCK: u8 = 8;

/// Bytes of a block of an archive.
const BLOCK_LEN: usize = 512;
const WORDS: usize = BLOCK_LEN / 8;
const MEMORIES: usize = 8;

/// Blocks that later ones are compared with.
type Memories = [[u8; BLOCK_LEN]; MEMORIES];

#[cfg(test)]
mod tests;
