//! The manifest of one image: its config and its layers.
//!
//! Source: OCI image-spec, `manifest.md`; distribution, "Image Manifest V 2, Schema 2".

use crate::document::{MAX_LAYERS, RawDescriptor, null_is_default};
use crate::verify::Expected;
use crate::{Descriptor, Document, DocumentError, ImageConfig, LayerCompression, MediaType, json};
use serde::Deserialize;

/// The config and the layers of one image, lowest layer first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    media_type: MediaType,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Says that manifest and config are not about the same layers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("manifest has {layers} layers, the image config has {diff_ids} diff IDs")]
pub struct PairError {
    layers: usize,
    diff_ids: usize,
}

#[derive(Deserialize)]
struct RawManifest {
    config: RawDescriptor,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<RawDescriptor>,
}

impl Manifest {
    /// Reads a manifest; an index is an error.
    pub fn parse(bytes: &[u8], delivered_as: Option<&str>) -> Result<Self, DocumentError> {
        match Document::parse(bytes, delivered_as)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(index) => Err(DocumentError::NotAnImage {
                what: "document".to_owned(),
                media_type: index.media_type().as_str().to_owned(),
            }),
        }
    }

    pub(crate) fn from_json(bytes: &[u8], media_type: MediaType) -> Result<Self, DocumentError> {
        let raw: RawManifest = json::from_slice(bytes)?;
        let config = raw.config.check(|| "image config".to_owned())?;
        if !config.media_type.is_config() {
            return Err(not_an_image("image config".to_owned(), &config));
        }
        if raw.layers.len() > MAX_LAYERS {
            return Err(DocumentError::TooManyLayers { got: raw.layers.len() });
        }
        let check = |(index, raw): (usize, RawDescriptor)| check_layer(index, raw);
        let layers = raw.layers.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        Ok(Self { media_type, config, layers })
    }

    /// Returns the type of the manifest itself.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the descriptor of the image config.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// Returns the descriptors of the layers, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }
}

impl Descriptor {
    /// Returns how a layer of a [`Manifest`] is stored.
    pub fn compression(&self) -> LayerCompression {
        self.media_type.layer_compression().unwrap_or(LayerCompression::None)
    }
}

/// Joins each layer with the diff ID that the config gives it.
pub fn pair_layers(
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Vec<(Descriptor, Expected)>, PairError> {
    let (layers, diff_ids) = (manifest.layers(), config.diff_ids());
    if layers.len() != diff_ids.len() {
        return Err(PairError { layers: layers.len(), diff_ids: diff_ids.len() });
    }
    let pair = |(layer, &diff_id): (&Descriptor, _)| {
        (layer.clone(), Expected { digest: layer.digest, size: layer.size, diff_id })
    };
    Ok(layers.iter().zip(diff_ids).map(pair).collect())
}

fn check_layer(index: usize, raw: RawDescriptor) -> Result<Descriptor, DocumentError> {
    let layer = raw.check(|| format!("layer {index}"))?;
    match layer.media_type {
        MediaType::OciLayer(_) | MediaType::DockerLayer(_) => Ok(layer),
        MediaType::ForeignLayer(_) => {
            Err(DocumentError::ForeignLayer { index, media_type: layer.media_type })
        }
        _ => Err(not_an_image(format!("layer {index}"), &layer)),
    }
}

fn not_an_image(what: String, descriptor: &Descriptor) -> DocumentError {
    DocumentError::NotAnImage { what, media_type: descriptor.media_type.as_str().to_owned() }
}

#[cfg(test)]
mod tests;
