//! What is recorded of an image, so that it is found again.

use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_fetch::Resolved;
use mvm_plan::plan::RequestedImage;
use mvm_ref::{Digest, Platform};
use mvm_store::{Image, ManifestRecord, ResolutionRecord};

impl Engine {
    /// Records what became of a manifest.
    pub(super) fn record(&self, resolved: &Resolved, image: &Image) -> Result<(), EngineError> {
        self.scope.put_document(resolved.config_bytes())?;
        self.scope.put_document(resolved.manifest_bytes())?;
        self.scope.record_manifest(&ManifestRecord {
            manifest: resolved.manifest_digest(),
            config: resolved.config_digest(),
            chain: resolved.config().diff_ids().to_vec(),
            platform: resolved.config().platform().clone(),
            root_hash: image.record().root_hash,
            posture: "compatible".to_owned(),
            pulled_at: clock::unix_seconds(),
        })?;
        Ok(())
    }

    /// Records what a name leads to, so that it is found again.
    pub(crate) fn name(
        &self,
        name: &str,
        platform: &Platform,
        manifest: Digest,
        index: Option<Digest>,
    ) -> Result<(), EngineError> {
        let (requested, platform, resolved_at) = (name.to_owned(), platform.clone(), clock::unix_seconds());
        let record = ResolutionRecord { requested, platform, manifest, index, resolved_at };
        Ok(self.scope.record_resolution(&record)?)
    }
}

/// Returns a name as plans and the audit log hold it.
pub(crate) fn requested_image(name: &str) -> Result<RequestedImage, EngineError> {
    name.parse()
        .map_err(|source: mvm_plan::PlanError| EngineError::Plan { act: "make", source: source.into() })
}
