use super::*;
use crate::audit_log::AuditError;
use crate::directories::DirectoryError;
use crate::keys::KeysError;
use crate::policies::PolicyFileError;
use crate::supervisor::SupervisorError;
use crate::vm::Phase;
use mvm_fetch::LayoutError;
use mvm_launch::LaunchError;
use mvm_launch::exec::ExecError;
use mvm_ref::{Digest, Platform, VmName};
use mvm_wire::Failure;
use std::path::PathBuf;

fn io_error(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

fn name() -> VmName {
    "web".parse().unwrap()
}

fn path() -> PathBuf {
    "/x".into()
}

fn layout(error: LayoutError) -> EngineError {
    FetchError::Layout(error).into()
}

fn refused(kind: FailureKind) -> EngineError {
    AttachError::Refused(Failure { kind, message: "no".to_owned() }).into()
}

fn digest() -> Digest {
    Digest::of(b"x")
}

/// An error, what kind it is, and what is advised.
type Row = (EngineError, ErrorKind, Option<&'static str>);

const NEWER: &str = "a newer mvmctl has worked here: use that one, or another --root";

fn scope() -> mvm_ref::ScopeName {
    mvm_ref::ScopeName::default()
}

fn table() -> Vec<Row> {
    [of_the_engine(), of_machines(), of_the_store_and_registries()].into_iter().flatten().collect()
}

fn of_the_engine() -> Vec<Row> {
    use ErrorKind::*;
    let image = || "debian:12".parse::<mvm_ref::ImageSource>().unwrap();
    vec![
        (
            EngineError::NoKernel,
            Missing,
            Some("mvmctl kernel build makes the tuned one; mvmctl kernel import takes an unpacked package"),
        ),
        (
            EngineError::NoKernelSource(path()),
            Missing,
            Some("apt-get install linux-source, or name one with --source"),
        ),
        (EngineError::UnknownImage("x".to_owned()), NotFound, Some("mvmctl image ls lists them")),
        (
            EngineError::NoImage { image: image(), platform: Platform::host() },
            NotFound,
            Some("mvmctl pull docker.io/library/debian:12, or run without --pull never"),
        ),
        (EngineError::Ambiguous { text: "ab".to_owned(), count: 2 }, Usage, None),
        (EngineError::NoCommand("x".to_owned()), Usage, None),
        (EngineError::Interrupted, Interrupted, None),
        (
            EngineError::Changed { what: "the kernel", expected: digest(), got: digest() },
            Verification,
            Some("make a new plan by running the command again"),
        ),
        (
            EngineError::Damaged {
                root_hash: digest(),
                name: "debian:12".to_owned(),
                discarded: false,
                source: "bad block".into(),
            },
            Verification,
            Some("mvmctl image verify --discard debian:12, then mvmctl pull on its name"),
        ),
        (
            EngineError::Damaged {
                root_hash: digest(),
                name: "debian:12".to_owned(),
                discarded: true,
                source: "bad block".into(),
            },
            Verification,
            Some("mvmctl pull debian:12"),
        ),
        (
            EngineError::Pull {
                image: "x".to_owned(),
                source: Box::new(PullError::OtherRoot { expected: digest(), got: Digest::of(b"other") }),
            },
            Verification,
            Some("mvmctl image rm on its names forgets what it was"),
        ),
        (
            EngineError::SeveralDamaged { count: 2, names: vec!["x".to_owned(), "y".to_owned()] },
            Verification,
            Some("mvmctl image verify --all --discard, then mvmctl pull on their names"),
        ),
        (
            EngineError::DefaultKernel(digest()),
            Conflict,
            Some("mvmctl kernel default makes another one the default"),
        ),
        (
            EngineError::KernelInUse { digest: digest(), vms: vec![name(), "db".parse().unwrap()] },
            Conflict,
            Some("mvmctl vm stop ends them"),
        ),
        (
            EngineError::ForeignPlatform {
                image: "x".to_owned(),
                platform: "linux/riscv64".parse().unwrap(),
                host: Platform::host(),
            },
            Usage,
            Some("choose another platform with --platform; other architectures are not supported"),
        ),
        (
            EngineError::Io { act: "read", path: path(), source: io_error(io::ErrorKind::NotFound) },
            Failure,
            None,
        ),
        (
            EngineError::Start { message: "m".to_owned(), kind: Refused, hint: Some("sign it".to_owned()) },
            Refused,
            Some("sign it"),
        ),
        (EngineError::Start { message: "m".to_owned(), kind: Missing, hint: None }, Missing, None),
    ]
}

fn of_machines() -> Vec<Row> {
    use ErrorKind::*;
    let not_installed = || ExecError::NotFound { program: "q".to_owned(), searched: "/bin".to_owned() };
    vec![
        (VmError::NotFound(name()).into(), NotFound, Some("mvmctl vm ls --all lists them")),
        (VmError::NameTaken(name()).into(), Conflict, Some("choose another name, or: mvmctl vm rm web")),
        (VmError::Running(name()).into(), Conflict, Some("mvmctl vm stop web, or rm --force")),
        (
            VmError::NotRunning { name: name(), phase: Phase::Exited }.into(),
            Conflict,
            Some("mvmctl vm start web; mvmctl vm status web says how it ended"),
        ),
        (refused(FailureKind::NotFound), CommandNotFound, None),
        (refused(FailureKind::NotExecutable), CommandNotExecutable, None),
        (refused(FailureKind::NoSuchUser), Failure, None),
        (AttachError::Interrupted.into(), Interrupted, None),
        (
            AttachError::Gone.into(),
            Failure,
            Some("console.log and supervisor.log in the VM's directory say more, unless it ran with --rm"),
        ),
        (
            AttachError::Ended("stopped".to_owned()).into(),
            Failure,
            Some("console.log and supervisor.log in the VM's directory say more, unless it ran with --rm"),
        ),
        (
            LaunchError::NotInstalled { program: "q", package: "p", source: not_installed() }.into(),
            Missing,
            Some("apt-get install --no-install-recommends p"),
        ),
        (
            mvm_launch::ScratchError::NotInstalled(not_installed()).into(),
            Missing,
            Some("apt-get install e2fsprogs"),
        ),
        (
            LaunchError::from(mvm_launch::ShareError::NotInstalled(not_installed())).into(),
            Missing,
            Some(
                "apt-get install virtiofsd (Debian 13), or cargo install virtiofsd (1.13 or later); without it mvmctl cp \
                 copies files, and a volume keeps them",
            ),
        ),
        (
            DirectoryError::Absent { path: path() }.into(),
            NotFound,
            Some("make it first; a name without a slash is a volume's, which is made"),
        ),
        (
            DirectoryError::Store { path: path(), store: path() }.into(),
            Usage,
            Some("with it a guest could sign for itself; mount a directory beside it"),
        ),
        (
            DirectoryError::Open { path: path(), source: io_error(io::ErrorKind::PermissionDenied) }.into(),
            Failure,
            None,
        ),
        (
            LaunchError::Memory { version: "6.1".to_owned(), given_mib: 32, needed_mib: 87 }.into(),
            Usage,
            Some("--memory 87m or more"),
        ),
        (
            SupervisorError::HypervisorEnded { status: "exit status: 1".to_owned(), said: String::new() }
                .into(),
            Failure,
            None,
        ),
        (KeysError::Exposed { path: path(), mode: 0o644 }.into(), Failure, None),
        (
            AuditError::Io { act: "write", path: path(), source: io_error(io::ErrorKind::StorageFull) }
                .into(),
            Failure,
            Some("nothing is done that the audit log can't tell of; free some space"),
        ),
        (
            AuditError::Verify {
                path: path(),
                source: Box::new(crate::audit_log::Tampering::Chain(mvm_plan::audit::VerifyError::Edited {
                    line: 1,
                    entry: 0,
                })),
            }
            .into(),
            Verification,
            None,
        ),
        (PolicyFileError::from(mvm_plan::policy::Policy::builtin("lax").unwrap_err()).into(), Usage, None),
    ]
}

fn of_the_store_and_registries() -> Vec<Row> {
    use ErrorKind::*;
    vec![
        (KernelError::None { asked: "ab".to_owned() }.into(), NotFound, Some("mvmctl kernel ls lists them")),
        (KernelError::Ambiguous { asked: "ab".to_owned(), matches: vec![] }.into(), Usage, None),
        (KernelError::Digest { expected: digest(), got: digest() }.into(), Verification, None),
        (StoreError::NoImage { root: digest() }.into(), NotFound, None),
        (
            StoreError::InUse { requested: "x".to_owned(), holders: vec!["vm:web".to_owned()] }.into(),
            Conflict,
            Some("mvmctl vm rm removes VMs; mvmctl ps -a lists them"),
        ),
        (
            StoreError::SeveralReferences { requested: "x".to_owned(), references: vec![] }.into(),
            Conflict,
            None,
        ),
        (StoreError::Length { path: path(), expected: 1, got: 2 }.into(), Verification, None),
        (StoreError::Cancelled { what: "x".to_owned() }.into(), Interrupted, None),
        (StoreError::Newer { path: path(), found: 2, supported: 1 }.into(), Failure, Some(NEWER)),
        (
            StoreError::from(IndexError::Newer { path: path(), found: 2, supported: 1 }).into(),
            Failure,
            Some(NEWER),
        ),
        (StoreError::from(IndexError::Busy { act: "x", path: path() }).into(), Conflict, None),
        (StoreError::Pinned { requested: "x".to_owned() }.into(), Conflict, Some("mvmctl image unpin x")),
        (StoreError::NoScope { name: scope() }.into(), NotFound, Some("mvmctl scope ls lists them")),
        (
            StoreError::ScopePinned { name: scope(), count: 1 }.into(),
            Conflict,
            Some("--force removes it all the same"),
        ),
        (
            StoreError::ScopeInUse { name: scope() }.into(),
            Conflict,
            Some("it is free when its VMs (mvmctl vm ls) and other commands have ended"),
        ),
        (EngineError::NotPinned("x".to_owned()), NotFound, Some("mvmctl image ls shows which are")),
        (FetchError::Cancelled.into(), Interrupted, None),
        (FetchError::Registry(RegistryError::Address { host: "h".to_owned() }).into(), Network, None),
        (FetchError::Abandoned.into(), Failure, None),
        (
            layout(LayoutError::Open { path: path(), source: io_error(io::ErrorKind::NotFound) }),
            NotFound,
            None,
        ),
        (
            layout(LayoutError::Open { path: path(), source: io_error(io::ErrorKind::PermissionDenied) }),
            Failure,
            None,
        ),
        (layout(LayoutError::NotALayout { path: path(), missing: "index.json" }), NotFound, None),
        (layout(LayoutError::Empty { path: path() }), NotFound, None),
        (layout(LayoutError::NotAFile { path: path() }), Usage, None),
        (layout(LayoutError::Compressed { path: path(), compression: "gzip" }), Usage, None),
        (layout(LayoutError::Several { path: path(), names: vec![] }), Usage, None),
        (layout(LayoutError::ReadBlob(io_error(io::ErrorKind::Other))), Failure, None),
        (layout(LayoutError::Version { path: path(), version: "9".to_owned() }), Verification, None),
    ]
}

#[test]
fn errors_have_a_kind_and_some_have_advice() {
    for (error, kind, hint) in table() {
        assert_eq!((error.kind(), error.hint().as_deref()), (kind, hint), "{error:?}");
    }
}

#[test]
fn words_are_one_line_and_do_not_repeat_themselves() {
    for (error, ..) in table() {
        let words = crate::error::chain(&error);
        assert!(!words.contains('\n') && !words.ends_with('.'), "{words}");
        assert!(
            words.starts_with(|first: char| !first.is_ascii_uppercase() || words.starts_with("VM")),
            "{words}"
        );
        let mut parts: Vec<&str> = words.split(": ").collect();
        let all = parts.len();
        parts.dedup();
        assert_eq!(parts.len(), all, "{words}");
    }
}

#[test]
fn a_chain_leaves_out_a_cause_that_was_said() {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] Inner);
    #[derive(Debug, thiserror::Error)]
    #[error("no space")]
    struct Inner;
    assert_eq!(crate::error::chain(&Outer("write /x", Inner)), "write /x: no space");
    assert_eq!(crate::error::chain(&Outer("write /x: no space", Inner)), "write /x: no space");
}
