//! What a registry has beside an image that may be a signature of it. Nothing here is verified.
//!
//! Source: sigstore/cosign, `specs/SIGNATURE_SPEC.md` ("Tag-based Discovery") and `specs/BUNDLE_SPEC.md`; OCI
//! distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema".

use super::call::Call;
use super::image::Place;
use super::link::Next;
use super::{Registry, RegistryError, RegistryImage};
use mvm_ref::{Descriptor, Digest, MediaType, Reference};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ACCEPT_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Types of artifacts that are signatures; cosign has used each of them, and some registries leave the type out.
const ARTIFACTS: [&str; 4] = [
    BUNDLE,
    "application/vnd.dev.cosign.artifact.sig.v1+json",
    "application/vnd.oci.empty.v1+json",
    "application/vnd.oci.image.config.v1+json",
];

/// Most bytes of a manifest or list of signatures, of a payload and of a bundle.
const MAX_MANIFEST: usize = 1 << 20;
const MAX_PAYLOAD: u64 = 64 << 10;
const MAX_BUNDLE: u64 = 1 << 20;
/// Most artifacts that are opened, and most signatures and bytes that are fetched, for one image.
const MAX_ARTIFACTS: usize = 64;
/// Most pages of a list of referrers.
const MAX_PAGES: usize = 32;
const MAX_SIGNATURES: usize = 64;
const MAX_BYTES: u64 = 16 << 20;

/// What may be the signatures of an image, and what was too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundSignatures {
    /// Each of them, as it was found.
    pub signatures: Vec<FoundSignature>,
    /// How many were left out, since they are too large or too many.
    pub left_out: usize,
}

/// What may be a signature of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundSignature {
    /// A payload, and the signature of it that the manifest gives.
    SimpleSigning {
        /// What was signed.
        payload: Vec<u8>,
        /// The signature in base64.
        signature: String,
    },
    /// A sigstore bundle.
    Bundle(Vec<u8>),
}

/// A manifest of signatures, or an index of such, as far as it is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    #[serde(default)]
    manifests: Vec<Entry>,
    #[serde(default)]
    layers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// The search for signatures of one image.
struct Search<'a> {
    place: &'a Place,
    found: FoundSignatures,
    /// Manifests and blobs that were looked at.
    seen: BTreeSet<Digest>,
    artifacts: usize,
    bytes: u64,
}

/// Looks for signatures of the manifests and indexes that `digests` name, in the repository of `image`.
pub(crate) fn find(
    registry: &Arc<Registry>,
    image: &Reference,
    digests: &[Digest],
) -> Result<FoundSignatures, RegistryError> {
    let places = RegistryImage::new(Arc::clone(registry), image.clone())?;
    let search = places.anywhere(async |place| {
        let mut search = Search {
            place,
            found: FoundSignatures::default(),
            seen: BTreeSet::new(),
            artifacts: 0,
            bytes: 0,
        };
        for digest in digests {
            search.by_tag(digest).await?;
            search.by_referrers(digest).await?;
        }
        // A mirror that has the image need not have its signatures.
        match search.found.signatures.is_empty() && !place.is_last() {
            true => Err(place.not_found("none of its signatures is here")),
            false => Ok(search.found),
        }
    });
    Ok(registry.wait(search)?.1)
}

impl Search<'_> {
    /// Looks under the tag that cosign makes of a digest.
    async fn by_tag(&mut self, digest: &Digest) -> Result<(), RegistryError> {
        match absent(self.place.manifest(&format!("sha256-{}.sig", digest.hex()), None).await)? {
            Some(root) => self.layers(&root.bytes).await,
            None => Ok(()),
        }
    }

    /// Asks for what refers to a digest: the registry itself, or the list that its clients keep under a tag.
    async fn by_referrers(&mut self, digest: &Digest) -> Result<(), RegistryError> {
        let mut url = self.place.join(&format!("referrers/{digest}"))?;
        for number in 0..MAX_PAGES {
            let call = Call::get(url.clone(), ACCEPT_INDEX);
            let page = self.place.page(&call, "list of referrers", MAX_MANIFEST as u64).await;
            let page = if number == 0 { unsupported(page)? } else { Some(page?) };
            let Some(page) = page else {
                let list = self.place.manifest(&format!("sha256-{}", digest.hex()), None).await;
                return match absent(list)? {
                    Some(root) => self.referrers(&root.bytes).await,
                    None => Ok(()),
                };
            };
            self.referrers(&page.bytes).await?;
            match page.next {
                None => return Ok(()),
                Some(Next::At(next)) if self.artifacts < MAX_ARTIFACTS => url = next,
                Some(_) => break,
            }
        }
        // At least one more, on pages that nobody turns.
        self.found.left_out += 1;
        Ok(())
    }

    /// Takes the signatures out of what a list of referrers names.
    async fn referrers(&mut self, list: &[u8]) -> Result<(), RegistryError> {
        let Some(list) = self.read(list) else { return Ok(()) };
        for entry in list.manifests {
            let wanted = match entry.artifact_type.as_deref() {
                None | Some("") => true,
                Some(kind) => ARTIFACTS.iter().any(|known| kind.starts_with(known)),
            };
            let Ok(digest) = entry.digest.parse::<Digest>() else { continue };
            if !wanted || !MediaType::parse(&entry.media_type).is_manifest() || !self.seen.insert(digest) {
                continue;
            }
            if self.artifacts == MAX_ARTIFACTS {
                self.found.left_out += 1;
                continue;
            }
            self.artifacts += 1;
            if let Some(root) = absent(self.place.manifest(&digest.to_string(), Some(digest)).await)? {
                self.layers(&root.bytes).await?;
            }
        }
        Ok(())
    }

    /// Takes the signatures out of a manifest.
    async fn layers(&mut self, manifest: &[u8]) -> Result<(), RegistryError> {
        let Some(manifest) = self.read(manifest) else { return Ok(()) };
        for entry in manifest.layers {
            let Ok(digest) = entry.digest.parse::<Digest>() else { continue };
            let simple = entry.media_type == SIMPLE_SIGNING;
            if !simple && !entry.media_type.starts_with(BUNDLE) {
                continue;
            }
            // One payload may have several signatures, each in an entry of its own.
            let signature = entry.annotations.and_then(|mut annotations| annotations.remove(SIGNATURE));
            if simple && signature.is_none() {
                continue;
            }
            let max = if simple { MAX_PAYLOAD } else { MAX_BUNDLE };
            let bytes = self.bytes.saturating_add(entry.size);
            if entry.size > max || bytes > MAX_BYTES || self.found.signatures.len() == MAX_SIGNATURES {
                self.found.left_out += 1;
                continue;
            }
            self.bytes = bytes;
            let descriptor = Descriptor {
                media_type: MediaType::parse(&entry.media_type),
                digest,
                size: entry.size,
                platform: None,
                annotations: BTreeMap::new(),
            };
            let Some(blob) = absent(self.place.small_blob(&descriptor, max).await)? else { continue };
            if Digest::of(&blob) != digest {
                let (host, got) = (self.place.reference().registry().to_owned(), Digest::of(&blob));
                return Err(RegistryError::Digest { host, expected: digest, got });
            }
            let found = match signature.filter(|_| simple) {
                Some(signature) => FoundSignature::SimpleSigning { payload: blob, signature },
                None => FoundSignature::Bundle(blob),
            };
            if !self.found.signatures.contains(&found) {
                self.found.signatures.push(found);
            }
        }
        Ok(())
    }

    /// Reads a document of signatures; one that is none counts as left out, for others may stand beside it.
    fn read(&mut self, bytes: &[u8]) -> Option<Artifact> {
        let read = (bytes.len() <= MAX_MANIFEST).then(|| serde_json::from_slice(bytes).ok()).flatten();
        if read.is_none() {
            self.found.left_out += 1;
        }
        read
    }
}

/// Turns the error of something that isn't there into none.
fn absent<T>(result: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(RegistryError::NotFound { .. } | RegistryError::NoBlob { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same of a registry that doesn't know about referrers, which not all of them say with 404.
fn unsupported<T>(result: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match absent(result) {
        Err(RegistryError::Status { status: 400 | 405 | 406 | 415, .. })
        | Err(RegistryError::Server { status: 501, .. })
        | Err(RegistryError::NotARegistry { .. }) => Ok(None),
        result => result,
    }
}
