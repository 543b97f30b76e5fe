//! Layers that are made here rather than fetched, and images of such layers.

use super::fetch::unpack;
use super::layers::Layers;
use super::{Allowance, PullError};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use mvm_image::GENERATION;
use mvm_image::segment::SegmentSummary;
use mvm_ref::verify::{self, CompressedSide, Expected, TarSide};
use mvm_ref::{Digest, Hasher};
use mvm_store::{Claim, Image, ImageClaim, ImageRecord, Segment, SegmentStats};
use mvm_tree::Budget;
use std::collections::BTreeSet;
use std::io::{self, BufReader, BufWriter, Write};

/// Bytes that are collected between who writes a layer and who reads it.
const BUFFER: usize = 256 << 10;

/// Writes a layer's archive; called twice, it writes the same bytes.
pub(crate) type WriteLayer<'w> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'w;

impl Engine {
    /// Turns an archive that `write` writes into a layer in the store, whose name is the archive's digest.
    ///
    /// `write` runs once to learn the digest, and again if the scope has no such layer. The unpack policy and the quota hold as
    /// for layers that are fetched. `what` is what messages call it.
    pub(crate) fn made_layer(
        &self,
        what: &str,
        write: &mut WriteLayer<'_>,
        cancel: &Cancel,
    ) -> Result<Segment, EngineError> {
        self.make_layer(write, cancel).map_err(|source| failed(what, source, cancel))
    }

    /// Makes the root file system of layers that are in the store, lowest first.
    ///
    /// Nothing but the value that is returned keeps it from being collected.
    pub(crate) fn made_image(
        &self,
        what: &str,
        layers: Vec<Segment>,
        cancel: &Cancel,
    ) -> Result<Image, EngineError> {
        let allowance = self.allowance()?;
        let made = self.made_root(layers, &BTreeSet::new(), &allowance, cancel);
        made.map(|(image, _)| image).map_err(|source| failed(what, source, cancel))
    }

    fn make_layer(&self, write: &mut WriteLayer<'_>, cancel: &Cancel) -> Result<Segment, PullError> {
        let mut measured = Measured { hasher: Hasher::default(), size: 0, cancel };
        write(&mut measured).map_err(PullError::Source)?;
        let (diff_id, size) = (measured.hasher.finish(), measured.size);
        let slot = match self.claim_made(&diff_id, cancel)? {
            Claim::Ready(segment) => return Ok(segment),
            Claim::Build(slot) => slot,
        };
        let allowance = self.allowance()?;
        let budget = Budget::new(&self.settings.unpack_policy());
        let (input, output) = io::pipe().map_err(PullError::Source)?;
        let (compressed, tar) = verify::layer(Expected { digest: diff_id, size, diff_id });
        let checked = Checked { output, compressed, tar, cancel };
        let framing = slot.framing()?;
        let (written, read) = std::thread::scope(|scope| {
            let (files, allowance, budget) = (slot.files(), &allowance, &budget);
            let reading = scope.spawn(move || {
                let mut input = BufReader::with_capacity(BUFFER, input);
                unpack(&mut allowance.watch(&mut input, files, Some(framing)), files, framing, budget)
            });
            let mut buffered = BufWriter::with_capacity(BUFFER, checked);
            let written = write(&mut buffered)
                .and_then(|()| buffered.into_inner().map_err(io::IntoInnerError::into_error))
                .map(|Checked { output, compressed, tar, .. }| {
                    drop(output);
                    (compressed, tar)
                });
            (written, reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        let written = match written {
            Err(error) if !is_broken(&error) => return Err(PullError::Source(error)),
            written => written,
        };
        // Where who reads failed, who writes met a broken pipe.
        let SegmentSummary { blocks, tail_bytes, entries, .. } =
            read.map_err(|source| match allowance.exceeded() {
                Some(exceeded) => PullError::Quota(exceeded),
                None => PullError::Layer { index: 1, layer: diff_id, source: Box::new(source) },
            })?;
        let (compressed, tar) = written.map_err(PullError::Source)?;
        let verified = compressed.finish(tar).map_err(PullError::Shifted)?;
        Ok(slot.commit(&verified, SegmentStats { blocks, tail_bytes, entries })?)
    }

    /// Returns a layer that is what it was when it was made, or the right to make it.
    fn claim_made(&self, diff_id: &Digest, cancel: &Cancel) -> Result<Claim, PullError> {
        let claim = self.scope.claim_segment(diff_id, GENERATION, &|| cancel.requested())?;
        let Claim::Ready(segment) = &claim else { return Ok(claim) };
        if segment.check().is_ok() {
            return Ok(claim);
        }
        drop(claim);
        self.scope.discard_segments(&[*diff_id].into())?;
        let claim = self.scope.claim_segment(diff_id, GENERATION, &|| cancel.requested())?;
        if let Claim::Ready(segment) = &claim {
            segment.check()?;
        }
        Ok(claim)
    }

    /// The same; tells whether the image is new. `cached` are those segments that were in the store before.
    pub(crate) fn made_root(
        &self,
        segments: Vec<Segment>,
        cached: &BTreeSet<Digest>,
        allowance: &Allowance,
        cancel: &Cancel,
    ) -> Result<(Image, bool), PullError> {
        let chain: Vec<Digest> = segments.iter().map(|segment| segment.record().diff_id).collect();
        let policy = self.settings.unpack_policy();
        let layers = Layers { segments, cached: cached.clone() };
        let mut slot = match self.scope.claim_image(&chain, GENERATION, &|| cancel.requested())? {
            ImageClaim::Ready(image) => {
                layers.check(&policy)?;
                return Ok((image, false));
            }
            ImageClaim::Build(slot) => slot,
        };
        let made = layers.build(&policy, &mut slot)?;
        allowance.check(&self.scope)?;
        slot.set_policy(policy.to_record());
        let (root_hash, size) = (made.root_hash, made.size);
        let (data_blocks, hash_start) = (made.data_blocks, made.hash_start);
        Ok((slot.commit(ImageRecord { root_hash, data_blocks, hash_start, size })?, true))
    }
}

fn failed(what: &str, source: PullError, cancel: &Cancel) -> EngineError {
    match cancel.requested() {
        true => EngineError::Interrupted,
        false => EngineError::Made { what: what.to_owned(), source: Box::new(source) },
    }
}

/// Takes an archive for its digest and length alone.
struct Measured<'c> {
    hasher: Hasher,
    size: u64,
    cancel: &'c Cancel,
}

impl Write for Measured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        go_on(self.cancel)?;
        self.hasher.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes an archive on, and compares it with what it was before.
struct Checked<'c> {
    output: io::PipeWriter,
    compressed: CompressedSide,
    tar: TarSide,
    cancel: &'c Cancel,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        go_on(self.cancel)?;
        let count = self.output.write(bytes)?;
        self.compressed.update(&bytes[..count]);
        self.tar.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn go_on(cancel: &Cancel) -> io::Result<()> {
    if cancel.requested() { Err(io::Error::other("interrupted")) } else { Ok(()) }
}

#[cfg(test)]
#[path = "made_tests.rs"]
mod tests;
