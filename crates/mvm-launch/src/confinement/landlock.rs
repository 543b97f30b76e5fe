//! A Landlock ruleset (landlock(7)): the few files that a hypervisor may open once it is confined.
//!
//! What it was given as descriptors needs no rule. Everything else is refused: writing anywhere, reading anything but
//! its own program, libraries and firmware, and, as far as the kernel knows how, TCP, abstract sockets and signals to
//! others.

use super::program::executables;
use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use std::path::{Path, PathBuf};

/// Tells programs which name servers to ask.
const RESOLVERS: &str = "/etc/resolv.conf";

/// What is told of a kernel without it.
pub(super) const LACKING: &str =
    "this kernel has no Landlock (Linux 5.13 with CONFIG_SECURITY_LANDLOCK, and landlock in lsm=)";

/// The newest version of the interface whose restrictions are asked for.
const NEWEST: ABI = ABI::V6;

/// Where systems keep libraries and QEMU's firmware. What is not there needs no rule.
const SYSTEM: [&str; 12] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/share/edk2",
    "/usr/local/share/qemu",
];

/// The same below the directory that a program is installed in.
const INSTALLED: [&str; 3] = ["lib", "lib64", "share/qemu"];

/// Stores in which a program's libraries lie in directories of their own.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];

/// Files that the dynamic linker and the C library read.
const FILES: [&str; 4] = ["/etc/ld.so.cache", "/etc/ld.so.preload", "/dev/urandom", "/dev/random"];

/// Says why no ruleset could be made.
#[derive(Debug, thiserror::Error)]
pub enum LandlockError {
    /// The kernel refused the ruleset or a rule.
    #[error("make the ruleset")]
    Ruleset(#[from] RulesetError),
    /// A file that a rule is about cannot be looked at.
    #[error("open {} for a rule", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel knows Landlock no longer.
    #[error("the kernel has no Landlock")]
    Lacking,
}

/// Returns the version of the interface that this kernel has, as far as this program makes use of it.
pub(super) fn version() -> Option<u8> {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let files = |abi| strict().handle_access(AccessFs::from_all(abi)).is_ok();
    let versions = [
        (1, files(ABI::V1)),
        (2, files(ABI::V2)),
        (3, files(ABI::V3)),
        (4, strict().handle_access(AccessNet::from_all(ABI::V4)).is_ok()),
        (5, files(ABI::V5)),
        (6, strict().scope(Scope::from_all(ABI::V6)).is_ok()),
    ];
    versions.into_iter().take_while(|(_, known)| *known).last().map(|(version, _)| version)
}

/// Tells what a version restricts.
pub(super) fn describe(version: u8) -> String {
    let also = match version {
        ..4 => "",
        4..6 => ", no TCP",
        6.. => ", no TCP, abstract sockets or signals to others",
    };
    format!("interface {version}: opens its own files only{also}")
}

/// What a program may open beside its libraries.
pub(super) struct Allowed<'a> {
    /// The program.
    pub program: &'a Path,
    /// Files that it reads.
    pub readable: &'a [BorrowedFd<'a>],
    /// Devices that it reads, writes and controls.
    pub devices: &'a [&'a Path],
}

/// Makes the ruleset for a program; it restricts whoever enforces it.
pub(super) fn ruleset(allowed: &Allowed<'_>) -> Result<OwnedFd, LandlockError> {
    let mut rules = Rules(
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?,
    );
    rules.program(allowed.program)?;
    for device in allowed.devices {
        rules.path(device, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    for file in allowed.readable {
        rules.add(file, AccessFs::ReadFile.into())?;
    }
    rules.finish()
}

/// Makes the ruleset for a program that makes a socket in `directory`, connects to anywhere, and finds name servers.
pub(super) fn helper_ruleset(program: &Path, directory: BorrowedFd<'_>) -> Result<OwnedFd, LandlockError> {
    let mut rules = Rules(
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::from_all(NEWEST))?
            .create()?,
    );
    rules.program(program)?;
    rules.add(&directory, AccessFs::MakeSock.into())?;
    // The directories, since the file is replaced as a whole when the host comes to another network.
    let resolvers = Path::new(RESOLVERS);
    let real = resolvers.canonicalize().ok();
    for directory in [Some(resolvers), real.as_deref()].into_iter().flatten().filter_map(Path::parent) {
        rules.path(directory, AccessFs::ReadFile.into())?;
    }
    rules.finish()
}

/// Makes the ruleset for a program that serves `directory` to a machine: it may change what is there unless that is
/// `read_only`, and make no devices.
pub(super) fn directory_ruleset(
    program: &Path,
    directory: BorrowedFd<'_>,
    read_only: bool,
) -> Result<OwnedFd, LandlockError> {
    let mut rules = Rules(
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?,
    );
    rules.program(program)?;
    // Its own maps of ids, its mounts and its descriptors.
    rules.path(Path::new("/proc"), AccessFs::ReadFile.into())?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let not_for_files = AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev;
    rules.add(&directory, if read_only { read } else { AccessFs::from_all(NEWEST) & !not_for_files })?;
    rules.finish()
}

struct Rules(RulesetCreated);

impl Rules {
    /// Allows a program to be executed, and to read its libraries and what comes with it.
    fn program(&mut self, program: &Path) -> Result<(), LandlockError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let program = match program.canonicalize() {
            Ok(program) => program,
            // Who starts it will be told.
            Err(error) if error.kind() == io::ErrorKind::NotFound => program.to_owned(),
            Err(source) => return Err(fail(program, source)),
        };
        for file in executables(&program).map_err(|source| fail(&program, source))? {
            self.path(&file, AccessFs::ReadFile | AccessFs::Execute)?;
        }
        for directory in SYSTEM {
            self.path(Path::new(directory), read)?;
        }
        if let Some(installed) =
            program.parent().and_then(Path::parent).filter(|path| *path != Path::new("/"))
        {
            for directory in INSTALLED {
                self.path(&installed.join(directory), read)?;
            }
        }
        for store in STORES.into_iter().filter(|store| program.starts_with(store)) {
            self.path(Path::new(store), read | AccessFs::Execute)?;
        }
        for file in FILES {
            self.path(Path::new(file), AccessFs::ReadFile.into())?;
        }
        self.path(Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)
    }

    fn finish(self) -> Result<OwnedFd, LandlockError> {
        Option::<OwnedFd>::from(self.0).ok_or(LandlockError::Lacking)
    }

    /// Allows `access` at or below `path`, unless nothing is there.
    fn path(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), LandlockError> {
        // Asked first: the crate's own error does not tell an absent file from others.
        match path.metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(fail(path, source)),
        }
        let file = PathFd::new(path).map_err(|error| fail(path, io::Error::other(error)))?;
        self.add(&file, access)
    }

    fn add(&mut self, file: &impl AsFd, access: BitFlags<AccessFs>) -> Result<(), LandlockError> {
        (&mut self.0).add_rule(PathBeneath::new(file, access))?;
        Ok(())
    }
}

fn fail(path: &Path, source: io::Error) -> LandlockError {
    LandlockError::Open { path: path.to_owned(), source }
}
