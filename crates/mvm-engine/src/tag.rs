//! Further names for images in the store.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::pull::requested_image;
use mvm_plan::audit::Event;
use mvm_ref::{Digest, Platform, Reference};
use std::collections::BTreeMap;

impl Engine {
    /// Gives an image of the store a further name, in place of what that name led to.
    ///
    /// No registry is asked: until the next pull of the name, it means what it was made to mean here. The audit log
    /// says so.
    pub fn tag_image(&self, image: &str, name: &Reference) -> Result<(), EngineError> {
        if name.is_pinned() {
            return Err(EngineError::PinnedName(name.clone()));
        }
        let listing = self.find_image(image)?;
        // The platforms that it was resolved for before, which needn't be the very one in its config.
        let mut platforms = BTreeMap::new();
        for resolution in self.scope.resolutions()? {
            if resolution.manifest == listing.manifest {
                platforms.insert(resolution.platform.to_string(), (resolution.platform, resolution.index));
            }
        }
        if platforms.is_empty() {
            let host = Some(Platform::host()).filter(|host| host.same_machine(&listing.platform));
            let platform = host.unwrap_or_else(|| listing.platform.clone());
            platforms.insert(platform.to_string(), (platform, None));
        }
        let text = name.to_string();
        for (platform, index) in platforms.into_values() {
            self.audit_tags(std::slice::from_ref(&text), listing.manifest, &platform)?;
            self.name(&text, &platform, listing.manifest, index)?;
        }
        Ok(())
    }

    /// Has the audit log tell of names that no registry was asked about.
    pub(crate) fn audit_tags(
        &self,
        names: &[String],
        manifest: Digest,
        platform: &Platform,
    ) -> Result<(), EngineError> {
        let event = |name: &String| {
            let requested = requested_image(name)?;
            Ok(Event::Tag { requested, manifest, platform: platform.clone() })
        };
        let events = names.iter().map(event).collect::<Result<Vec<_>, EngineError>>()?;
        Ok(self.audit.append(&self.settings.scope, events)?)
    }
}
