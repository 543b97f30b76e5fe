//! What collection is asked for, and what it says that it removed.

use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// What kind of thing was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollectedKind {
    /// An image file.
    Image,
    /// The files of a segment.
    Segment,
    /// A manifest, index or config.
    Document,
    /// What a maker who is gone left.
    Leftover,
    /// An initramfs that came with a plan.
    Initramfs,
    /// Signatures of images.
    Signatures,
    /// The note that a plan for one launch was launched.
    UsedPlan,
}

impl fmt::Display for CollectedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Segment => "segment",
            Self::Document => "document",
            Self::Leftover => "leftover",
            Self::Initramfs => "initramfs",
            Self::Signatures => "signatures",
            Self::UsedPlan => "used plan",
        })
    }
}

/// Why a thing was removed. All but the first two and the fourth tell of a crash, or of somebody else's doings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nothing refers to it.
    Unreferenced,
    /// The segments held more than their budget, and this one was unused longest.
    OverBudget,
    /// Its maker is gone.
    Abandoned,
    /// It has no effect any more.
    Expired,
    /// The index knows nothing of the file.
    Unrecorded,
    /// The file was gone, and only what the index had of it is removed.
    Lost,
    /// The file has another length than it was stored with.
    Torn,
    /// It was stored before the machine last started, and not known to have reached the disk.
    Unsynced,
    /// It was found not to be what its hashes say.
    Damaged,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unreferenced => "unreferenced",
            Self::OverBudget => "over budget",
            Self::Abandoned => "abandoned",
            Self::Expired => "expired",
            Self::Unrecorded => "unrecorded",
            Self::Lost => "lost",
            Self::Torn => "torn",
            Self::Unsynced => "unsynced",
            Self::Damaged => "damaged",
        })
    }
}

/// One thing that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Collected {
    /// What it was.
    pub kind: CollectedKind,
    /// Why it was removed.
    pub reason: Reason,
    /// Where it was, relative to the directory of the scope if it belonged to one.
    pub path: PathBuf,
    /// The bytes of disk that became free: none of a file that another thing has too.
    pub bytes: u64,
}

/// How to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Changes nothing and says what would be removed.
    pub dry_run: bool,
    /// Bytes of disk that segments may hold for themselves; beyond, those unused longest go first. None: no limit.
    pub segment_budget: Option<u64>,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// What was removed, in order of removal.
    pub removed: Vec<Collected>,
    /// The bytes of disk that became free.
    pub freed: u64,
    /// How many things nothing refers to but somebody is using or making right now.
    pub busy: usize,
}
