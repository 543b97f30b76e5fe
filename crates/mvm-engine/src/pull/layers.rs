//! From layers in the store to a root file system.

use super::PullError;
use super::fetch::while_syncing;
use mvm_fetch::{FetchError, InflateError};
use mvm_image::erofs::{AssembleError, ImageSummary, assemble, begins_with};
use mvm_image::files::{self, FileOutput, FileSegments};
use mvm_image::segment::{ReadIndexError, read_index};
use mvm_ref::Digest;
use mvm_store::{DATA_START, ImageSlot, Segment, SegmentFiles, SegmentRecord};
use mvm_tree::{Merge, Tree, UnpackPolicy};
use std::collections::BTreeSet;
use std::io::BufReader;

/// All layers of an image, lowest first.
pub(crate) struct Layers {
    pub(super) segments: Vec<Segment>,
    /// Those that were in the store before, and may have been damaged since they were verified.
    pub(super) cached: BTreeSet<Digest>,
}

impl Layers {
    /// Makes the root file system.
    ///
    /// What decides its root hash was hashed or compared when the layers were fetched or found. Blocks of layers that were
    /// in the store are copied unread: each has its digest under the root hash, and the guest refuses one that differs.
    pub(super) fn build(
        &self,
        policy: &UnpackPolicy,
        slot: &mut ImageSlot,
    ) -> Result<ImageSummary, PullError> {
        self.check_ratios(policy)?;
        build(&self.segments, policy, slot)
    }

    /// Checks that a policy allows what the layers hold.
    pub(super) fn check(&self, policy: &UnpackPolicy) -> Result<(), PullError> {
        self.check_ratios(policy)?;
        let layers = self.segments.iter().map(Segment::open).collect::<Result<Vec<_>, _>>()?;
        merge(&self.segments, &layers, policy).map(drop)
    }

    /// Checks the ratios of layers that were in the store: nobody inflated them now.
    fn check_ratios(&self, policy: &UnpackPolicy) -> Result<(), PullError> {
        for (index, segment) in self.segments.iter().enumerate() {
            let &SegmentRecord { diff_id, digest, size, tar_size, .. } = segment.record();
            let limit = size.saturating_mul(policy.ratio).max(policy.ratio_from);
            if self.cached.contains(&diff_id) && tar_size > limit {
                let source = InflateError::Bomb { stored: size, limit, ratio: policy.ratio };
                let source = Box::new(FetchError::Inflate { digest, source }.into());
                return Err(PullError::Layer { index: index + 1, layer: digest, source });
            }
        }
        Ok(())
    }

    /// Returns the layers that may have caused an error by having been damaged.
    pub(super) fn suspects(&self, error: &PullError) -> BTreeSet<Digest> {
        match error {
            PullError::OtherRoot { .. }
            | PullError::Assemble(
                AssembleError::Leaves { .. }
                | AssembleError::Tail { .. }
                | AssembleError::Extent { .. }
                | AssembleError::TailPlace { .. },
            ) => self.cached.clone(),
            PullError::Merge { source, .. } if source.knob().is_some() => BTreeSet::new(),
            // An index that was written just now is as the layer has it.
            PullError::Index { index, .. } | PullError::Merge { index, .. } => {
                let diff_id = self.segments[index - 1].record().diff_id;
                self.cached.get(&diff_id).copied().into_iter().collect()
            }
            PullError::Assemble(_)
            | PullError::Layer { .. }
            | PullError::Policy(_)
            | PullError::Sync(_)
            | PullError::Source(_)
            | PullError::Shifted(_)
            | PullError::Quota(_)
            | PullError::Store(_) => BTreeSet::new(),
        }
    }
}

/// Merges layers, lowest first.
fn merge(segments: &[Segment], layers: &[SegmentFiles], policy: &UnpackPolicy) -> Result<Tree, PullError> {
    let mut merge = Merge::new(policy);
    for (index, files) in layers.iter().enumerate() {
        merge.begin_layer();
        let index_file = BufReader::with_capacity(256 << 10, &files.index);
        read_index(index_file, |change| merge.apply(change)).map_err(|source| match source {
            ReadIndexError::Refused(source) => {
                PullError::Merge { index: index + 1, layer: segments[index].record().digest, source }
            }
            source => PullError::Index { index: index + 1, source },
        })?;
    }
    Ok(merge.finish())
}

/// Merges layers, lowest first, and writes the root file system.
fn build(
    segments: &[Segment],
    policy: &UnpackPolicy,
    slot: &mut ImageSlot,
) -> Result<ImageSummary, PullError> {
    let layers = segments.iter().map(Segment::open).collect::<Result<Vec<_>, _>>()?;
    let tree = merge(segments, &layers, policy)?;
    let adopted = match segments.first() {
        Some(lowest) if begins_with(&tree, 0, lowest.record().blocks)? => slot.adopt(lowest)?,
        _ => false,
    };
    let sources =
        layers.iter().map(|files| files::SegmentFiles { tails: &files.tails, leaves: &files.leaves });
    let mut sources = FileSegments::new(sources.collect());
    let data = layers.iter().map(|files| &files.data).collect();
    let mut output = FileOutput::new(slot.file(), data, DATA_START);
    if adopted {
        output = output.adopt(0);
        return Ok(assemble(&tree, &mut sources, &mut output)?);
    }
    Ok(while_syncing(slot.file(), || assemble(&tree, &mut sources, &mut output))??)
}
