//! Which root a manifest makes: measured by a pull here, or only claimed by a signer of plans whose bundle was taken in.
//!
//! A claim stands as long as nobody has measured. A pull that finds another root is believed, and what was claimed is
//! recorded beside it under a document of its own: the plan that names that root is signed and may still be launched, but
//! it says nothing of the manifest any more.

use crate::audit_log::Note;
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_plan::audit::Event;
use mvm_ref::Digest;
use mvm_store::{ManifestRecord, ResolutionRecord};
use serde_json::json;

/// The posture of an image that came in a bundle: of its layers nothing was compared.
pub(crate) const IMPORTED: &str = "imported";

/// Says whether nobody here has measured what a manifest makes.
pub(crate) fn is_claim(record: &ManifestRecord) -> bool {
    record.posture == IMPORTED
}

impl Engine {
    /// Records what a bundle claims, under a name that no pull uses, so that nothing collects it. Manifest and config must be
    /// there.
    pub(crate) fn record_claim(&self, claim: &ManifestRecord) -> Result<(), EngineError> {
        let (manifest, root_hash) = (claim.manifest, claim.root_hash);
        let named = match self.scope.manifest(&manifest)? {
            Some(known) if known.root_hash == root_hash => manifest,
            // Two signers say two things, and nobody has measured yet which is right.
            Some(known) if is_claim(&known) => self.record_beside(claim)?,
            Some(known) => {
                let (expected, got) = (root_hash, known.root_hash);
                return Err(EngineError::Changed { what: "the root image of this manifest", expected, got });
            }
            None => {
                self.scope.record_manifest(claim)?;
                manifest
            }
        };
        let name = format!("plan:{}", root_hash.short());
        self.name(&name, &claim.platform, named, None)
    }

    /// Records a claim beside what is known of its manifest. Returns what stands for the manifest there.
    pub(crate) fn record_beside(&self, claim: &ManifestRecord) -> Result<Digest, EngineError> {
        let claimed = json!({"claim": {"manifest": claim.manifest, "root": claim.root_hash}});
        let manifest = self.scope.put_document(claimed.to_string().as_bytes())?;
        self.scope.record_manifest(&ManifestRecord { manifest, ..claim.clone() })?;
        Ok(manifest)
    }

    /// Makes room for what a pull has measured, if something else was claimed. Returns the root hash that was claimed.
    pub(crate) fn yield_claim(
        &self,
        manifest: &Digest,
        measured: &Digest,
    ) -> Result<Option<Digest>, EngineError> {
        let known = self.scope.manifest(manifest)?;
        let Some(claim) = known.filter(|known| is_claim(known) && known.root_hash != *measured) else {
            return Ok(None);
        };
        let found = Event::Verify { digest: *manifest, diff_id: None, passed: false };
        let note = Note::from(found).with("claimed-root", &claim.root_hash.to_string());
        self.audit.append_notes(&self.settings.scope, vec![note])?;
        let beside = self.record_beside(&claim)?;
        for name in self.scope.resolutions()?.into_iter().filter(|name| name.manifest == *manifest) {
            self.scope.record_resolution(&ResolutionRecord { manifest: beside, ..name })?;
        }
        Ok(Some(claim.root_hash))
    }
}
