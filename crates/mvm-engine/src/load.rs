//! Loading images from archives of Docker and of OCI.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::{Cancel, Progress, Step};
use mvm_fetch::{Bundle, Bundled, FetchError};
use mvm_ref::{Digest, Platform, Reference};
use serde::Serialize;

/// An image that came out of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// Its names; none if the archive has none for it.
    pub names: Vec<Reference>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config.
    pub config: Digest,
    /// Its platform.
    pub platform: Platform,
    /// Root hash of its root file system.
    pub root_hash: Digest,
}

impl Engine {
    /// Brings all images of an archive into the store, under the names that the archive has for them.
    ///
    /// An image for another platform is left out where there is one for `platform` as well.
    pub fn load(
        &self,
        bundle: Bundle,
        platform: &Platform,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<Loaded>, EngineError> {
        self.while_fetching(progress, cancel, |fetcher| {
            let bundle = fetcher.open_bundle(bundle).map_err(|error| match error {
                FetchError::Cancelled => EngineError::Interrupted,
                error => error.into(),
            })?;
            let mut loaded = Vec::new();
            let mut foreign = Vec::new();
            for Bundled { names, origin } in bundle {
                let resolved = match self.resolve(&origin, platform, cancel) {
                    Err(EngineError::Fetch(FetchError::Platform(error))) => {
                        foreign.push(error);
                        continue;
                    }
                    resolved => resolved?,
                };
                // A digest in a name is a promise, which only the image that has it may keep.
                let keeps =
                    |digest| digest == resolved.manifest_digest() || Some(digest) == resolved.index_digest();
                if let Some(name) =
                    names.iter().find(|name| name.digest().is_some_and(|digest| !keeps(digest)))
                {
                    let manifest = resolved.manifest_digest();
                    return Err(EngineError::OthersName { name: name.clone(), manifest });
                }
                let texts: Vec<String> = names.iter().map(Reference::to_string).collect();
                let image = self.keep(&origin, &resolved, &texts, platform, progress, cancel)?;
                loaded.push(Loaded {
                    names,
                    manifest: image.manifest,
                    config: image.config_digest,
                    platform: image.platform,
                    root_hash: image.root_hash,
                });
            }
            if loaded.is_empty()
                && let Some(error) = foreign.pop()
            {
                return Err(FetchError::Platform(error).into());
            }
            for error in foreign {
                progress.step(Step::Notice(format!("left out an image: {error}")));
            }
            Ok(loaded)
        })
    }
}

#[cfg(test)]
mod tests;
