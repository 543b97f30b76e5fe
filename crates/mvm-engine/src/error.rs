//! What the engine fails with, sorted by what the caller can do about it.

mod advice;

use crate::attach::AttachError;
use crate::audit_log::AuditError;
use crate::builder::BuilderError;
use crate::closures::ImportError;
use crate::copy::CopyError;
use crate::directories::DirectoryError;
use crate::export::ExportError;
use crate::flake::BuildError;
use crate::kernel_build::KernelBuildError;
use crate::keys::KeysError;
use crate::plan_bundle::BundleError;
use crate::policies::PolicyFileError;
use crate::project::{ProjectError, ProjectMistakes};
use crate::provenance::ProvenanceFailure;
use crate::pull::PullError;
use crate::push::PushError;
use crate::secrets::SecretError;
use crate::signatures::SignatureError;
use crate::store_settings::SettingsError;
use crate::supervisor::{ForwardError, SupervisorError};
use crate::vm::VmError;
use crate::vms::{StartError, UpdateError};
use crate::volumes::VolumeError;
use mvm_fetch::{AuthError, FetchError};
use mvm_launch::LaunchError;
use mvm_plan::Refusal;
use mvm_ref::nix::StorePath;
use mvm_ref::{Digest, ImageSource, Platform, Reference, RegistryName, VmName};
use mvm_store::{KernelError, StoreError};
use std::io;
use std::path::PathBuf;

/// Which of a program's exit codes fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing more particular.
    Failure,
    /// The request can't be carried out as it stands.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// Content is not what its digest says.
    Verification,
    /// A policy or a quota refused.
    Refused,
    /// A registry or the way to it failed.
    Network,
    /// Something is in use, or a name is taken.
    Conflict,
    /// This machine lacks something.
    Missing,
    /// The user interrupted.
    Interrupted,
    /// A flake does not evaluate.
    Evaluation,
    /// A derivation did not build.
    Build,
    /// The builder ran out of disk or memory.
    Exhausted,
    /// The command is not in the image.
    CommandNotFound,
    /// The command is in the image and can't be executed.
    CommandNotExecutable,
}

/// Says why an operation of the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernels of the store failed.
    #[error(transparent)]
    Kernels(#[from] KernelError),
    /// An image could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A registry did not take credentials.
    #[error("log in to {registry}")]
    Login {
        /// The registry.
        registry: RegistryName,
        /// Why not.
        source: FetchError,
    },
    /// Credentials could not be read or kept.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// There are no credentials of a registry.
    #[error("there are no credentials of {0}")]
    NotLoggedIn(RegistryName),
    /// The file of credentials that was named isn't there.
    #[error("there is no file of credentials {0:?}")]
    NoAuthFile(PathBuf),
    /// There is no place to keep credentials.
    #[error("no file to keep credentials in: neither --authfile nor $HOME is set")]
    NoLoginFile,
    /// An image is not signed as it should be.
    #[error("verify the signature of {image}")]
    Signature {
        /// The image.
        image: ImageSource,
        /// Why it doesn't count as signed.
        source: SignatureError,
    },
    /// A file of keys or signatures of images is not what it should be.
    #[error(transparent)]
    SignatureFile(SignatureError),
    /// An image could not be pulled.
    #[error("pull {image}")]
    Pull {
        /// The image.
        image: String,
        /// Why not.
        source: Box<PullError>,
    },
    /// A layer or an image that is made here could not be made.
    #[error("make {what}")]
    Made {
        /// What it is.
        what: String,
        /// Why not.
        source: Box<PullError>,
    },
    /// The closure of a build could not become an image.
    #[error("import {output}")]
    Closure {
        /// The output of the build.
        output: StorePath,
        /// Why not.
        source: Box<ImportError>,
    },
    /// Nothing is known of where an image came from.
    #[error(transparent)]
    Provenance(#[from] ProvenanceFailure),
    /// What was asked of an image that was built can be done with images of registries only.
    #[error("{act} {image}: not supported for what was built of a flake")]
    NotForBuilds {
        /// What was asked.
        act: &'static str,
        /// The image.
        image: String,
    },
    /// An image could not leave the store.
    #[error(transparent)]
    Export(ExportError),
    /// An image could not be pushed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A VM's directory failed.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The audit log failed; nothing may happen that it doesn't tell of.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The audit log tells nothing of something.
    #[error("the audit log has no entry about {0:?}")]
    NoEntry(String),
    /// The keys failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A plan was refused.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// A plan can't be made or read.
    #[error("{act} the plan")]
    Plan {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was asked for is not what a plan may hold.
    #[error("{option} {problem}")]
    Option {
        /// The option, or what else asked for it.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A plan for one launch was launched before.
    #[error("plan {0} is for one launch, and was launched before")]
    UsedUp(Digest),
    /// A plan's bundle can't be made or used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file is no project.
    #[error(transparent)]
    Project(#[from] ProjectMistakes),
    /// A flake can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The VMs of a project are not changed, or not what they should be.
    #[error(transparent)]
    InProject(#[from] ProjectError),
    /// A policy can't be relied on.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// The image of a root hash has another shape than the plan says.
    #[error("the plan says of image {0} what is not so: its generation, its blocks or its size")]
    OtherShape(Digest),
    /// The hypervisor or what it needs failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A VM's writable disk could not be made.
    #[error("make the VM's scratch disk")]
    Scratch(#[from] mvm_launch::ScratchError),
    /// A volume can't be made, changed or given out.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A directory of the host can't be mounted.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A secret can't be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A VM can't be started again.
    #[error(transparent)]
    NotStarted(#[from] StartError),
    /// A port can't be forwarded.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A VM does not go over to another generation.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The builder can't be had, or ended.
    #[error(transparent)]
    Builder(#[from] BuilderError),
    /// A running VM failed.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// A command in a VM failed to start or to end well.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A kernel can't be imported.
    #[error("import the kernel {}", path.display())]
    KernelImport {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: mvm_launch::kernel::ImportError,
    },
    /// What is stored beside a kernel can't be read or written.
    #[error("the record of kernel {digest}")]
    KernelRecord {
        /// The kernel.
        digest: Digest,
        /// Why not.
        source: serde_json::Error,
    },
    /// The kernel could not be built.
    #[error(transparent)]
    KernelBuild(#[from] KernelBuildError),
    /// The supervisor reported that the VM can't start.
    #[error("{message}")]
    Start {
        /// Its words.
        message: String,
        /// What kind of failure it was there.
        kind: ErrorKind,
        /// What it advised.
        hint: Option<String>,
    },
    /// An image is not in the store, and asking a registry was ruled out.
    #[error("image {image} for {platform} is not in the store")]
    NoImage {
        /// The image.
        image: ImageSource,
        /// The platform.
        platform: Platform,
    },
    /// An image is not in the store, and the network may not be used.
    #[error("image {image} for {platform} is not in the store, and --offline rules out asking {registry}")]
    Offline {
        /// The image.
        image: ImageSource,
        /// The platform.
        platform: Platform,
        /// The registry that has it.
        registry: String,
    },
    /// A name with a digest can't be given to an image.
    #[error("{0} names one image for ever; leave out its digest")]
    PinnedName(Reference),
    /// An archive gives an image a name with the digest of another one.
    #[error("the archive has image {manifest} under the name {name}")]
    OthersName {
        /// The name.
        name: Reference,
        /// The manifest of the image that it was to stand for.
        manifest: Digest,
    },
    /// Nothing in the store has that name.
    #[error("no image {0:?} is in the store")]
    UnknownImage(String),
    /// What the store's user set can't be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The image is not pinned.
    #[error("image {0:?} is not pinned")]
    NotPinned(String),
    /// The beginning of a digest fits several things.
    #[error("{text:?} is the beginning of {count} digests; give more of it")]
    Ambiguous {
        /// What was given.
        text: String,
        /// How many fit.
        count: usize,
    },
    /// A kernel that is booted when nothing else is asked for can't be removed while there are others.
    #[error("kernel {0} is the default one")]
    DefaultKernel(Digest),
    /// A kernel can't be removed while VMs use it.
    #[error("kernel {digest} is used by {}", vms.iter().map(VmName::to_string).collect::<Vec<_>>().join(", "))]
    KernelInUse {
        /// The kernel.
        digest: Digest,
        /// The VMs that use it.
        vms: Vec<VmName>,
    },
    /// There is no kernel to boot.
    #[error("no kernel has been imported")]
    NoKernel,
    /// There is no kernel source to build from.
    #[error("no linux-source-*.tar.xz is in {}", .0.display())]
    NoKernelSource(PathBuf),
    /// An image names no command, and neither did the user.
    #[error("image {0} has neither entry point nor command; say what to run after its name")]
    NoCommand(String),
    /// The image is for another architecture than the machine emulates.
    #[error("image {image} is for {platform}; this machine runs {host}")]
    ForeignPlatform {
        /// The image.
        image: String,
        /// What it is for.
        platform: Platform,
        /// What runs here.
        host: Platform,
    },
    /// An image's bytes are not what its root hash says.
    #[error("image {root_hash} is damaged")]
    Damaged {
        /// Its root hash.
        root_hash: Digest,
        /// What was asked for.
        name: String,
        /// Whether the next pull or run makes it anew by itself.
        discarded: bool,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Several images are not what their root hashes say.
    #[error("{count} images are damaged: {}", names.join(", "))]
    SeveralDamaged {
        /// How many.
        count: usize,
        /// Their names.
        names: Vec<String>,
    },
    /// An image has no such path.
    #[error("image {image} has no {path}")]
    NoSuchPath {
        /// The image, as it was asked for.
        image: String,
        /// The path.
        path: mvm_tree::Escaped,
    },
    /// The layers of an image in the store were checked under a looser policy than is asked for, or another one.
    #[error("image {image} is in the store, but was unpacked under another policy than the one asked for")]
    OtherPolicy {
        /// The image.
        image: ImageSource,
    },
    /// Something in the store is not what the plan names.
    #[error("{what} has changed: the plan says {expected}, the store has {got}")]
    Changed {
        /// The kernel or the initramfs.
        what: &'static str,
        /// Its digest in the plan.
        expected: Digest,
        /// Its digest now.
        got: Digest,
    },
    /// A file could not be read or written.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl From<ExportError> for EngineError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Interrupted => Self::Interrupted,
            ExportError::Store(error) => Self::Store(error),
            error => Self::Export(error),
        }
    }
}

/// Joins an error and its causes into one line, leaving out a cause that the words before it end with.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
