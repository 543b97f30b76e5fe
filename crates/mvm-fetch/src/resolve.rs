//! From a name to one image whose documents are all verified.

use crate::FetchError;
use crate::source::{Content, Root};
use mvm_ref::verify::Expected;
use mvm_ref::{
    Descriptor, Digest, Document, ImageConfig, ImageSource, Index, MAX_CONFIG_SIZE, MAX_DOCUMENT_SIZE,
    Manifest, MediaType, Platform, SelectError, pair_layers,
};

/// How deep indexes may lie in indexes; images of the field have one, or two where several builds are joined.
const MAX_DEPTH: usize = 4;
/// How many indexes are read in the search for one image.
const MAX_INDEXES: usize = 16;

/// One image for one platform: its documents, each compared with the digest and size that led to it.
///
/// The only way to get one is [`crate::Origin::resolve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    requested: ImageSource,
    index_digest: Option<Digest>,
    manifest_digest: Digest,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    config: ImageConfig,
    config_bytes: Vec<u8>,
    layers: Vec<(Descriptor, Expected)>,
}

impl Resolved {
    /// Returns what the user asked for.
    pub fn requested(&self) -> &ImageSource {
        &self.requested
    }

    /// Returns the digest of the index that the image was chosen from.
    pub fn index_digest(&self) -> Option<Digest> {
        self.index_digest
    }

    /// Returns the digest of the image's manifest: the image's identity.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the bytes that [`Self::manifest_digest`] is the digest of.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// Returns the image config.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Returns the digest of the image config, which Docker calls the image ID.
    pub fn config_digest(&self) -> Digest {
        self.manifest.config().digest
    }

    /// Returns the bytes that [`Self::config_digest`] is the digest of.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// Returns the layers, lowest first, each with what its stream will be compared with.
    pub fn layers(&self) -> &[(Descriptor, Expected)] {
        &self.layers
    }
}

/// Reads and checks all documents of the image that `requested` names for `platform`.
pub(crate) fn resolve(
    content: &dyn Content,
    requested: &ImageSource,
    platform: &Platform,
) -> Result<Resolved, FetchError> {
    let root = content.root()?;
    let root_digest = Digest::of(&root.bytes);
    let document = Document::parse(&root.bytes, root.media_type.as_deref())
        .map_err(|source| FetchError::Document { what: "document", digest: root_digest, source })?;
    let (index_digest, chosen, manifest, manifest_bytes) = match document {
        Document::Manifest(manifest) => (None, None, manifest, root.bytes),
        Document::Index(index) => {
            let mut search = Search { content, platform, left: MAX_INDEXES };
            let (chosen, manifest, bytes) = search.choose(&index, 1)?;
            (Some(root_digest), chosen, manifest, bytes)
        }
    };
    let manifest_digest = Digest::of(&manifest_bytes);
    let (config, config_bytes) = image_config(content, manifest.config())?;
    check_platform(chosen, platform, &config, manifest.config().digest)?;
    let layers = pair_layers(&manifest, &config)?;
    let requested = requested.clone();
    Ok(Resolved {
        requested,
        index_digest,
        manifest_digest,
        manifest,
        manifest_bytes,
        config,
        config_bytes,
        layers,
    })
}

/// The search for a manifest in an index and those that it names.
struct Search<'a> {
    content: &'a dyn Content,
    platform: &'a Platform,
    /// Indexes that may still be read.
    left: usize,
}

type Chosen = (Option<Platform>, Manifest, Vec<u8>);

impl Search<'_> {
    /// Finds the manifest for the platform: among the index's own entries, else in the indexes that it names, in order.
    fn choose(&mut self, index: &Index, depth: usize) -> Result<Chosen, FetchError> {
        let none = match index.select(self.platform) {
            Ok(entry) => {
                let (manifest, bytes) = child_manifest(self.content, entry)?;
                return Ok((entry.platform.clone(), manifest, bytes));
            }
            Err(none) => none,
        };
        let fits = |named: &Platform| self.platform.distance(named).is_some();
        let nested = index.manifests().iter().filter(|entry| entry.media_type.is_index());
        let nested: Vec<_> = nested.filter(|entry| entry.platform.as_ref().is_none_or(fits)).collect();
        for entry in nested {
            let digest = entry.digest;
            if depth == MAX_DEPTH {
                return Err(FetchError::Nesting { digest, limit: MAX_DEPTH });
            }
            self.left = self.left.checked_sub(1).ok_or(FetchError::Indexes { digest, limit: MAX_INDEXES })?;
            match self.choose(&child_index(self.content, entry)?, depth + 1) {
                Err(FetchError::Platform(_)) => {}
                result => return result,
            }
        }
        Err(none.into())
    }
}

fn child_index(content: &dyn Content, entry: &Descriptor) -> Result<Index, FetchError> {
    check_limit("index", entry, MAX_DOCUMENT_SIZE)?;
    let Root { bytes, media_type } = content.manifest(entry)?;
    check_bytes("index", entry, &bytes)?;
    let delivered_as = media_type.as_deref().unwrap_or(entry.media_type.as_str());
    let failed = |source| FetchError::Document { what: "index", digest: entry.digest, source };
    match Document::parse(&bytes, Some(delivered_as)).map_err(failed)? {
        Document::Index(index) if *index.media_type() == entry.media_type => Ok(index),
        Document::Index(index) => Err(other_type(entry, index.media_type())),
        Document::Manifest(manifest) => Err(other_type(entry, manifest.media_type())),
    }
}

fn other_type(entry: &Descriptor, got: &MediaType) -> FetchError {
    FetchError::ManifestType { digest: entry.digest, expected: entry.media_type.clone(), got: got.clone() }
}

fn child_manifest(content: &dyn Content, entry: &Descriptor) -> Result<(Manifest, Vec<u8>), FetchError> {
    check_limit("manifest", entry, MAX_DOCUMENT_SIZE)?;
    let Root { bytes, media_type } = content.manifest(entry)?;
    check_bytes("manifest", entry, &bytes)?;
    let delivered_as = media_type.as_deref().unwrap_or(entry.media_type.as_str());
    let manifest = Manifest::parse(&bytes, Some(delivered_as)).map_err(|source| FetchError::Document {
        what: "manifest",
        digest: entry.digest,
        source,
    })?;
    if *manifest.media_type() != entry.media_type {
        return Err(other_type(entry, manifest.media_type()));
    }
    Ok((manifest, bytes))
}

fn image_config(
    content: &dyn Content,
    descriptor: &Descriptor,
) -> Result<(ImageConfig, Vec<u8>), FetchError> {
    check_limit("image config", descriptor, MAX_CONFIG_SIZE)?;
    let bytes = content.small_blob(descriptor, MAX_CONFIG_SIZE)?;
    check_bytes("image config", descriptor, &bytes)?;
    let config = ImageConfig::parse(&bytes)
        .map_err(|source| FetchError::Config { digest: descriptor.digest, source })?;
    Ok((config, bytes))
}

/// Compares what the config says with the index that led to it, or else with what was asked for.
///
/// Variants are compared only in the second case: many makers leave them out of the config.
fn check_platform(
    chosen: Option<Platform>,
    wanted: &Platform,
    config: &ImageConfig,
    digest: Digest,
) -> Result<(), FetchError> {
    let got = config.platform();
    match chosen {
        Some(expected) if !expected.same_machine(got) => {
            Err(FetchError::PlatformMismatch { digest, expected: expected.into(), got: got.clone().into() })
        }
        None if !wanted.same_machine(got) || (got.variant().is_some() && wanted.distance(got).is_none()) => {
            Err(SelectError::single(wanted, got).into())
        }
        _ => Ok(()),
    }
}

fn check_limit(what: &'static str, descriptor: &Descriptor, limit: u64) -> Result<(), FetchError> {
    let Descriptor { digest, size, .. } = *descriptor;
    if size > limit {
        return Err(FetchError::DocumentLimit { what, digest, size, limit });
    }
    Ok(())
}

fn check_bytes(what: &'static str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), FetchError> {
    let got = bytes.len() as u64;
    if got != descriptor.size {
        return Err(FetchError::DocumentSize {
            what,
            digest: descriptor.digest,
            expected: descriptor.size,
            got,
        });
    }
    let got = Digest::of(bytes);
    if got != descriptor.digest {
        return Err(FetchError::DocumentDigest { what, expected: descriptor.digest, got });
    }
    Ok(())
}
