//! What happened to VMs: one file for all of a store, written by whoever does it or sees it.

use super::writer::{append_to, numbered};
use super::{EVENTS, now};
use mvm_plan::UtcTime;
use mvm_ref::VmName;
use mvm_wire::{Health, ServiceState};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// When the file is full, in bytes.
const LIMIT: u64 = 4 << 20;
/// How often a writer looks whether another one is done, 2 ms apart: who only tells of something waits for nobody long.
const TURNS: u32 = 100;
/// How many events a supervisor may write at once, and how long it takes until it may write another one: what a guest
/// does must not push out what happened to others.
const BURST: u32 = 200;
const PAUSE: Duration = Duration::from_millis(500);
/// Most characters of a text that a guest chose.
const TEXT: usize = 1024;

/// Something that happened to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEvent {
    /// When.
    pub time: UtcTime,
    /// To which VM.
    pub vm: VmName,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// Its hypervisor runs.
    Started {
        /// `kvm` or `emulated`.
        isolation: String,
    },
    /// Its guest has booted.
    Ready {},
    /// A service came into another state, as the guest says.
    Service {
        /// The service.
        service: String,
        /// The state.
        state: ServiceState,
        /// Why, if the guest says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A health check came to another result, as the guest says.
    Health {
        /// The health check.
        check: String,
        /// The service that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// The result.
        health: Health,
    },
    /// Its hypervisor was stopped where it was.
    Paused {},
    /// Its hypervisor goes on.
    Resumed {},
    /// It was asked to end.
    Stopping {},
    /// It ended: by itself, or because it was asked to.
    Exited {
        /// Exit code of its main process, where it ended by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<u8>,
    },
    /// It ended before its time.
    Died {
        /// Why.
        message: String,
    },
    /// It is started again.
    Restarting {
        /// How often that happened since it last ran for long.
        attempt: u32,
        /// After how many milliseconds.
        delay_ms: u64,
    },
    /// It has another name now.
    Renamed {
        /// The name that it had.
        from: VmName,
    },
    /// It was removed.
    Removed {},
    /// It runs another image or plan now.
    Updated {
        /// The number of its generation.
        generation: u32,
    },
    /// Events were left out, because there were too many.
    Dropped {
        /// How many.
        count: u64,
    },
}

/// Appends events to the file of a store.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    left: u32,
    since: Instant,
    dropped: u64,
    failure: Option<io::Error>,
}

impl EventLog {
    /// Names the file; it is made with the first event.
    pub fn new(root: &Path) -> Self {
        let path = root.join(EVENTS);
        Self { path, left: BURST, since: Instant::now(), dropped: 0, failure: None }
    }

    /// Appends an event, unless there were too many of late. That it can't be written changes nothing for the VM; the
    /// first failure is kept.
    pub fn tell(&mut self, vm: &VmName, what: Happening) {
        if !self.may() {
            self.dropped += 1;
            return;
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.put(vm, Happening::Dropped { count: dropped });
        }
        self.put(vm, what.shortened());
    }

    /// Returns why an event is missing, if one is.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(format!("{} is incomplete: {failure}", self.path.display()))
    }

    fn may(&mut self) -> bool {
        let earned = self.since.elapsed().as_millis() / PAUSE.as_millis();
        if earned > 0 {
            self.left = BURST.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.since = Instant::now();
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    fn put(&mut self, vm: &VmName, what: Happening) {
        let event = VmEvent { time: now(), vm: vm.clone(), what };
        if let Err(error) = append(&self.path, &event) {
            self.failure.get_or_insert(error);
        }
    }
}

impl Happening {
    fn shortened(mut self) -> Self {
        let shorten = |text: &mut String| {
            if let Some((end, _)) = text.char_indices().nth(TEXT) {
                text.truncate(end);
            }
        };
        match &mut self {
            Self::Service { service, reason, .. } => {
                shorten(service);
                reason.iter_mut().for_each(shorten);
            }
            Self::Health { check, service, .. } => {
                shorten(check);
                service.iter_mut().for_each(shorten);
            }
            Self::Died { message } => shorten(message),
            _ => {}
        }
        self
    }
}

fn append(path: &Path, event: &VmEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    loop {
        let mut file = append_to(path)?;
        lock(&file)?;
        // Another writer may have made it the old one between the two steps.
        let metadata = file.metadata()?;
        match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => continue,
        }
        if metadata.len() >= LIMIT {
            fs::rename(path, numbered(path, 1))?;
            continue;
        }
        let written = file.write_all(&line);
        if written.is_err() {
            // On a full disk: no half a line may be in the way of the next one.
            file.set_len(metadata.len())?;
        }
        return written;
    }
}

/// Waits for other writers, but not for one that is stopped.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..TURNS {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds it"))
}
