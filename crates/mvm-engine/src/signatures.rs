//! Signatures of images: looked for beside an image in its registry, kept as they were found, and checked anew each time.
//!
//! What is kept (`cache/signatures/SCOPE/MANIFEST.json`) is evidence and no verdict: whoever changes it can at most make
//! a signature be missed.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::housekeeping;
use crate::progress::{Cancel, Progress};
use crate::pull::Pulled;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_fetch::{Fetcher, FoundSignature, Resolved};
use mvm_plan::audit::Event;
use mvm_plan::cosign::{
    self, CosignError, Evidence, ImageKey, ImageKeyError, ImageSignature, Subject, SubjectDocument,
};
use mvm_plan::policy::{self, Policy};
use mvm_ref::{Digest, ImageSource, Platform, Reference, ScopeName};
use mvm_store::Store;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Most bytes of a file of signatures: what a registry gives, in base64.
const MAX_FILE: u64 = 32 << 20;
/// Most bytes of a public key's file.
const MAX_KEY: u64 = 64 << 10;

/// Says why an image doesn't count as signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Only registries have signatures beside images.
    #[error(
        "signatures of layouts and archives are not supported; they have no name that a signature could be for"
    )]
    NotARegistry,
    /// No signature is known, and the network may not be used.
    #[error("no signature by key {key} is known, and --offline rules out asking {registry}")]
    Offline {
        /// The fingerprint of the key.
        key: Digest,
        /// The registry that may have one.
        registry: String,
    },
    /// There is no signature of it.
    #[error("{registry} has no signature of it")]
    Unsigned {
        /// The registry.
        registry: String,
    },
    /// There are signatures, and none of them is good.
    #[error("none of {count} signatures found is one by key {key}{}", and_more(*.left_out))]
    None {
        /// How many there are.
        count: usize,
        /// How many more there are, too large or too many to be looked at.
        left_out: usize,
        /// The fingerprint of the key.
        key: Digest,
        /// What is wrong with the one that came closest.
        source: CosignError,
    },
    /// A file holds no public key.
    #[error("{} holds no key that images are signed with", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ImageKeyError,
    },
    /// What is kept of an image's signatures can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is kept of an image's signatures is damaged.
    #[error("the signatures kept in {}", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// Why they can't be read or written.
        source: serde_json::Error,
    },
    /// Bytes that are kept are not base64.
    #[error("the signatures kept in {}", path.display())]
    Base64 {
        /// The file.
        path: PathBuf,
        /// Why they can't be read.
        source: base64::DecodeError,
    },
}

/// An image whose signatures are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// What it was asked for by.
    pub reference: &'a Reference,
    /// Its manifest.
    pub manifest: Digest,
    /// The index that led there.
    pub index: Option<Digest>,
    /// The manifest's bytes.
    pub bytes: Option<&'a [u8]>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    signatures: Vec<KeptSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeptSignature {
    SimpleSigning { payload: String, signature: String },
    Bundle(String),
}

impl Engine {
    /// Reads a public key that images are signed for: PEM, ECDSA on P-256 or Ed25519.
    pub fn read_image_key(&self, path: &Path) -> Result<ImageKey, EngineError> {
        let text = read_file(path, MAX_KEY)?;
        let text = String::from_utf8_lossy(&text);
        ImageKey::from_pem(&text)
            .map_err(|source| SignatureError::Key { path: path.to_owned(), source })
            .map_err(EngineError::SignatureFile)
    }

    /// Reads a bundle, or a payload and its signature, as evidence that an image is signed.
    pub fn read_evidence(
        &self,
        bundle: Option<&Path>,
        detached: Option<(&Path, &Path)>,
    ) -> Result<Vec<Evidence>, EngineError> {
        let mut evidence = Vec::new();
        if let Some(path) = bundle {
            evidence.push(Evidence::Bundle(read_file(path, cosign::MAX_BUNDLE as u64)?));
        }
        if let Some((payload, signature)) = detached {
            let signature = read_file(signature, 4096)?;
            let signature = String::from_utf8_lossy(&signature).into_owned();
            evidence.push(Evidence::SimpleSigning {
                payload: read_file(payload, cosign::MAX_PAYLOAD as u64)?,
                signature,
            });
        }
        Ok(evidence)
    }

    /// Checks that `image` is signed by each of `keys`, and returns a signature of each.
    ///
    /// The image is the one that the store has under the name, else the one that its registry has. Signatures are those
    /// that are given, or else those that were kept or that the registry has.
    pub fn verify_image_signatures(
        &self,
        image: &ImageSource,
        platform: &Platform,
        keys: &[ImageKey],
        given: &[Evidence],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<ImageSignature>, EngineError> {
        if let Some(cached) = self.cached(image, platform)? {
            return self.verify_stored_signatures(image, &cached, keys, given, progress, cancel);
        }
        if self.settings.network.offline {
            return Err(EngineError::NoImage { image: image.clone(), platform: platform.clone() });
        }
        self.while_fetching(progress, cancel, |fetcher| {
            let resolved = self.resolve(&fetcher.open(image)?, platform, cancel)?;
            self.verify_resolved_signatures(fetcher, image, &resolved, keys, given, cancel)
        })
    }

    /// The same for an image that was resolved just now.
    pub(crate) fn verify_resolved_signatures(
        &self,
        fetcher: &Fetcher,
        image: &ImageSource,
        resolved: &Resolved,
        keys: &[ImageKey],
        given: &[Evidence],
        cancel: &Cancel,
    ) -> Result<Vec<ImageSignature>, EngineError> {
        let signed = Signed {
            reference: registry_of(image)?,
            manifest: resolved.manifest_digest(),
            index: resolved.index_digest(),
            bytes: Some(resolved.manifest_bytes()),
        };
        self.check_signatures(Some(fetcher), image, &signed, keys, given, cancel)
    }

    /// The same for an image of the store.
    pub(crate) fn verify_stored_signatures(
        &self,
        image: &ImageSource,
        stored: &Pulled,
        keys: &[ImageKey],
        given: &[Evidence],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<ImageSignature>, EngineError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let resolution = self.scope.resolution(&stored.requested, &stored.platform)?;
        let index =
            resolution.filter(|known| known.manifest == stored.manifest).and_then(|known| known.index);
        let bytes = self.scope.document(&stored.manifest)?;
        let reference = registry_of(image)?;
        let signed = Signed { reference, manifest: stored.manifest, index, bytes: bytes.as_deref() };
        if self.settings.network.offline {
            return self.check_signatures(None, image, &signed, keys, given, cancel);
        }
        self.while_fetching(progress, cancel, |fetcher| {
            self.check_signatures(Some(fetcher), image, &signed, keys, given, cancel)
        })
    }

    /// Checks that an image is signed by each of `keys`; what is kept may do, else the registry is asked.
    pub(crate) fn check_signatures(
        &self,
        fetcher: Option<&Fetcher>,
        image: &ImageSource,
        signed: &Signed<'_>,
        keys: &[ImageKey],
        given: &[Evidence],
        cancel: &Cancel,
    ) -> Result<Vec<ImageSignature>, EngineError> {
        let failed = |source| EngineError::Signature { image: image.clone(), source };
        let kept = match given {
            [] => self.kept_signatures(&signed.manifest).map_err(failed)?,
            given => given.to_vec(),
        };
        let mut found = judge(&kept, 0, keys, signed);
        if found.is_err() && given.is_empty() {
            let Some(fetcher) = fetcher else {
                let registry = signed.reference.registry().to_owned();
                let key = found.err().map_or_else(|| signed.manifest, |(key, _)| key);
                return Err(failed(SignatureError::Offline { key, registry }));
            };
            let (fetched, left_out) = fetch(fetcher, signed).map_err(|error| match cancel.requested() {
                true => EngineError::Interrupted,
                false => error,
            })?;
            self.keep_signatures(&signed.manifest, &fetched)?;
            found = judge(&fetched, left_out, keys, signed);
        }
        let event = |key, passed| Event::VerifySignature { manifest: signed.manifest, key, passed };
        let events = match &found {
            Ok(found) => found.iter().map(|signature| event(signature.key, true)).collect(),
            Err((key, _)) => vec![event(*key, false)],
        };
        self.audit.append(&self.settings.scope, events)?;
        found.map_err(|(_, error)| failed(error))
    }

    /// Returns which of the keys that `policy` asks for have signed an image: by what is kept, without asking anybody.
    ///
    /// They are named as the policy names them.
    pub(crate) fn policy_signatures(
        &self,
        requested: &str,
        manifest: &Digest,
        platform: &Platform,
        policy: &Policy,
    ) -> Result<Vec<Digest>, EngineError> {
        let Ok(ImageSource::Registry(reference)) = requested.parse() else { return Ok(Vec::new()) };
        let keys = policy.image_keys(Some(&repository(&reference)));
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let resolution = self.scope.resolution(requested, platform)?;
        let index = resolution.filter(|known| known.manifest == *manifest).and_then(|known| known.index);
        let bytes = self.scope.document(manifest)?;
        let signed = Signed { reference: &reference, manifest: *manifest, index, bytes: bytes.as_deref() };
        let kept = self.kept_signatures(manifest).map_err(EngineError::SignatureFile)?;
        let signs = |key: &policy::ImageKey| {
            // A key of a kind that isn't supported has signed nothing that could be checked.
            let known = ImageKey::from_pem(key.pem()).ok()?;
            by_key(&kept, &known, &signed).ok().and(key.fingerprint())
        };
        Ok(keys.into_iter().filter_map(signs).collect())
    }

    /// Fetches what may be the signatures of an image, if `policy` asks for one and none that is kept will do.
    ///
    /// Whether one will do then is for the door to say.
    pub(crate) fn gather_signatures(
        &self,
        image: &ImageSource,
        platform: &Platform,
        manifest: &Digest,
        policy: &Policy,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let Some(reference) = image.reference() else { return Ok(()) };
        let (requested, name) = (image.to_string(), repository(reference));
        if !are_asked(policy, reference) || self.settings.network.offline {
            return Ok(());
        }
        let known = self.policy_signatures(&requested, manifest, platform, policy)?;
        let satisfied = policy.layers().iter().all(|layer| {
            let asked = &layer.restrictions().image_signature;
            let mut covering = asked.iter().filter(|one| one.covers(Some(&name))).peekable();
            let known =
                |one: &policy::ImageSignature| one.key.fingerprint().is_some_and(|key| known.contains(&key));
            covering.peek().is_none() || covering.any(known)
        });
        if satisfied {
            return Ok(());
        }
        let resolution = self.scope.resolution(&requested, platform)?;
        let index = resolution.filter(|known| known.manifest == *manifest).and_then(|known| known.index);
        let signed = Signed { reference, manifest: *manifest, index, bytes: None };
        let fetched = self.while_fetching(progress, cancel, |fetcher| fetch(fetcher, &signed));
        let (fetched, _) = fetched.map_err(|error| match cancel.requested() {
            true => EngineError::Interrupted,
            false => error,
        })?;
        self.keep_signatures(manifest, &fetched)
    }

    fn signatures_file(&self, manifest: &Digest) -> PathBuf {
        let directory = directory_of(&self.store, &self.settings.scope);
        directory.join(format!("{}.json", manifest.hex()))
    }

    fn kept_signatures(&self, manifest: &Digest) -> Result<Vec<Evidence>, SignatureError> {
        let path = self.signatures_file(manifest);
        let bytes = match read_limited(&path, MAX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(|source| SignatureError::Read { path: path.clone(), source })?,
        };
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|source| SignatureError::Kept { path: path.clone(), source })?;
        let decode = |text: &str| {
            STANDARD.decode(text).map_err(|source| SignatureError::Base64 { path: path.clone(), source })
        };
        kept.signatures
            .into_iter()
            .map(|kept| match kept {
                KeptSignature::SimpleSigning { payload, signature } => {
                    Ok(Evidence::SimpleSigning { payload: decode(&payload)?, signature })
                }
                KeptSignature::Bundle(text) => Ok(Evidence::Bundle(decode(&text)?)),
            })
            .collect()
    }

    fn keep_signatures(&self, manifest: &Digest, evidence: &[Evidence]) -> Result<(), EngineError> {
        let path = self.signatures_file(manifest);
        let write = |source| EngineError::Io { act: "write", path: path.clone(), source };
        let signatures = evidence
            .iter()
            .map(|evidence| match evidence {
                Evidence::SimpleSigning { payload, signature } => KeptSignature::SimpleSigning {
                    payload: STANDARD.encode(payload),
                    signature: signature.clone(),
                },
                Evidence::Bundle(text) => KeptSignature::Bundle(STANDARD.encode(text)),
            })
            .collect();
        let text = serde_json::to_vec(&Kept { signatures })
            .map_err(|source| SignatureError::Kept { path: path.clone(), source })
            .map_err(EngineError::SignatureFile)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(write)?;
        crate::vm::write_atomically(&path, &text).map_err(write)
    }
}

fn directory_of(store: &Store, scope: &ScopeName) -> PathBuf {
    store.cache().join("signatures").join(scope.as_str())
}

/// Removes what is kept for a scope that is gone. Returns the bytes that became free.
pub(crate) fn forget_scope(store: &Store, scope: &ScopeName) -> Result<u64, EngineError> {
    let directory = directory_of(store, scope);
    let freed = housekeeping::size_below(&directory)?;
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::Io { act: "remove", path: directory, source: error })
        }
        _ => Ok(freed),
    }
}

/// Says whether a policy asks for a signature of what is in a repository.
pub(crate) fn are_asked(policy: &Policy, reference: &Reference) -> bool {
    !policy.image_keys(Some(&repository(reference))).is_empty()
}

/// Returns registry and repository, as policies name them.
fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Returns the name in a registry that signatures are looked for under.
fn registry_of(image: &ImageSource) -> Result<&Reference, EngineError> {
    let failed = || EngineError::Signature { image: image.clone(), source: SignatureError::NotARegistry };
    image.reference().ok_or_else(failed)
}

fn fetch(fetcher: &Fetcher, signed: &Signed<'_>) -> Result<(Vec<Evidence>, usize), EngineError> {
    let digests: Vec<Digest> = std::iter::once(signed.manifest).chain(signed.index).collect();
    let found = fetcher.signatures(signed.reference, &digests)?;
    let evidence = found.signatures.into_iter().map(|found| match found {
        FoundSignature::SimpleSigning { payload, signature } => {
            Evidence::SimpleSigning { payload, signature }
        }
        FoundSignature::Bundle(text) => Evidence::Bundle(text),
    });
    Ok((evidence.collect(), found.left_out))
}

/// Finds a signature by each key; else says which key has none, and why.
fn judge(
    evidence: &[Evidence],
    left_out: usize,
    keys: &[ImageKey],
    signed: &Signed<'_>,
) -> Result<Vec<ImageSignature>, (Digest, SignatureError)> {
    keys.iter()
        .map(|key| {
            by_key(evidence, key, signed).map_err(|error| {
                let (count, key) = (evidence.len(), key.fingerprint());
                let registry = signed.reference.registry().to_owned();
                let error = match error {
                    Some(source) => SignatureError::None { count, left_out, key, source },
                    None => SignatureError::Unsigned { registry },
                };
                (key, error)
            })
        })
        .collect()
}

/// Finds a signature by a key; else says what is wrong with the one that came closest.
fn by_key(
    evidence: &[Evidence],
    key: &ImageKey,
    signed: &Signed<'_>,
) -> Result<ImageSignature, Option<CosignError>> {
    let manifest = SubjectDocument { digest: signed.manifest, bytes: signed.bytes };
    let index = signed.index.map(|digest| SubjectDocument { digest, bytes: None });
    let documents: Vec<SubjectDocument<'_>> = std::iter::once(manifest).chain(index).collect();
    let subject = Subject { repository: signed.reference, documents: &documents };
    let mut closest = None;
    for evidence in evidence {
        match cosign::verify(evidence, key, &subject) {
            Ok(signature) => return Ok(signature),
            // One that the key did make says more than those of others.
            Err(error) if matches!(closest, None | Some(CosignError::Signature)) => closest = Some(error),
            Err(_) => {}
        }
    }
    Err(closest)
}

fn read_file(path: &Path, max: u64) -> Result<Vec<u8>, EngineError> {
    let failed = |source| EngineError::Io { act: "read", path: path.to_owned(), source };
    read_limited(path, max).map_err(failed)
}

/// Reads a whole file of at most `max` bytes.
fn read_limited(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let words = format!("it is longer than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    Ok(bytes)
}

fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!("; {count} more were too large or too many to be looked at"),
    }
}
