//! What one hypervisor has for itself, and what its process does to itself before it becomes the hypervisor.

use super::cgroup::{CgroupError, Group};
use super::host::Host;
use super::landlock::{self, Allowed, LandlockError};
use super::measure::{Measure, Protection};
use super::user::{ReservedUser, UserError};
use crate::backend::Accelerator;
use crate::exec::{Identity, Restrictions};
use rustix::fd::BorrowedFd;
use rustix::process::{Gid, Resource};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Threads of QEMU beside two for each of the guest's processors.
const THREADS: u32 = 128;
/// Descriptors of QEMU beside those of the guest's processors and their queues.
const DESCRIPTORS: u32 = 256;
/// Descriptors for each processor.
const DESCRIPTORS_EACH: u32 = 8;

/// Says why a hypervisor cannot be confined as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// No user could be reserved.
    #[error("cannot give the hypervisor a user of its own")]
    User(#[from] UserError),
    /// The group, which was made, cannot be used.
    #[error("cannot limit the hypervisor by a control group")]
    Cgroup(#[from] CgroupError),
    /// The files that it may open cannot be told to the kernel.
    #[error("cannot limit the hypervisor to its own files")]
    Landlock(#[from] LandlockError),
    /// Its user could not open the KVM device.
    #[error("{} cannot be opened by the hypervisor's own user (mode {mode:03o})", path.display())]
    Kvm {
        /// The device.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file of the machine, or of the kernel's, could not be looked at or made readable.
    #[error("{act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is to be confined.
#[derive(Debug)]
pub struct Task<'a> {
    /// The program.
    pub program: &'a Path,
    /// The guest's processors.
    pub cpus: u32,
    /// The guest's memory.
    pub memory_mib: u32,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Files that it opens again by their descriptors.
    pub readable: &'a [BorrowedFd<'a>],
    /// The bytes of the largest file that it may write.
    pub largest_file: u64,
}

/// A user and a control group that no other hypervisor has while this lives.
#[derive(Debug)]
pub struct Reservation {
    host: Host,
    user: Option<ReservedUser>,
    group: Option<Group>,
}

impl Reservation {
    pub(super) fn new(mut host: Host) -> Result<Self, ConfinementError> {
        let user = match host.own_user {
            Ok(()) => Some(ReservedUser::take(start()?)?),
            Err(_) => None,
        };
        let group = match &host.cgroup {
            Ok(tree) => match Group::make(tree) {
                Ok(group) => Some(group),
                // Best effort: what the tree looked like was not all there is to it.
                Err(error) => {
                    host.cgroup = Err(error.in_full());
                    None
                }
            },
            Err(_) => None,
        };
        Ok(Self { host, user, group })
    }

    /// Returns the names of the measures that will hold.
    pub fn active(&self) -> BTreeSet<String> {
        self.host.active()
    }

    /// Returns what a process has to do to itself, and what holds for it then.
    ///
    /// All that [`Reservation::active`] promised is in it, or this fails. The files of `task` are made readable to
    /// the reserved user; the directories above them stay closed.
    pub(crate) fn restrict(
        &self,
        task: &Task<'_>,
    ) -> Result<(Restrictions, Vec<Protection>), ConfinementError> {
        let mut protections = self.host.protections();
        let mut tell = |measure, detail: String| {
            for known in protections.iter_mut().filter(|known| known.measure == measure) {
                known.detail.clone_from(&detail);
            }
        };
        let mut restrictions = Restrictions { limits: self.limits(task), ..Restrictions::default() };
        tell(Measure::ResourceLimits, describe(&restrictions.limits));
        if let Some(user) = &self.user {
            for file in task.readable {
                make_readable(*file)?;
            }
            let groups = self.kvm_group(task)?.into_iter().collect();
            restrictions.identity = Some(Identity { user: user.uid(), group: user.gid(), groups });
            tell(Measure::OwnUser, format!("uid {}", user.uid().as_raw()));
        }
        if let Some(group) = &self.group {
            tell(Measure::Cgroup, group.limit(task)?);
            restrictions.cgroup = Some(group.door()?);
        }
        if self.host.landlock.is_some() {
            let devices: &[&Path] = match task.accelerator {
                Accelerator::Kvm => &[&self.host.kvm],
                Accelerator::Tcg => &[],
            };
            let allowed = Allowed { program: task.program, readable: task.readable, devices };
            restrictions.ruleset = Some(landlock::ruleset(&allowed)?);
        }
        Ok((restrictions, protections))
    }

    pub(super) fn has_own_user(&self) -> bool {
        self.user.is_some()
    }

    pub(super) fn has_landlock(&self) -> bool {
        self.host.landlock.is_some()
    }

    /// Returns the file by which a process joins the machine's control group, if it has one.
    pub(super) fn group_door(&self) -> Option<PathBuf> {
        self.group.as_ref().map(Group::door_path)
    }

    fn limits(&self, task: &Task<'_>) -> Vec<(Resource, u64)> {
        let mut limits = vec![
            (Resource::Core, 0),
            (Resource::Nofile, (DESCRIPTORS + DESCRIPTORS_EACH * task.cpus).into()),
            (Resource::Fsize, task.largest_file),
        ];
        if self.user.is_some() {
            // The kernel counts all threads of a user: where that is the caller, there are others.
            limits.push((Resource::Nproc, (THREADS + 2 * task.cpus).into()));
        }
        limits
    }

    /// Returns the group that may open the KVM device, if it takes one.
    fn kvm_group(&self, task: &Task<'_>) -> Result<Option<Gid>, ConfinementError> {
        if task.accelerator != Accelerator::Kvm {
            return Ok(None);
        }
        let path = &self.host.kvm;
        let meta = path
            .metadata()
            .map_err(|source| ConfinementError::Io { act: "inspect the KVM device", source })?;
        match meta.mode() & 0o777 {
            mode if mode & 0o006 == 0o006 => Ok(None),
            mode if mode & 0o060 == 0o060 && meta.gid() != 0 => Ok(Some(Gid::from_raw(meta.gid()))),
            mode => Err(ConfinementError::Kvm { path: path.clone(), mode }),
        }
    }
}

/// Lets everyone read a file who can reach it: by its path, that is nobody whom its directory does not let in.
fn make_readable(file: BorrowedFd<'_>) -> Result<(), ConfinementError> {
    let fail = |errno: rustix::io::Errno| ConfinementError::Io {
        act: "make a file of the machine readable to the hypervisor's user",
        source: errno.into(),
    };
    let mode = rustix::fs::Mode::from_raw_mode(rustix::fs::fstat(file).map_err(fail)?.st_mode & 0o7777);
    let readable = mode | rustix::fs::Mode::ROTH;
    if mode == readable { Ok(()) } else { rustix::fs::fchmod(file, readable).map_err(fail) }
}

/// Returns where in the range the search for a user begins: anywhere, so that none is soon used again.
pub(super) fn start() -> Result<u32, ConfinementError> {
    let mut bytes = [0; 4];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| ConfinementError::Io { act: "draw a random number", source: errno.into() })?;
    debug_assert_eq!(got, bytes.len(), "the kernel gives up to 256 bytes whole");
    Ok(u32::from_ne_bytes(bytes))
}

fn describe(limits: &[(Resource, u64)]) -> String {
    let told = limits.iter().map(|(resource, limit)| match resource {
        Resource::Core => format!("core files {limit} bytes"),
        Resource::Nofile => format!("open files {limit}"),
        Resource::Fsize => format!("files {limit} bytes"),
        _ => format!("threads {limit}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
