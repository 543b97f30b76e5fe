//! Secrets: taken from the host before anything is started, each into a file that the group of services may read.

use crate::boot::mounts::SECRETS;
use mvm_wire::{Connection, Direction, Failure, FailureKind, GuestDocument, Reply, ResetReason, StreamId};
use rustix::fs::{Mode, OFlags, fchmod, open, openat};
use rustix::mount::{MountFlags, mount_remount};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::fchown;
use zeroize::Zeroizing;

/// Bytes of a secret at most.
const MAX_SECRET: usize = 1 << 20;
/// What the mount had when it was made, and no more writing.
const SEALED: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The secrets that have come, and the one that is coming.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    taken: BTreeSet<String>,
    coming: Option<Coming>,
}

#[derive(Debug)]
struct Coming {
    request: u64,
    name: String,
    stream: StreamId,
    value: Zeroizing<Vec<u8>>,
}

/// An answer that had to wait for a stream.
pub(super) type Answer = (u64, Result<Reply, Failure>);

impl Secrets {
    /// Begins to take a secret; the answer follows with its end.
    pub(super) fn begin(
        &mut self,
        wire: &mut Connection,
        document: &GuestDocument,
        (request, name, stream): (u64, String, StreamId),
    ) -> Result<(), Failure> {
        let problem = if !document.secrets.contains(&name) {
            "is not in the guest document"
        } else if self.taken.contains(&name) {
            "was brought already"
        } else if self.coming.is_some() {
            "has to wait for the one before"
        } else {
            let accepted = wire.accept(stream, Direction::Receive);
            accepted.map_err(|error| failure(FailureKind::Invalid, error.to_string()))?;
            // As long as it can become, so that no copy is left behind where it grew.
            let value = Zeroizing::new(Vec::with_capacity(MAX_SECRET));
            self.coming = Some(Coming { request, name, stream, value });
            return Ok(());
        };
        Err(failure(FailureKind::Invalid, format!("secret {name:?} {problem}")))
    }

    /// Returns whether a stream carries a secret.
    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.coming.as_ref().is_some_and(|coming| coming.stream == stream)
    }

    /// Takes a piece of the value. One that is too long is answered at once.
    pub(super) fn take_data(&mut self, wire: &mut Connection, bytes: &[u8]) -> Option<Answer> {
        let coming = self.coming.as_mut()?;
        wire.consumed(coming.stream, bytes.len());
        if coming.value.len() + bytes.len() <= MAX_SECRET {
            coming.value.extend_from_slice(bytes);
            return None;
        }
        let coming = self.coming.take()?;
        wire.reset(coming.stream, ResetReason::Closed);
        let words = format!("secret {:?} has more than {MAX_SECRET} bytes", coming.name);
        Some((coming.request, Err(failure(FailureKind::Limit, words))))
    }

    /// Takes the end of the value and puts it into its file; after the last one nothing can be written there.
    pub(super) fn take_eof(&mut self, document: &GuestDocument) -> Option<Answer> {
        let coming = self.coming.take()?;
        let gid = document.service_group.as_ref().map_or(0, |group| group.gid);
        let mut stored = store(&coming, gid);
        self.taken.insert(coming.name.clone());
        if stored.is_ok() && self.taken.len() == document.secrets.len() {
            stored = mount_remount(SECRETS, SEALED, c"").map_err(io::Error::from);
        }
        let result = stored.map(|()| Reply::Done {}).map_err(|error| {
            failure(FailureKind::Internal, format!("storing secret {:?} failed: {error}", coming.name))
        });
        Some((coming.request, result))
    }

    /// Takes the host's giving up of the stream.
    pub(super) fn take_reset(&mut self) -> Option<Answer> {
        let coming = self.coming.take()?;
        let words = format!("secret {:?} broke off", coming.name);
        Some((coming.request, Err(failure(FailureKind::Invalid, words))))
    }
}

fn store(coming: &Coming, gid: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(SECRETS, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&directory, coming.name.as_str(), flags, Mode::RUSR)?);
    file.write_all(&coming.value)?;
    fchown(&file, Some(0), Some(gid))?;
    Ok(fchmod(&file, Mode::from_raw_mode(0o440))?)
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}
