//! How a program is confined that carries a machine's packets.

use super::landlock;
use super::reservation::{ConfinementError, Reservation, start};
use super::user::ReservedUser;
use crate::exec::{Identity, Restrictions};
use rustix::fd::BorrowedFd;
use rustix::process::Resource;
use std::path::{Path, PathBuf};

/// Descriptors: each of a guest's connections takes one.
const DESCRIPTORS: u64 = 1024;
/// Memory of its own, in bytes. Each connection's buffers take up to a quarter MiB.
const DATA: u64 = 256 << 20;
/// It starts one process, which ends when somebody has connected.
const PROCESSES: u64 = 8;

/// What a helper has for itself, and what its process does to itself before it begins.
///
/// It is in its machine's control group, so that what a guest has it hold counts as the machine's, but has a user of its
/// own, so that a hypervisor that is taken over can't touch it.
#[derive(Debug)]
pub struct HelperConfinement {
    user: Option<ReservedUser>,
    group: Option<PathBuf>,
    landlock: bool,
}

impl Reservation {
    /// Reserves what a helper of the machine needs for itself.
    pub(crate) fn for_helper(&self) -> Result<HelperConfinement, ConfinementError> {
        Ok(HelperConfinement {
            user: if self.has_own_user() { Some(ReservedUser::take(start()?)?) } else { None },
            group: self.group_door(),
            landlock: self.has_landlock(),
        })
    }
}

impl HelperConfinement {
    /// Returns what a process has to do to itself. It may make a socket in `directory`, which becomes its user's.
    pub(crate) fn restrict(
        &self,
        program: &Path,
        path: &Path,
        directory: BorrowedFd<'_>,
    ) -> Result<Restrictions, ConfinementError> {
        let failed = |act| move |source| ConfinementError::Io { act, source };
        let mut limits = vec![
            (Resource::Core, 0),
            (Resource::Nofile, DESCRIPTORS),
            (Resource::Fsize, 0),
            (Resource::Data, DATA),
        ];
        let mut restrictions = Restrictions::default();
        if let Some(user) = &self.user {
            let (uid, gid) = (user.uid(), user.gid());
            std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                .map_err(failed("give a directory to the network helper"))?;
            restrictions.identity = Some(Identity { user: uid, group: gid, groups: Vec::new() });
            limits.push((Resource::Nproc, PROCESSES));
        }
        if let Some(group) = &self.group {
            let door = std::fs::File::options().write(true).open(group);
            restrictions.cgroup = Some(door.map_err(failed("open the control group of the network helper"))?);
        }
        if self.landlock {
            restrictions.ruleset = Some(landlock::helper_ruleset(program, directory)?);
        }
        restrictions.limits = limits;
        Ok(restrictions)
    }

    /// Tells what holds for the helper.
    pub(crate) fn describe(&self) -> String {
        let user = self.user.as_ref().map_or_else(
            || "its supervisor's user".to_owned(),
            |user| format!("uid {}", user.uid().as_raw()),
        );
        let landlock = if self.landlock { ", Landlock" } else { "" };
        let group = if self.group.is_some() { ", the machine's control group" } else { "" };
        format!(
            "{user}, no capabilities, none to gain{landlock}{group}, {DESCRIPTORS} descriptors, {} MiB",
            DATA >> 20
        )
    }
}
