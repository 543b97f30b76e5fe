//! A plan with all that it names, in one OCI archive: what a machine needs that has nothing but the signer's public key.
//!
//! The archive is an OCI artifact. Nothing of it is believed for standing there: the plan is believed for its signature, and
//! each other blob for a digest in the plan; the root image for its dm-verity root hash, every byte of it compared.

mod format;

use crate::claims;
use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::policies::{self, PolicySource};
use crate::progress::Cancel;
use crate::vm::write_atomically;
use mvm_fetch::{Artifact, CancelToken};
use mvm_image::verity;
use mvm_launch::initramfs;
use mvm_plan::audit::{Event, Subject};
use mvm_plan::plan::Plan;
use mvm_plan::policy::Rule;
use mvm_plan::{Isolation, LaunchNonce, SignedPlan};
use mvm_ref::{Descriptor, Digest, Hasher, ImageConfig};
use mvm_store::{ImageClaim, ImageRecord, ManifestRecord, NewKernel};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use format::{Bytes, Part};

/// Most bytes of a plan, a record of a kernel, a manifest or a config.
const MAX_SMALL: u64 = 4 << 20;
/// Most bytes of a kernel, and of an initramfs.
const MAX_BOOT: u64 = 1 << 30;

/// Says why a bundle can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The archive holds something else.
    #[error("{} is no bundle of a plan: {problem}", path.display())]
    Shape {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The manifest is not JSON of its shape.
    #[error("{} has a bad manifest", path.display())]
    Manifest {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The bundle has something else than its plan names.
    #[error("the bundle's {what} is {got}, the plan names {expected}")]
    Other {
        /// Which part.
        what: &'static str,
        /// What the plan names.
        expected: Digest,
        /// What the bundle has.
        got: Digest,
    },
    /// The plan was made before plans named all that a bundle carries.
    #[error("the plan does not name the record of its kernel, as plans of earlier versions don't")]
    NoRecord,
    /// The plan mounts images beside its root, which a bundle has no place for.
    #[error("a bundle of a plan that mounts images is not supported; a bundle carries the root image only")]
    MountedImage,
    /// The image's config can't be read.
    #[error("the bundle's image config")]
    Config(#[source] mvm_ref::ConfigError),
    /// What a plan names is not in the store, so that it can't be given away.
    #[error("the store has no {what} {digest}")]
    Absent {
        /// What.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// The archive can't be written.
    #[error("write the bundle")]
    Write(#[from] io::Error),
    /// A document of the archive can't be written.
    #[error("write a document of the bundle")]
    Document(#[from] serde_json::Error),
}

/// A plan whose bundle was taken in.
#[derive(Clone, Debug)]
pub struct ImportedPlan {
    /// The signed plan's text.
    pub envelope: Vec<u8>,
    /// Digest of the plan.
    pub digest: Digest,
}

impl Engine {
    /// Writes a plan and all that it names to an archive: the same plan and store, the same bytes.
    ///
    /// The image is compared with its root hash before, so that no damaged one is given away.
    pub fn bundle_plan(&self, plan: &[u8], out: impl Write) -> Result<(), EngineError> {
        let signed = parse(plan)?;
        let plan = signed.unverified_plan();
        if plan.mounted_images().next().is_some() {
            return Err(BundleError::MountedImage.into());
        }
        self.check_pieces(plan)?;
        let kernel = self.kernel(&plan.kernel.digest)?;
        let base = self.initramfs_of(plan, &kernel)?;
        let root = plan.root.root_hash;
        let image = self.scope.image_by_root(&root)?;
        let image = image.ok_or(BundleError::Absent { what: "image", digest: root })?;
        let (manifest, config) = (plan.source.manifest(), plan.source.config());
        let document = |what, digest: &Digest| {
            let bytes = self.scope.document(digest)?;
            Ok::<_, EngineError>(bytes.ok_or(BundleError::Absent { what, digest: *digest })?)
        };
        let path = kernel.image();
        let kernel_image = fs::read(&path).map_err(|source| EngineError::Io { act: "read", path, source })?;
        let file = image.file().try_clone().map_err(BundleError::Write)?;
        let parts = [
            (Part::Plan, Bytes::Here(signed.as_bytes().to_vec())),
            (Part::Root, Bytes::File(file)),
            (Part::Kernel, Bytes::Here(kernel_image)),
            (Part::KernelRecord, Bytes::Here(kernel.info().to_vec())),
            (Part::Initramfs, Bytes::Here(base)),
            (Part::ImageManifest, Bytes::Here(document("manifest", manifest)?)),
            (Part::ImageConfig, Bytes::Here(document("config", config)?)),
        ];
        Ok(format::write(parts, out)?)
    }

    /// Takes in a plan and all that it names from an archive. Nothing is launched.
    ///
    /// The plan must be signed by a key that is trusted here and be for this scope; every part is compared with what the
    /// plan names. A refusal is recorded.
    pub fn import_plan(&self, path: &Path, cancel: &Cancel) -> Result<ImportedPlan, EngineError> {
        let token: CancelToken = cancel.flag().clone().into();
        let artifact = Artifact::open(path, &self.scope.path().join("staging"), &token)?;
        let items = format::read_manifest(path, artifact.manifest())?;
        artifact.blob(&items[&Part::Empty], MAX_SMALL)?;
        let envelope = artifact.blob(&items[&Part::Plan], MAX_SMALL)?;
        let signed = match parse(&envelope) {
            Ok(signed) => signed,
            Err(error) => return self.refuse_import(Digest::of(&envelope), Rule::PlanFormat, error),
        };
        self.check_signer(&signed)?;
        let plan = signed.unverified_plan();
        let digest = signed.digest();
        let taken = self.take_in(&artifact, &items, plan, cancel);
        match taken {
            Ok(()) => Ok(ImportedPlan { envelope, digest }),
            Err((rule, error)) => self.refuse_import(digest, rule, error),
        }
    }

    fn refuse_import<T>(&self, plan: Digest, rule: Rule, error: EngineError) -> Result<T, EngineError> {
        let policy = policies::load(&[])?.name();
        let refuse = Event::Refuse { plan: Some(plan), policy, rules: vec![rule] };
        self.audit.append(&self.settings.scope, vec![refuse])?;
        Err(error)
    }

    /// Refuses a plan that no trusted key signed, or that is for another scope; what else stands against it is for its
    /// launch to say.
    fn check_signer(&self, signed: &SignedPlan) -> Result<(), EngineError> {
        let asked: &[PolicySource] = &[];
        let policy = policies::load(asked)?;
        let known = self.known_of_image(signed.unverified_plan(), &policy)?;
        let nonce = LaunchNonce::from_bytes([0; 16]);
        let facts = known.facts(&self.settings.scope, Isolation::Kvm, nonce, clock::unix_seconds());
        let trust = self.key_store().trust()?;
        let Err(refusal) = mvm_plan::admit(signed, &trust, &policy, &facts) else { return Ok(()) };
        let entry = [Rule::TrustedSigner, Rule::PlanScope];
        let rules = refusal.rules();
        if !rules.iter().any(|rule| entry.contains(rule)) {
            return Ok(());
        }
        let refuse = Event::Refuse { plan: Some(signed.digest()), policy: policy.name(), rules };
        self.audit.append(&self.settings.scope, vec![refuse])?;
        Err(EngineError::Refused(Box::new(refusal)))
    }

    /// Puts the parts of a bundle into the store, each compared with what the plan names.
    fn take_in(
        &self,
        artifact: &Artifact,
        items: &BTreeMap<Part, Descriptor>,
        plan: &Plan,
        cancel: &Cancel,
    ) -> Result<(), (Rule, EngineError)> {
        let (manifest, config) = (plan.source.manifest(), plan.source.config());
        let small = |rule, part, what, expected: Digest, limit| {
            named(artifact, &items[&part], what, expected, limit).map_err(|error| (rule, error))
        };
        let record = plan.kernel.record.ok_or((Rule::KernelDigest, BundleError::NoRecord.into()))?;
        let image_manifest =
            small(Rule::RootImage, Part::ImageManifest, "image manifest", *manifest, MAX_SMALL)?;
        let image_config = small(Rule::RootImage, Part::ImageConfig, "image config", *config, MAX_SMALL)?;
        let kernel = small(Rule::KernelDigest, Part::Kernel, "kernel", plan.kernel.digest, MAX_BOOT)?;
        let info = small(Rule::KernelDigest, Part::KernelRecord, "record of the kernel", record, MAX_SMALL)?;
        let base =
            small(Rule::InitramfsDigest, Part::Initramfs, "initramfs", plan.initramfs.digest, MAX_BOOT)?;
        self.take_in_root(artifact, &items[&Part::Root], plan, cancel)
            .map_err(|error| (Rule::RootImage, error))?;
        self.record_import(plan, &image_manifest, &image_config).map_err(|error| (Rule::RootImage, error))?;
        self.take_in_boot(plan, &kernel, &info, &base).map_err(|error| (Rule::KernelDigest, error))
    }

    /// Copies the root image into the store, unless it is there, and compares every byte with its root hash.
    fn take_in_root(
        &self,
        artifact: &Artifact,
        item: &Descriptor,
        plan: &Plan,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let root = plan.root;
        if self.scope.image_by_root(&root.root_hash)?.is_some() {
            return Ok(());
        }
        // No list of diff IDs is one of a root hash, so no pull takes the image for one that it has made.
        let chain = [root.root_hash];
        let claim = self.scope.claim_image(&chain, root.generation, &|| cancel.requested())?;
        let ImageClaim::Build(slot) = claim else { return Ok(()) };
        if item.size != root.size || root.generation != mvm_image::GENERATION {
            return Err(EngineError::OtherShape(root.root_hash));
        }
        slot.reserve(root.size)?;
        let got = copy(artifact.read(item)?, slot.file(), cancel)?;
        if got != item.digest {
            let (what, expected) = ("root image", item.digest);
            return Err(BundleError::Other { what, expected, got }.into());
        }
        let expected = verity::Expected { root_hash: root.root_hash, data_blocks: root.data_blocks };
        verity::verify(slot.file(), &expected).map_err(|source| EngineError::Damaged {
            root_hash: root.root_hash,
            name: root.root_hash.to_string(),
            discarded: true,
            source: source.into(),
        })?;
        let (root_hash, data_blocks) = (root.root_hash, root.data_blocks);
        slot.commit(ImageRecord { root_hash, data_blocks, hash_start: root.hash_start, size: root.size })?;
        Ok(())
    }

    /// Records which image the root is of, under a name that no pull uses, so that nothing collects it.
    ///
    /// What a pull here has made of the same manifest stays: a signer of plans has no say in it.
    fn record_import(&self, plan: &Plan, manifest: &[u8], config: &[u8]) -> Result<(), EngineError> {
        let root = plan.root;
        let (digest, config_digest) = (plan.source.manifest(), plan.source.config());
        let platform = plan.source.platform();
        let chain = ImageConfig::parse(config).map_err(BundleError::Config)?.diff_ids().to_vec();
        let claim = ManifestRecord {
            manifest: *digest,
            config: *config_digest,
            chain,
            platform: platform.clone(),
            root_hash: root.root_hash,
            posture: claims::IMPORTED.to_owned(),
            pulled_at: clock::unix_seconds(),
        };
        self.scope.put_document(config)?;
        self.scope.put_document(manifest)?;
        self.record_claim(&claim)?;
        let (manifest, root_hash, generation, size) = (*digest, root.root_hash, root.generation, root.size);
        let made = Event::Materialize { manifest, root_hash, generation, size };
        Ok(self.audit.append(&self.settings.scope, vec![made])?)
    }

    /// Puts kernel and initramfs into the store, unless they are there.
    fn take_in_boot(&self, plan: &Plan, kernel: &[u8], info: &[u8], base: &[u8]) -> Result<(), EngineError> {
        let digest = plan.kernel.digest;
        if self.store.kernel(&digest)?.is_none() {
            let modules = initramfs::after_base(base).filter(|modules| !modules.is_empty());
            self.store.put_kernel(&NewKernel { digest, image: kernel, modules, info })?;
            let taken = Event::CacheHit { subject: Subject::Kernel { digest } };
            self.audit.append(&self.settings.scope, vec![taken])?;
        }
        let kernel = self.kernel(&digest)?;
        if Digest::of(&self.base_initramfs(&kernel)?) == plan.initramfs.digest {
            return Ok(());
        }
        let path = self.initramfs_path(&plan.initramfs.digest);
        let failed = |source| EngineError::Io { act: "write", path: path.clone(), source };
        fs::create_dir_all(self.initramfs_directory()).map_err(failed)?;
        // It stays as long as the image that it came with; the mark says so before there is something to stay.
        let mark = self.initramfs_directory().join(format!(
            "{}.{}",
            plan.initramfs.digest.hex(),
            plan.root.root_hash.hex()
        ));
        File::create(&mark).map_err(|source| EngineError::Io { act: "write", path: mark, source })?;
        write_atomically(&path, base).map_err(failed)
    }

    /// Returns the directory of what bundles brought beside image and kernel.
    pub(crate) fn initramfs_directory(&self) -> PathBuf {
        self.settings.root.join("initramfs")
    }

    fn initramfs_path(&self, digest: &Digest) -> PathBuf {
        self.initramfs_directory().join(format!("{}.cpio", digest.hex()))
    }

    /// Returns the initramfs that a plan names, made here or brought by a bundle; the one made here if there is none.
    pub(crate) fn initramfs_of(
        &self,
        plan: &Plan,
        kernel: &mvm_store::Kernel,
    ) -> Result<Vec<u8>, EngineError> {
        let base = self.base_initramfs(kernel)?;
        let wanted = plan.initramfs.digest;
        if Digest::of(&base) == wanted {
            return Ok(base);
        }
        let path = self.initramfs_path(&wanted);
        match fs::read(&path) {
            Ok(brought) if Digest::of(&brought) == wanted => Ok(brought),
            Ok(_) => Ok(base),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(base),
            Err(source) => Err(EngineError::Io { act: "read", path, source }),
        }
    }
}

/// Returns the parts that a bundle's manifest names, in no order that means anything.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_manifest(path: &Path, bytes: &[u8]) -> Result<Vec<Descriptor>, BundleError> {
    Ok(format::read_manifest(path, bytes)?.into_values().collect())
}

fn parse(plan: &[u8]) -> Result<SignedPlan, EngineError> {
    SignedPlan::parse(plan).map_err(|source| EngineError::Plan { act: "read", source: source.into() })
}

/// Reads a part that a plan names by its digest.
fn named(
    artifact: &Artifact,
    item: &Descriptor,
    what: &'static str,
    expected: Digest,
    limit: u64,
) -> Result<Vec<u8>, EngineError> {
    if item.digest != expected {
        return Err(BundleError::Other { what, expected, got: item.digest }.into());
    }
    Ok(artifact.blob(item, limit)?)
}

/// Copies to an empty file, leaving holes for zeros, and returns the digest of what was copied.
fn copy(mut from: impl io::Read, to: &File, cancel: &Cancel) -> Result<Digest, EngineError> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        if cancel.requested() {
            return Err(EngineError::Interrupted);
        }
        let count = from.read(&mut piece).map_err(BundleError::Write)?;
        if count == 0 {
            break;
        }
        let bytes = &piece[..count];
        hasher.write_all(bytes).map_err(BundleError::Write)?;
        if bytes.iter().any(|&byte| byte != 0) {
            to.write_all_at(bytes, at).map_err(BundleError::Write)?;
        }
        at += count as u64;
    }
    to.set_len(at).map_err(BundleError::Write)?;
    Ok(hasher.finish())
}
