//! How a program is confined that serves a directory of the host to a machine.

use super::landlock;
use super::reservation::{ConfinementError, Reservation};
use crate::exec::{Identity, OwnNamespaces, Restrictions};
use rustix::fd::BorrowedFd;
use rustix::process::{Gid, Resource, Uid};
use std::path::Path;

/// Descriptors: each file that the guest's kernel remembers takes one.
const DESCRIPTORS: u64 = 512 * 1024;
/// Memory of its own, in bytes. Each file that is remembered takes a third of a KiB.
const DATA: u64 = 256 << 20;

impl Reservation {
    /// Returns what a process has to do to itself that serves `directory`, and the user and the group that it has then:
    /// the caller's, or for root those of the directory's owner, so that root's power over files is not the guest's.
    pub(crate) fn for_directory(
        &self,
        program: &Path,
        directory: BorrowedFd<'_>,
        read_only: bool,
    ) -> Result<(Restrictions, (Uid, Gid)), ConfinementError> {
        let failed = |act| move |source| ConfinementError::Io { act, source };
        let (mut user, mut group) = (rustix::process::geteuid(), rustix::process::getegid());
        let mut restrictions = Restrictions::default();
        if user.is_root() {
            let stat = rustix::fs::fstat(directory)
                .map_err(|errno| failed("inspect a shared directory")(errno.into()))?;
            (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            restrictions.identity = Some(Identity { user, group, groups: Vec::new() });
        }
        // Its hard limit is all that an ordinary user has.
        let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS);
        restrictions.limits =
            vec![(Resource::Core, 0), (Resource::Nofile, most.min(DESCRIPTORS)), (Resource::Data, DATA)];
        restrictions.namespaces = Some(OwnNamespaces::of(user, group));
        if let Some(group) = self.group_door() {
            let door = std::fs::File::options().write(true).open(group);
            restrictions.cgroup = Some(door.map_err(failed("open the control group of a shared directory"))?);
        }
        if self.has_landlock() {
            restrictions.ruleset = Some(landlock::directory_ruleset(program, directory, read_only)?);
        }
        Ok((restrictions, (user, group)))
    }
}
