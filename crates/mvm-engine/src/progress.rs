//! What a long operation tells about itself, and how it is told to stop.

use crate::flake::BuildCounts;
use mvm_ref::Digest;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One step of a pull, in the order in which a person would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A reference was resolved to this manifest.
    Resolved {
        /// What was asked for.
        requested: String,
        /// The manifest that it names.
        manifest: Digest,
    },
    /// A layer is going to be fetched.
    LayerStarted {
        /// Digest of the stored layer.
        layer: Digest,
        /// Its stored size in bytes.
        size: u64,
    },
    /// More stored bytes of a layer have arrived.
    LayerBytes {
        /// Digest of the stored layer.
        layer: Digest,
        /// Bytes so far.
        received: u64,
    },
    /// A layer was fetched, verified and kept.
    LayerDone {
        /// Digest of the stored layer.
        layer: Digest,
    },
    /// A layer was in the store already.
    LayerCached {
        /// Digest of the stored layer.
        layer: Digest,
    },
    /// A layer is going to be uploaded.
    UploadStarted {
        /// Digest of the layer as it is sent.
        layer: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A registry has a layer.
    LayerSent {
        /// Digest of the layer there.
        layer: Digest,
        /// How it came there.
        how: Sent,
    },
    /// So many paths of a closure are going to be fetched from the builder.
    Closure {
        /// Paths of the closure.
        paths: usize,
        /// Those that the scope lacks.
        missing: usize,
        /// Bytes of their NARs.
        size: u64,
    },
    /// More of a closure was fetched and verified.
    ClosureBytes {
        /// Bytes of NARs so far.
        received: u64,
    },
    /// The root file system is being put together.
    Assembling,
    /// The root file system is complete.
    Assembled {
        /// Its dm-verity root hash.
        root_hash: Digest,
        /// Length of its file in bytes.
        size: u64,
    },
    /// The builder is going to be started.
    BuilderStarting,
    /// A derivation begins to be built.
    Building {
        /// Its name.
        derivation: String,
    },
    /// A line of Nix, or of a derivation.
    BuildLine {
        /// The derivation; none for Nix itself.
        of: Option<String>,
        /// The text, without what steers a terminal.
        text: String,
    },
    /// A build has come further.
    BuildCounted(BuildCounts),
    /// Something worth saying once, such as a fall-back to emulation.
    Notice(String),
}

/// How a registry came by a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It had it.
    Present,
    /// It took it over from another of its repositories.
    Mounted,
    /// It was uploaded.
    Uploaded,
}

/// Hears the steps of an operation, possibly from several threads.
pub trait Progress: Sync {
    /// Takes one step.
    fn step(&self, step: Step);
}

/// Hears nothing.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: Step) {}
}

/// A flag that asks an operation to stop soon and leave nothing half-made.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Wraps a flag that a signal handler may set.
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Returns whether the operation is to stop.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the flag itself, for code that polls it.
    pub fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }
}
