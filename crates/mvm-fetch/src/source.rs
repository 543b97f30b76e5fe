//! What the three kinds of origin have in common.

use crate::{CancelToken, FetchError};
use mvm_ref::Descriptor;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A place that images can be read from. What it returns is not verified.
pub(crate) trait Content: Send + Sync {
    /// Returns the manifest or index that the user named.
    fn root(&self) -> Result<Root, FetchError>;

    /// Returns the manifest that an entry of an index names.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Root, FetchError>;

    /// Returns the content of a small blob, at most `limit` bytes.
    fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError>;

    /// Opens a blob of any size.
    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn ByteSource>, FetchError>;
}

/// A manifest or index as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub bytes: Vec<u8>,
    /// The header or descriptor that says what it is.
    pub media_type: Option<String>,
}

/// Bytes that come one piece after the other.
pub(crate) trait ByteSource: Send {
    /// Returns what came and was not consumed, waiting for more if there is nothing; an empty piece at the end.
    fn fill(&mut self) -> Result<&[u8], FetchError>;

    /// Says that so many of these bytes are done with.
    fn consume(&mut self, amount: usize);
}

const PIECE: usize = 128 << 10;

/// A part of a file, read at its offset so that several readers can share the file.
pub(crate) struct FileSource<F> {
    file: F,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    /// What of the buffer was read and not consumed.
    piece: Range<usize>,
    cancel: CancelToken,
    failed: fn(io::Error) -> FetchError,
}

impl<F: AsRef<File> + Send> FileSource<F> {
    /// Reads `size` bytes from `offset`; `failed` makes the error of a failing read.
    pub(crate) fn new(
        file: F,
        offset: u64,
        size: u64,
        cancel: CancelToken,
        failed: fn(io::Error) -> FetchError,
    ) -> Self {
        let (end, buffer) = (offset.saturating_add(size), vec![0; PIECE]);
        Self { file, at: offset, end, buffer, piece: 0..0, cancel, failed }
    }
}

impl<F: AsRef<File> + Send> ByteSource for FileSource<F> {
    fn fill(&mut self) -> Result<&[u8], FetchError> {
        if self.cancel.is_cancelled() {
            return Err(FetchError::Cancelled);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(PIECE);
        while self.piece.is_empty() {
            match self.file.as_ref().read_at(&mut self.buffer[..left], self.at) {
                Ok(0) => break,
                Ok(length) => {
                    self.at += length as u64;
                    self.piece = 0..length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((self.failed)(error)),
            }
        }
        Ok(&self.buffer[self.piece.clone()])
    }

    fn consume(&mut self, amount: usize) {
        self.piece.start = (self.piece.start + amount).min(self.piece.end);
    }
}
