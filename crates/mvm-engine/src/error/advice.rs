//! What kind of failure an error is, and what to do about it.

mod build;
mod fetch;
mod keys;
mod launch;

use super::{EngineError, ErrorKind};
use crate::attach::AttachError;
use crate::audit_log::{AuditError, Tampering, WitnessError};
use crate::closures::ImportError;
use crate::copy::CopyError;
use crate::export::ExportError;
use crate::plan_bundle::BundleError;
use crate::policies::PolicyFileError;
use crate::project::ProjectError;
use crate::provenance::ProvenanceFailure;
use crate::pull::{PullError, UnpackError};
use crate::push::PushError;
use crate::secrets::SecretError;
use crate::signatures::SignatureError;
use crate::supervisor::ForwardError;
use crate::vm::{Phase, VmError};
use crate::vms::{StartError, UpdateError};
use crate::volumes::VolumeError;
use fetch::{of_export, of_fetch};
use keys::{for_keys, of_keys};
use launch::{for_directory, for_launch, of_directory, of_launch};
use mvm_fetch::{AuthError, FetchError, HelperError, InflateError, RegistryError};
use mvm_launch::ScratchError;
use mvm_store::{FileError, IndexError, KernelError, StoreError};
use mvm_tree::{Knob, NarError, NarRefusal, ReadError, Refusal as TreeRefusal};
use mvm_wire::FailureKind;
use std::io;

impl EngineError {
    /// Returns which of a program's exit codes fits.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => of_store(error),
            Self::Kernels(KernelError::None { .. })
            | Self::UnknownImage(_)
            | Self::NoImage { .. }
            | Self::Bundle(BundleError::Absent { .. })
            | Self::NoSuchPath { .. }
            | Self::NotPinned(_)
            | Self::NoEntry(_)
            | Self::Offline { .. } => ErrorKind::NotFound,
            Self::Fetch(error) | Self::Login { source: error, .. } => of_fetch(error),
            Self::Auth(AuthError::NotLoggedIn { .. }) | Self::NotLoggedIn(_) => ErrorKind::NotFound,
            Self::Auth(AuthError::User) | Self::NoAuthFile(_) | Self::PinnedName(_) => ErrorKind::Usage,
            Self::Auth(AuthError::Helper(HelperError::NotInstalled { .. })) | Self::NoLoginFile => {
                ErrorKind::Missing
            }
            Self::Pull { source, .. } | Self::Made { source, .. } => of_pull(source),
            Self::Closure { source, .. } => of_import(source),
            Self::Provenance(ProvenanceFailure::None(_)) => ErrorKind::NotFound,
            Self::Provenance(_) => ErrorKind::Verification,
            Self::NotForBuilds { .. } => ErrorKind::Usage,
            Self::Builder(error) => error.kind(),
            Self::Vm(error) => match error {
                VmError::NotFound(_) => ErrorKind::NotFound,
                VmError::NameTaken(_) | VmError::Running(_) | VmError::NotRunning { .. } => {
                    ErrorKind::Conflict
                }
                _ => ErrorKind::Failure,
            },
            Self::Keys(error) => of_keys(error),
            Self::Signature { source: SignatureError::NotARegistry, .. } => ErrorKind::Usage,
            Self::Signature { source: SignatureError::Offline { .. }, .. } => ErrorKind::NotFound,
            Self::Signature { .. } => ErrorKind::Verification,
            Self::Audit(error) => of_audit(error),
            Self::Kernels(KernelError::Ambiguous { .. }) => ErrorKind::Usage,
            Self::Kernels(KernelError::Digest { .. })
            | Self::Damaged { .. }
            | Self::SeveralDamaged { .. }
            | Self::Changed { .. }
            | Self::OtherShape(_)
            | Self::Bundle(
                BundleError::Other { .. } | BundleError::Shape { .. } | BundleError::Manifest { .. },
            )
            | Self::Bundle(BundleError::Config(_))
            | Self::OthersName { .. } => ErrorKind::Verification,
            Self::InProject(ProjectError::Busy(_) | ProjectError::NotOurs { .. }) => ErrorKind::Conflict,
            Self::Policy(PolicyFileError::Unknown(_)) | Self::Project(_) => ErrorKind::Usage,
            Self::Refused(_) | Self::UsedUp(_) | Self::Policy(_) | Self::OtherPolicy { .. } => {
                ErrorKind::Refused
            }
            Self::Plan { .. } | Self::Option { .. } | Self::Ambiguous { .. } | Self::NoCommand(_) => {
                ErrorKind::Usage
            }
            Self::ForeignPlatform { .. } | Self::Settings(_) => ErrorKind::Usage,
            Self::Export(error) => of_export(error),
            Self::Push(PushError::NoDestination(_)) => ErrorKind::Usage,
            Self::Push(PushError::Digest { .. }) => ErrorKind::Conflict,
            Self::DefaultKernel(_) | Self::KernelInUse { .. } => ErrorKind::Conflict,
            Self::NoKernel | Self::NoKernelSource(_) => ErrorKind::Missing,
            Self::Launch(error) => of_launch(error),
            Self::Forward(ForwardError::InUse { .. }) => ErrorKind::Conflict,
            Self::Scratch(ScratchError::NotInstalled(_)) => ErrorKind::Missing,
            Self::Volume(error) => of_volume(error),
            Self::Directory(error) => of_directory(error),
            Self::Build(error) => build::kind(error),
            Self::Copy(CopyError::Absent { .. }) => ErrorKind::NotFound,
            Self::Copy(CopyError::InTheWay { .. }) => ErrorKind::Conflict,
            Self::Copy(CopyError::Interrupted) => ErrorKind::Interrupted,
            Self::Secret(SecretError::Read { .. } | SecretError::Pass { .. }) => ErrorKind::Failure,
            Self::Secret(_) => ErrorKind::Usage,
            Self::Attach(AttachError::Refused(failure)) => match failure.kind {
                FailureKind::NotFound => ErrorKind::CommandNotFound,
                FailureKind::NotExecutable => ErrorKind::CommandNotExecutable,
                _ => ErrorKind::Failure,
            },
            Self::Attach(AttachError::Interrupted) | Self::Interrupted => ErrorKind::Interrupted,
            Self::NotStarted(_) | Self::Update(UpdateError::Foreign(_)) => ErrorKind::Refused,
            Self::Update(UpdateError::NoneBefore(_)) => ErrorKind::NotFound,
            Self::Update(UpdateError::Built(_)) => ErrorKind::Usage,
            Self::Start { kind, .. } => *kind,
            _ => ErrorKind::Failure,
        }
    }

    /// Returns what to do about it, where the message itself doesn't say.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Build(error) => return build::hint(error),
            Self::NoKernel => {
                "mvmctl kernel build makes the tuned one; mvmctl kernel import takes an unpacked package"
            }
            Self::Keys(error) => return for_keys(error),
            Self::Signature { image, source: SignatureError::Unsigned { .. } } => {
                return Some(format!("cosign sign --key cosign.key {image} puts one beside it"));
            }
            Self::NoKernelSource(_) => "apt-get install linux-source, or name one with --source",
            Self::Audit(error) | Self::Vm(VmError::Audit(error)) => return for_audit(error),
            Self::Builder(error) => error.hint()?,
            Self::Vm(error) => return for_vm(error),
            Self::UnknownImage(_) => "mvmctl image ls lists them",
            Self::NotPinned(_) => "mvmctl image ls shows which are",
            Self::Store(error) => return for_store(error),
            Self::NoImage { image, .. } => {
                return Some(format!("mvmctl pull {image}, or run without --pull never"));
            }
            Self::Offline { image, .. } => return Some(format!("mvmctl pull {image}, without --offline")),
            Self::Kernels(KernelError::None { .. }) => "mvmctl kernel ls lists them",
            Self::Damaged { name, discarded, .. } => return Some(for_damaged(name, *discarded)),
            Self::SeveralDamaged { .. } => {
                "mvmctl image verify --all --discard, then mvmctl pull on their names"
            }
            Self::Pull { source, .. } | Self::Made { source, .. } if let Some(knob) = knob_of(source) => {
                return Some(format!("--unpack {} allows more, for an image that you trust", knob.remedy()));
            }
            Self::OtherPolicy { .. } => {
                "pull it again with the same --unpack, so that its layers are checked"
            }
            Self::Pull { source, .. } if matches!(**source, PullError::OtherRoot { .. }) => {
                "mvmctl image rm on its names forgets what it was"
            }
            Self::Closure { source, .. } => return for_import(source),
            Self::Provenance(ProvenanceFailure::None(_)) => {
                "only what mvmctl build made has one; what a registry has is signed there, see mvmctl image verify-signature"
            }
            Self::Provenance(_) => "build it again, or don't run it",
            Self::NotForBuilds { .. } => {
                "whoever has the flake builds it there; mvmctl plan bundle gives a signed plan away with its image"
            }
            Self::Update(UpdateError::Built(_)) => "build the flake, then remove the VM and run it again",
            Self::DefaultKernel(_) => "mvmctl kernel default makes another one the default",
            Self::KernelInUse { .. } => "mvmctl vm stop ends them",
            Self::Launch(error) => return for_launch(error),
            Self::Forward(ForwardError::InUse { .. }) => {
                "another program listens there; -p GUEST without a port of the host takes a free one"
            }
            Self::Secret(SecretError::Missing(name)) => {
                return Some(format!("--secret {name}=FILE, {name}=env:VARIABLE or {name}=- gives it"));
            }
            Self::Secret(SecretError::Gone(_)) => "make a new VM, and give it the secret again",
            Self::Scratch(ScratchError::NotInstalled(_))
            | Self::Volume(VolumeError::Make { source: ScratchError::NotInstalled(_), .. }) => {
                "apt-get install e2fsprogs"
            }
            Self::Volume(VolumeError::Quota { scope, .. }) => return Some(for_quota(scope)),
            Self::Directory(error) => return for_directory(error),
            Self::Policy(PolicyFileError::Writable { path, .. }) => {
                return Some(format!("chmod go-w {}", path.display()));
            }
            Self::Policy(PolicyFileError::Owner { .. } | PolicyFileError::Kind { .. }) => {
                "nothing is launched under a policy that others could replace"
            }
            Self::Policy(PolicyFileError::Text { .. }) => {
                "nothing is launched under a policy that can't be read; mvmctl policy show reads it"
            }
            Self::Bundle(BundleError::NoRecord) => "make and sign a new plan",
            Self::NotStarted(StartError::Expired(_)) => {
                "whoever signed it can sign a new one: mvmctl plan create, then mvmctl launch"
            }
            Self::NotStarted(StartError::SingleUse(_)) | Self::UsedUp(_) => {
                "make and sign a new plan, or one without --single-use"
            }
            Self::Changed { .. } | Self::OtherShape(_) => "make a new plan by running the command again",
            Self::Refused(refusal) => return Some(remedies(refusal)),
            Self::Start { hint, .. } => return hint.clone(),
            Self::Attach(AttachError::Gone | AttachError::Ended(_)) => {
                "console.log and supervisor.log in the VM's directory say more, unless it ran with --rm"
            }
            Self::Export(ExportError::Lost { image, .. } | ExportError::Older { image, .. }) => {
                return Some(format!("mvmctl image rm {image}, then pull or load it again"));
            }
            Self::Export(ExportError::Changed { .. } | ExportError::Damaged { .. }) => {
                "the stored layer was discarded; run the command again to fetch it anew"
            }
            Self::ForeignPlatform { .. } => {
                "choose another platform with --platform; other architectures are not supported"
            }
            Self::Fetch(FetchError::Registry(error)) => return for_registry(error),
            Self::Pull { source, .. } | Self::Made { source, .. } => return for_pull(source),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn for_damaged(name: &str, discarded: bool) -> String {
    match name.strip_prefix("flake:") {
        Some(flake) => {
            format!("mvmctl image verify --discard {name}, then mvmctl build --flake {flake}")
        }
        None if discarded => format!("mvmctl pull {name}"),
        None => format!("mvmctl image verify --discard {name}, then mvmctl pull on its name"),
    }
}

fn of_import(error: &ImportError) -> ErrorKind {
    match error {
        ImportError::Nar { source: NarError::Refused { source: NarRefusal::Policy(_), .. }, .. }
        | ImportError::Quota(_) => ErrorKind::Refused,
        ImportError::Nar { source: NarError::Refused { .. }, .. }
        | ImportError::Closure(_)
        | ImportError::TooLong { .. }
        | ImportError::Verify(_)
        | ImportError::Trailing
        | ImportError::ContentAddress { .. }
        | ImportError::Absent(_)
        | ImportError::Index(_) => ErrorKind::Verification,
        ImportError::NotAGuest(_)
        | ImportError::Guest(_)
        | ImportError::System { .. }
        | ImportError::RootFs(_)
        | ImportError::NoNix => ErrorKind::Usage,
        ImportError::Files { .. } => ErrorKind::Missing,
        ImportError::Assemble(error) => of_pull(error),
        ImportError::Store(error) => of_store(error),
        ImportError::Nar { .. }
        | ImportError::Read(_)
        | ImportError::Segment(_)
        | ImportError::Manifest(_) => ErrorKind::Failure,
    }
}

/// Returns what to do about a closure that can't become an image.
fn for_import(error: &ImportError) -> Option<String> {
    Some(match error {
        ImportError::Nar { source: NarError::Refused { source: NarRefusal::Policy(breach), .. }, .. } => {
            format!("--unpack {} allows more, for a flake that you trust", breach.knob().remedy())
        }
        ImportError::Quota(error) => match &**error {
            PullError::Quota(exceeded) => for_quota(&exceeded.scope),
            _ => return None,
        },
        ImportError::NotAGuest(_) | ImportError::Guest(_) => {
            "the attribute has to be what mvm.lib.SYSTEM.mkGuest returns".to_owned()
        }
        ImportError::NoNix => "add pkgs.nix to the packages of the guest".to_owned(),
        ImportError::RootFs(_) => "leave out rootfsType, or set it to \"erofs\"".to_owned(),
        ImportError::System { asked, .. } => format!("build packages.{asked}, or choose another --system"),
        ImportError::Files { needed, .. } => format!("ulimit -Hn {needed}, in the shell that starts mvmctl"),
        ImportError::Closure(_)
        | ImportError::TooLong { .. }
        | ImportError::Verify(_)
        | ImportError::Nar { source: NarError::Refused { .. }, .. }
        | ImportError::Trailing
        | ImportError::ContentAddress { .. }
        | ImportError::Absent(_) => {
            "the builder's store is damaged, or the builder lies: mvmctl builder rm, then mvmctl builder init, makes a new one"
                .to_owned()
        }
        _ => return None,
    })
}

fn of_volume(error: &VolumeError) -> ErrorKind {
    match error {
        VolumeError::Size { .. } | VolumeError::NotExt4 { .. } => ErrorKind::Usage,
        VolumeError::Quota { .. } => ErrorKind::Refused,
        VolumeError::Make { source: ScratchError::NotInstalled(_), .. } => ErrorKind::Missing,
        VolumeError::Make { .. } | VolumeError::Export { .. } => ErrorKind::Failure,
    }
}

fn of_audit(error: &AuditError) -> ErrorKind {
    match error {
        AuditError::Verify { .. }
        | AuditError::Witness(WitnessError::Line { .. } | WitnessError::Length { .. }) => {
            ErrorKind::Verification
        }
        AuditError::Witness(WitnessError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            ErrorKind::NotFound
        }
        AuditError::Settings { .. } | AuditError::Key { .. } => ErrorKind::Usage,
        _ => ErrorKind::Failure,
    }
}

/// Returns what to do about a scope that is full.
fn for_quota(scope: &mvm_ref::ScopeName) -> String {
    format!(
        "mvmctl gc --scope {scope} --budget 0 removes what isn't needed; mvmctl scope set {scope} --quota SIZE allows more"
    )
}

/// Returns what to do about a problem of the store.
fn for_store(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::Pinned { requested } => format!("mvmctl image unpin {requested}"),
        StoreError::InUse { .. } => "mvmctl vm rm removes VMs; mvmctl ps -a lists them".to_owned(),
        StoreError::NoScope { .. } => "mvmctl scope ls lists them".to_owned(),
        StoreError::ScopeInUse { .. } => {
            "it is free when its VMs (mvmctl vm ls) and other commands have ended".to_owned()
        }
        StoreError::ScopePinned { .. } => "--force removes it all the same".to_owned(),
        StoreError::ScopeVolumes { name, .. } => format!(
            "mvmctl volume ls --scope {name} lists them; --force removes the scope with all their data"
        ),
        StoreError::NoVolume { .. } => "mvmctl volume ls lists them".to_owned(),
        StoreError::VolumeInUse { .. } => "it is free when that has ended".to_owned(),
        StoreError::Index(IndexError::Damaged { .. }) => {
            "mvmctl scope rm --force removes the scope with all its images, which can be pulled again"
                .to_owned()
        }
        StoreError::Newer { .. } | StoreError::Index(IndexError::Newer { .. }) => {
            "a newer mvmctl has worked here: use that one, or another --root".to_owned()
        }
        StoreError::File(FileError::Owner { .. }) => "choose another directory with --root".to_owned(),
        _ => return None,
    })
}

/// Returns what to do about a problem with the audit log.
fn for_pull(error: &PullError) -> Option<String> {
    match error {
        PullError::Quota(exceeded) => Some(for_quota(&exceeded.scope)),
        PullError::Layer { source, .. } => match &**source {
            UnpackError::Fetch(FetchError::Registry(error)) => for_registry(error),
            _ => None,
        },
        _ => None,
    }
}

fn for_vm(error: &VmError) -> Option<String> {
    Some(match error {
        VmError::NameTaken(name) => format!("choose another name, or: mvmctl vm rm {name}"),
        VmError::Running(name) => format!("mvmctl vm stop {name}, or rm --force"),
        VmError::NotFound(_) => "mvmctl vm ls --all lists them".to_owned(),
        VmError::NotRunning { name, phase: Phase::Exited | Phase::Failed } => {
            format!("mvmctl vm start {name}; mvmctl vm status {name} says how it ended")
        }
        _ => return None,
    })
}

fn for_audit(error: &AuditError) -> Option<String> {
    Some(match error {
        AuditError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            "nothing is done that the audit log can't tell of; free some space".to_owned()
        }
        AuditError::Damaged { .. } => {
            "mvmctl audit rotate puts the damaged file aside and goes on; mvmctl audit verify says what is wrong"
                .to_owned()
        }
        AuditError::Verify { source, .. } => match &**source {
            Tampering::Stranger { .. } | Tampering::WitnessSignature { .. } => {
                "--key FILE names the public key, if you know it".to_owned()
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// Returns what to do about a problem on the way to a registry.
fn for_registry(error: &RegistryError) -> Option<String> {
    Some(match error {
        RegistryError::Certificate { host, .. } => {
            format!("--ca-cert FILE trusts the authority that signed it, for {host} and all others")
        }
        RegistryError::NotTls { host, .. } => format!("--insecure-registry {host} allows plain HTTP"),
        RegistryError::Timeout { .. } => "--timeout SECONDS waits longer".to_owned(),
        _ => return None,
    })
}

/// Lists every rule that failed with what satisfies it.
fn remedies(refusal: &mvm_plan::Refusal) -> String {
    let remedies: Vec<String> =
        refusal.failed().iter().map(|outcome| format!("{}: {}", outcome.why, outcome.remedy)).collect();
    remedies.join("\n        ")
}

/// Returns the setting of the unpack policy that could allow what a pull failed for.
fn knob_of(error: &PullError) -> Option<Knob> {
    match error {
        PullError::Policy(breach) => Some(breach.knob()),
        PullError::Merge { source, .. } => source.knob(),
        PullError::Layer { source, .. } => match source.as_ref() {
            UnpackError::Read(ReadError::Refused { source: TreeRefusal::Policy(breach), .. }) => {
                Some(breach.knob())
            }
            UnpackError::Fetch(FetchError::Inflate { source: InflateError::Bomb { .. }, .. }) => {
                Some(Knob::Ratio)
            }
            _ => None,
        },
        _ => None,
    }
}

fn of_pull(error: &PullError) -> ErrorKind {
    if knob_of(error).is_some() {
        return ErrorKind::Refused;
    }
    match error {
        PullError::Layer { source, .. } => match source.as_ref() {
            UnpackError::Fetch(error) => of_fetch(error),
            UnpackError::Store(error) => of_store(error),
            UnpackError::Read(mvm_tree::ReadError::Store { .. }) | UnpackError::Write(_) => {
                ErrorKind::Failure
            }
            UnpackError::Read(_) => ErrorKind::Verification,
        },
        PullError::Policy(_) | PullError::Quota(_) => ErrorKind::Refused,
        PullError::Index { .. } | PullError::Merge { .. } | PullError::OtherRoot { .. } => {
            ErrorKind::Verification
        }
        PullError::Store(error) => of_store(error),
        PullError::Assemble(_) | PullError::Sync(_) | PullError::Source(_) | PullError::Shifted(_) => {
            ErrorKind::Failure
        }
    }
}

fn of_store(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::NoReference { .. }
        | StoreError::NoImage { .. }
        | StoreError::NoScope { .. }
        | StoreError::NoVolume { .. } => ErrorKind::NotFound,
        StoreError::VolumeShrinks { .. } => ErrorKind::Usage,
        StoreError::InUse { .. }
        | StoreError::SeveralReferences { .. }
        | StoreError::Pinned { .. }
        | StoreError::ScopeInUse { .. }
        | StoreError::ScopePinned { .. }
        | StoreError::ScopeVolumes { .. }
        | StoreError::VolumeExists { .. }
        | StoreError::VolumeInUse { .. }
        | StoreError::Index(IndexError::Busy { .. }) => ErrorKind::Conflict,
        StoreError::DocumentDigest { .. }
        | StoreError::SegmentDigest { .. }
        | StoreError::SegmentSums { .. }
        | StoreError::WrongLayer { .. }
        | StoreError::Length { .. } => ErrorKind::Verification,
        StoreError::Cancelled { .. } => ErrorKind::Interrupted,
        _ => ErrorKind::Failure,
    }
}

#[cfg(test)]
mod tests;
