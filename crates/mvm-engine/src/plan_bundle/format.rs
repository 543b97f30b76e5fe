//! The archive of a bundle: an OCI layout with one artifact, whose layers are the parts.
//!
//! Source: OCI image-spec, `image-layout.md`, and `manifest.md`, "Guidelines for Artifact Usage".

use super::BundleError;
use crate::export::TarWriter;
use mvm_ref::{Descriptor, Digest, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const ARTIFACT: &str = "application/vnd.mvm.plan-bundle.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What a bundle holds, in the order in which its manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Plan,
    Root,
    Kernel,
    KernelRecord,
    Initramfs,
    ImageManifest,
    ImageConfig,
    /// The config that every artifact has, which says nothing.
    Empty,
}

const PARTS: [(Part, &str); 7] = [
    (Part::Plan, "application/vnd.dsse.envelope.v1+json"),
    (Part::Root, "application/vnd.mvm.root.v1.erofs"),
    (Part::Kernel, "application/vnd.mvm.kernel.v1"),
    (Part::KernelRecord, "application/vnd.mvm.kernel-record.v1+json"),
    (Part::Initramfs, "application/vnd.mvm.initramfs.v1.cpio"),
    (Part::ImageManifest, "application/vnd.mvm.image-manifest.v1+json"),
    (Part::ImageConfig, "application/vnd.mvm.image-config.v1+json"),
];

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Item,
    layers: Vec<Item>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// Where the bytes of a blob come from.
pub(super) enum Bytes {
    Here(Vec<u8>),
    File(File),
}

/// Returns the places of the parts, each of which stands there once.
pub(super) fn read_manifest(path: &Path, bytes: &[u8]) -> Result<BTreeMap<Part, Descriptor>, BundleError> {
    let shape = |problem| BundleError::Shape { path: path.to_owned(), problem };
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|source| BundleError::Manifest { path: path.to_owned(), source })?;
    if manifest.artifact_type != ARTIFACT {
        return Err(shape("its artifact is of another type"));
    }
    let descriptor = |item: &Item| Descriptor {
        media_type: MediaType::parse(&item.media_type),
        digest: item.digest,
        size: item.size,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let mut items = BTreeMap::from([(Part::Empty, descriptor(&manifest.config))]);
    for item in &manifest.layers {
        let Some((part, _)) = PARTS.iter().find(|(_, media_type)| *media_type == item.media_type) else {
            return Err(shape("it has a part of an unknown type"));
        };
        if items.insert(*part, descriptor(item)).is_some() {
            return Err(shape("it has a part twice"));
        }
    }
    if items.len() == PARTS.len() + 1 { Ok(items) } else { Err(shape("it lacks a part")) }
}

/// Writes the archive: its parts in the order of their digests.
pub(super) fn write(parts: [(Part, Bytes); 7], out: impl Write) -> Result<(), BundleError> {
    let mut blobs: BTreeMap<Digest, (u64, Bytes)> = BTreeMap::new();
    let mut item = |media_type: &str, bytes: Bytes| {
        let (digest, size) = match &bytes {
            Bytes::Here(bytes) => (Digest::of(bytes), bytes.len() as u64),
            Bytes::File(file) => (Digest::of_reader(FromStart(file, 0))?, file.metadata()?.len()),
        };
        blobs.insert(digest, (size, bytes));
        Ok::<_, io::Error>(Item { media_type: media_type.to_owned(), digest, size })
    };
    let config = item(EMPTY, Bytes::Here(b"{}".to_vec()))?;
    let mut layers = Vec::new();
    for ((part, bytes), (listed, media_type)) in parts.into_iter().zip(PARTS) {
        debug_assert_eq!(part, listed);
        layers.push(item(media_type, bytes)?);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        artifact_type: ARTIFACT.to_owned(),
        config,
        layers,
    };
    let entry = item(MANIFEST, Bytes::Here(serde_json::to_vec(&manifest)?))?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST, "artifactType": ARTIFACT, "digest": entry.digest, "size": entry.size,
        }],
    });
    let mut tar = TarWriter::new(out);
    let small = |tar: &mut TarWriter<_>, name: &str, bytes: &[u8]| {
        tar.file::<io::Error>(name, bytes.len() as u64, |out| out.write_all(bytes))
    };
    small(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    small(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
    for (digest, (size, bytes)) in &blobs {
        tar.file::<io::Error>(&format!("blobs/sha256/{}", digest.hex()), *size, |out| match bytes {
            Bytes::Here(bytes) => out.write_all(bytes),
            Bytes::File(file) => io::copy(&mut FromStart(file, 0), out).map(drop),
        })?;
    }
    tar.finish()?;
    Ok(())
}

/// Reads a file from its start, whatever others do with its position.
struct FromStart<'a>(&'a File, u64);

impl io::Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(buffer, self.1)?;
        self.1 += count as u64;
        Ok(count)
    }
}
