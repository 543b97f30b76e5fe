//! Comparing images in the store with their root hashes.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::images::deletion;
use mvm_image::verity::{self, VerifyError};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::{Digest, ImageSource};
use std::collections::BTreeSet;

/// What becomes of an image that doesn't equal its root hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// It stays as it is.
    Report,
    /// It is discarded, so that it is fetched anew.
    Discard,
}

/// An image that equals its root hash.
#[derive(Clone, Debug)]
pub struct Verified {
    name: String,
    /// Its root hash.
    pub root_hash: Digest,
    /// Blocks under verity.
    pub blocks: u64,
    /// Bytes that were compared: the whole file.
    pub bytes: u64,
}

impl Verified {
    /// Returns a name by which it can be pulled again, or what was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Engine {
    /// Returns the digest of a manifest for each image whose file there should be, each root once.
    pub fn images_to_verify(&self) -> Result<Vec<Digest>, EngineError> {
        let mut roots = BTreeSet::new();
        let mut manifests = Vec::new();
        for image in self.scope.list_images()? {
            // What was discarded has to be made again, and isn't damaged meanwhile.
            if roots.insert(image.root_hash) && self.scope.image_lengths(&image.root_hash)?.0.is_some() {
                manifests.push(image.manifest);
            }
        }
        Ok(manifests)
    }

    /// Compares every byte of an image's file with the root hash that it is named by: data and its padding, file system
    /// metadata, hash tree, verity superblock, and that nothing follows.
    ///
    /// What is damaged is on record, unless the store is read-only or another user's. With [`OnDamage::Discard`] a damaged image goes with the layers that it was made from, so that the next pull or
    /// run fetches it anew; a VM that runs from it keeps it, and its guest refuses what is damaged.
    pub fn verify_image(&self, name: &str, on_damage: OnDamage) -> Result<Verified, EngineError> {
        let listing = self.find_image(name)?;
        let root_hash = listing.root_hash;
        let asked = name.parse::<ImageSource>().map(|source| source.to_string());
        let asked = asked.ok().filter(|asked| listing.references.contains(asked));
        // A digest can't be pulled again, a name can.
        let name = asked.or_else(|| listing.references.into_iter().next()).unwrap_or_else(|| name.to_owned());
        let Some(image) = self.scope.image_by_root(&root_hash)? else {
            // The store makes nothing of it any more: the next pull or run makes it anew by itself.
            let source = match self.scope.image_lengths(&root_hash)? {
                (Some(expected), Some(got)) if expected != got => VerifyError::Size { expected, got }.into(),
                _ => "its file is missing".into(),
            };
            self.record_damage(root_hash)?;
            return Err(EngineError::Damaged { root_hash, name, discarded: true, source });
        };
        let expected = verity::Expected { root_hash, data_blocks: image.record().data_blocks };
        let Err(source) = verity::verify(image.file(), &expected) else {
            return Ok(Verified {
                name,
                root_hash,
                blocks: expected.data_blocks,
                bytes: image.record().size,
            });
        };
        // What can't be read now may be sound all the same.
        let damaged = !matches!(source, VerifyError::Read { .. });
        if damaged {
            self.record_damage(root_hash)?;
        }
        let discarded = damaged && on_damage == OnDamage::Discard;
        if discarded {
            drop(image);
            let removed = self.scope.discard_image(&root_hash)?;
            self.audit.append(&self.settings.scope, removed.iter().filter_map(deletion).collect())?;
        }
        Err(EngineError::Damaged { root_hash, name, discarded, source: source.into() })
    }

    /// Puts on record that an image is damaged, in a store that this user may change.
    fn record_damage(&self, root_hash: Digest) -> Result<(), EngineError> {
        if !self.scope.is_writable() {
            return Ok(());
        }
        let found = Event::Damage { subject: Subject::Image { root_hash } };
        Ok(self.audit.append(&self.settings.scope, vec![found])?)
    }
}

impl EngineError {
    /// Returns where in an image's file the first byte lies, or the block with it, that is not what it should be.
    pub fn damaged_at(&self) -> Option<u64> {
        match self {
            Self::Damaged { source, .. } => source.downcast_ref::<VerifyError>()?.offset(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
