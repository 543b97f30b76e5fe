//! The bytes of layers, checked while they pass.

use super::ExportError;
use crate::engine::Engine;
use crate::progress::Cancel;
use mvm_fetch::Encoder;
use mvm_image::segment::{Places, RebuildError, rebuild};
use mvm_ref::{Digest, Hasher, LayerCompression};
use mvm_store::{DATA_START, Segment};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Bytes that are copied at a time.
const PIECE: usize = 256 << 10;

/// A compressed layer in a file without a name.
pub(crate) struct Spooled {
    pub digest: Digest,
    pub size: u64,
    file: Arc<File>,
}

/// Why a layer could not be written: the layer itself, or what it is written to.
pub(crate) enum Fault {
    Layer(ExportError),
    Output(io::Error),
}

/// Writes a layer as it was and compares it with its diff ID. What came before an error is not to be used.
pub(crate) fn checked_layer(
    image: &str,
    segment: &Segment,
    cancel: &Cancel,
    out: &mut dyn Write,
) -> Result<(), Fault> {
    let layer = segment.record().diff_id;
    let lost = |error: mvm_store::StoreError| Fault::Layer(error.into());
    let files = segment.open().map_err(lost)?;
    let framing = segment.framing().map_err(lost)?;
    let framing =
        framing.ok_or_else(|| Fault::Layer(ExportError::Older { image: image.to_owned(), layer }))?;
    let places = Places { data: files.data, data_start: DATA_START, tails: files.tails };
    let mut out = Checked { out, hash: Hasher::default(), cancel };
    let length = segment.record().tar_size;
    rebuild(framing, files.index, &places, length, &mut io::BufWriter::with_capacity(PIECE, &mut out))
        .map_err(|error| match error {
            _ if cancel.requested() => Fault::Layer(ExportError::Interrupted),
            RebuildError::Write(source) => Fault::Output(source),
            source => Fault::Layer(ExportError::Damaged { image: image.to_owned(), layer, source }),
        })?;
    let got = out.hash.finish();
    if got != layer {
        return Err(Fault::Layer(ExportError::Changed { image: image.to_owned(), expected: layer, got }));
    }
    Ok(())
}

/// Hashes what passes, until somebody asks to stop.
struct Checked<'a> {
    out: &'a mut dyn Write,
    hash: Hasher,
    cancel: &'a Cancel,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.requested() {
            // Not the kind of that name, which means: try again.
            return Err(io::Error::other("interrupted"));
        }
        let count = self.out.write(bytes)?;
        self.hash.write_all(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses a layer into a file of the store that nobody else sees.
pub(crate) fn spool(
    engine: &Engine,
    image: &str,
    segment: &Segment,
    compression: LayerCompression,
    cancel: &Cancel,
) -> Result<Spooled, ExportError> {
    let layer = segment.record().diff_id;
    let failed = |source| ExportError::Spool { layer, source };
    let file = engine.scope.scratch_file()?;
    let counted = Counted { out: &file, hash: Hasher::default(), size: 0 };
    let mut encoder = Encoder::new(compression, counted).map_err(failed)?;
    checked_layer(image, segment, cancel, &mut encoder).map_err(|fault| match fault {
        Fault::Layer(error) => error,
        Fault::Output(source) => failed(source),
    })?;
    let Counted { hash, size, .. } = encoder.finish().map_err(failed)?;
    Ok(Spooled { digest: hash.finish(), size, file: Arc::new(file) })
}

struct Counted<'f> {
    out: &'f File,
    hash: Hasher,
    size: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.write_all(&bytes[..count])?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spooled {
    /// Returns the bytes from the first; readers don't disturb each other.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { file: Arc::clone(&self.file), at: 0 }
    }
}

/// Reads what was spooled.
pub(crate) struct SpoolReader {
    file: Arc<File>,
    at: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
