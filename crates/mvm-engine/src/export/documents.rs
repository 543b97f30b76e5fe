//! The documents of an image that leaves: manifest, index, and what `docker load` reads.
//!
//! Source: OCI image-spec, `manifest.md`, `image-index.md` and `annotations.md`; moby, "Image specification v1.3", section
//! "Combined Image JSON + Filesystem Changeset Format".

use super::{ExportError, StoredImage};
use mvm_ref::{Digest, LayerCompression, MediaType, Platform, Reference};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The names that tools look for: podman and skopeo the first, containerd and docker the second.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// A layer as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerBlob {
    pub digest: Digest,
    pub size: u64,
    pub media_type: MediaType,
}

impl LayerBlob {
    pub fn new(digest: Digest, size: u64, compression: LayerCompression) -> Self {
        Self { digest, size, media_type: MediaType::OciLayer(compression) }
    }
}

/// A manifest with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestDocument {
    pub bytes: Vec<u8>,
    pub media_type: MediaType,
    pub digest: Digest,
}

/// What is kept of a manifest that is written anew. Annotations of layers are about compressed bytes, and go.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Returns the manifest of an image whose layers are these: the very bytes that it came with if nothing about them has
/// changed, else an OCI manifest.
pub(crate) fn manifest(image: &StoredImage, layers: &[LayerBlob]) -> Result<ManifestDocument, ExportError> {
    let original = image.manifest.layers();
    let is_original = original.len() == layers.len()
        && original.iter().zip(layers).all(|(was, is)| was.digest == is.digest && was.size == is.size);
    if is_original {
        let (bytes, media_type) = (image.manifest_bytes.clone(), image.manifest.media_type().clone());
        return Ok(ManifestDocument { digest: Digest::of(&bytes), bytes, media_type });
    }
    let failed = |source| ExportError::Document { what: "manifest", image: image.asked.clone(), source };
    let Annotated { annotations } = serde_json::from_slice(&image.manifest_bytes).map_err(failed)?;
    let config = descriptor(&MediaType::OciConfig, &image.config, image.config_bytes.len() as u64);
    let layers = layers.iter().map(|blob| descriptor(&blob.media_type, &blob.digest, blob.size));
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciManifest.as_str(),
        "config": config,
        "layers": layers.collect::<Vec<_>>(),
    });
    if let Some(annotations) = annotations.filter(|annotations| !annotations.is_empty()) {
        document["annotations"] = json!(annotations);
    }
    let bytes = serde_json::to_vec(&document).map_err(failed)?;
    Ok(ManifestDocument { digest: Digest::of(&bytes), bytes, media_type: MediaType::OciManifest })
}

/// An image in an archive or layout.
pub(crate) struct Entry<'a> {
    pub manifest: ManifestDocument,
    pub platform: &'a Platform,
    pub config: Digest,
    /// The names that it goes by.
    pub names: Vec<String>,
    /// Paths of the layers in the archive, lowest first.
    pub layers: Vec<String>,
}

/// Returns the `index.json` of an OCI layout: an image that goes by several names stands there several times.
pub(crate) fn index(entries: &[Entry<'_>]) -> Vec<u8> {
    let entry = |entry: &Entry<'_>, name: Option<&String>| {
        let document = &entry.manifest;
        let mut value = descriptor(&document.media_type, &document.digest, document.bytes.len() as u64);
        if let Some(name) = name {
            let names: Map<String, Value> =
                NAMES.iter().map(|key| ((*key).to_owned(), json!(name))).collect();
            value["annotations"] = Value::Object(names);
        }
        let mut platform = json!({"architecture": entry.platform.architecture(), "os": entry.platform.os()});
        if let Some(variant) = entry.platform.variant() {
            platform["variant"] = json!(variant);
        }
        value["platform"] = platform;
        value
    };
    let mut manifests = Vec::new();
    for image in entries {
        if image.names.is_empty() {
            manifests.push(entry(image, None));
        }
        manifests.extend(image.names.iter().map(|name| entry(image, Some(name))));
    }
    let index = MediaType::OciIndex;
    json!({"schemaVersion": 2, "mediaType": index.as_str(), "manifests": manifests}).to_string().into_bytes()
}

/// Returns the `manifest.json` of an archive for `docker load`; `config` makes the path of a config.
pub(crate) fn docker_manifest(entries: &[Entry<'_>], config: impl Fn(&Digest) -> String) -> Vec<u8> {
    let image = |entry: &Entry<'_>| json!({"Config": config(&entry.config), "RepoTags": entry.names, "Layers": entry.layers});
    Value::Array(entries.iter().map(image).collect()).to_string().into_bytes()
}

/// Returns the name under which other tools load an image; they take none with a digest.
pub(crate) fn tag_name(reference: &Reference) -> Option<String> {
    (!reference.is_pinned()).then(|| reference.to_string())
}

fn descriptor(media_type: &MediaType, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type.as_str(), "digest": digest, "size": size})
}
