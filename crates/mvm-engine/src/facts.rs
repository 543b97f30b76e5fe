//! What this host knows of a plan's image at the moment of admission.

use crate::claims;
use crate::closures::{ClosurePath, PathTrust, REPRODUCIBLE, read_manifest};
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_plan::plan::Plan;
use mvm_plan::policy::Policy;
use mvm_plan::{Facts, Isolation, LaunchNonce, StorePathFacts, UtcTime};
use mvm_ref::{Digest, ImageConfig, ScopeName};
use std::collections::BTreeSet;

/// What is known of an image, and of the hypervisor that is to run it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The ways in which the hypervisor will be confined.
    pub confinement: BTreeSet<String>,
    /// Keys with which a signature of the image was verified.
    pub image_signatures: Vec<Digest>,
    store_paths: Option<Vec<StorePathFacts>>,
    pulled_at: Option<i64>,
    created_at: Option<i64>,
}

impl Known {
    /// Returns the facts that admission judges.
    pub fn facts<'a>(
        &'a self,
        scope: &'a ScopeName,
        isolation: Isolation,
        nonce: LaunchNonce,
        now: i64,
    ) -> Facts<'a> {
        Facts {
            now,
            isolation,
            generations: &[mvm_image::GENERATION],
            scope,
            confinement: &self.confinement,
            image_signatures: &self.image_signatures,
            store_paths: self.store_paths.as_deref(),
            pulled_at: self.pulled_at,
            created_at: self.created_at,
            nonce,
        }
    }
}

impl Engine {
    /// Returns what the store knows of a plan's image, with the keys that `policy` asks for; nothing if the manifest that
    /// it names became another root here.
    pub(crate) fn known_of_image(&self, plan: &Plan, policy: &Policy) -> Result<Known, EngineError> {
        let source = &plan.source;
        let (requested, manifest, config) = (source.requested(), source.manifest(), source.config());
        let platform = source.platform();
        let record = self.scope.manifest(manifest)?;
        let same = |record: &mvm_store::ManifestRecord| {
            record.root_hash == plan.root.root_hash && record.config == *config
        };
        let Some(record) = record.filter(same) else { return Ok(Known::default()) };
        let config = self.scope.document(config)?.and_then(|config| ImageConfig::parse(&config).ok());
        let created = config.and_then(|config| UtcTime::from_rfc3339(config.created()?).ok());
        let store_paths = match (record.posture == REPRODUCIBLE, self.scope.document(manifest)?) {
            (true, Some(document)) => read_manifest(&document).ok().map(|closure| {
                let facts = |path: &ClosurePath| StorePathFacts {
                    info: path.info(),
                    content_addressed: path.trust == PathTrust::ContentAddressed,
                };
                closure.paths.iter().map(facts).collect()
            }),
            _ => None,
        };
        Ok(Known {
            store_paths,
            pulled_at: Some(record.pulled_at),
            created_at: created.map(UtcTime::unix_seconds),
            // Who signs plans has no say in what another key has signed.
            image_signatures: match claims::is_claim(&record) || record.posture == REPRODUCIBLE {
                true => Vec::new(),
                false => self.policy_signatures(requested.as_str(), manifest, platform, policy)?,
            },
            ..Known::default()
        })
    }
}
