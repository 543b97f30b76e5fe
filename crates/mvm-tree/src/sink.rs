//! Where a layer's reader delivers what it reads.

use crate::{Change, Content};

/// Takes what a layer holds, in archive order.
///
/// For a regular file: `begin`, then `data` and `hole` until they add up to the size, then `end`, then the
/// `change` that carries the [`Content`] that `end` returned. Nothing else but `framing` comes in between.
///
/// The bytes of `data` and `framing`, in the order of the calls, are the archive.
pub trait LayerSink {
    /// What the sink fails with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Starts a regular file of `size` bytes.
    fn begin(&mut self, size: u64) -> Result<(), Self::Error>;

    /// Takes the next bytes of the file; how they are split into calls means nothing.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Takes the next `len` bytes of the file, all zero.
    fn hole(&mut self, len: u64) -> Result<(), Self::Error>;

    /// Ends the file and returns where its bytes went.
    fn end(&mut self) -> Result<Content, Self::Error>;

    /// Takes the next change of the layer.
    fn change(&mut self, change: Change) -> Result<(), Self::Error>;

    /// Takes the next bytes of the archive that are no file's data: headers, padding, what is skipped, what follows
    /// the end; how they are split into calls means nothing. A sink that gives no archive back has no use for them.
    fn framing(&mut self, _bytes: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}
