//! Layers that are not in the store any more, or can't be given back, from where their image came from.

use super::{ExportError, StoredImage};
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::images::deletion;
use crate::progress::{Cancel, Progress, Step};
use mvm_fetch::Fetcher;
use mvm_image::GENERATION;
use mvm_ref::{Digest, ImageSource};
use mvm_store::Segment;

impl Engine {
    /// Returns the layers of an image, lowest first, and brings those that are missing back before.
    pub(crate) fn layers_to_give(
        &self,
        image: &StoredImage,
        fetcher: &Fetcher,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<Segment>, EngineError> {
        let missing = match self.stored_layers(image) {
            Err(error @ (ExportError::Lost { .. } | ExportError::Older { .. })) => error,
            layers => return Ok(layers?),
        };
        for source in &image.origins {
            match self.restore(image, source, fetcher, progress, cancel) {
                Ok(true) => return Ok(self.stored_layers(image)?),
                Ok(false) => {
                    progress.step(Step::Notice(format!("{source} is another image by now")));
                }
                Err(_) if cancel.requested() => return Err(EngineError::Interrupted),
                Err(error) => progress.step(Step::Notice(chain(&error))),
            }
        }
        Err(missing.into())
    }

    /// Fetches what is missing from one origin; says whether that is still the same image.
    fn restore(
        &self,
        image: &StoredImage,
        source: &ImageSource,
        fetcher: &Fetcher,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<bool, EngineError> {
        let origin = fetcher.open(source)?;
        let resolved = origin.resolve(&image.platform)?;
        // The config says which layers they are, however they are wrapped there.
        if resolved.config_digest() != image.config {
            return Ok(false);
        }
        for layer in &image.chain {
            let segment = self.scope.segment(layer, GENERATION)?;
            let is_older = match &segment {
                Some(segment) => segment.framing()?.is_none(),
                None => false,
            };
            drop(segment);
            if is_older {
                self.discard_layer(layer)?;
            }
        }
        let mut events = Vec::new();
        let allowance = self.allowance()?;
        let fetched = self.fetch_layers(&origin, &resolved, &allowance, progress, cancel, &mut events);
        self.audit.append(&self.settings.scope, events)?;
        let failed = |error| EngineError::Pull { image: source.to_string(), source: Box::new(error) };
        fetched.map(drop).map_err(failed)?;
        Ok(true)
    }

    /// Discards a layer that is not what it should be, so that it is fetched anew.
    pub(crate) fn discard_layer(&self, layer: &Digest) -> Result<(), EngineError> {
        let discarded = self.scope.discard_segments(&[*layer].into())?;
        Ok(self.audit.append(&self.settings.scope, discarded.iter().filter_map(deletion).collect())?)
    }

    /// Discards the layer that an error is about, if it is damaged.
    pub(crate) fn discard_damaged<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(EngineError::Export(
            ExportError::Changed { expected: layer, .. } | ExportError::Damaged { layer, .. },
        )) = &result
        {
            self.discard_layer(layer)?;
        }
        result
    }
}
