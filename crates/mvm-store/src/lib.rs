//! The local store: documents, segments, images, kernels; scopes, leases, collection.
//!
//! A store is one directory of one Unix user. Its scopes partition what was pulled: each has a directory and
//! a SQLite index (WAL) of its own, and a hit in one says nothing about another.
//!
//! ```text
//! <root>/store.json                                  format of the store
//!        settings.toml                               what the user set, read by the engine
//!        kernels/<sha256 of the kernel>/{kernel,modules.cpio,info.json}, kernels/default
//!        scopes/<name>/index.db                      what refers to what
//!                      documents/<sha256>            manifests, indexes, configs
//!                      segments/<diff ID>-g<N>/{data,tails,leaves,index,sums}
//!                      images/<root hash>.img
//!                      volumes/<name>/disk.img       disks of users, which nothing collects
//!                      staging/                      what is being made, and the locks of those who make it
//!        vms/ cache/ audit/ keys/                    the engine's
//! ```
//!
//! # What holds at any moment, also after `kill -9`
//! - A thing becomes visible by one rename and then one row; a row without its file, or a file without its
//!   row, is ignored by look-ups and removed by [`Scope::gc`].
//! - Images and documents are on the disk before the row that names them. Segments are a cache that can be
//!   fetched again, so nobody waits for the disk on their behalf: a segment of an earlier boot that was not
//!   sealed (synced later, by [`Scope::gc`] or [`Scope::seal_segments`]) is not trusted, because after a loss
//!   of power a file can have its length and not its data.
//! - [`Segment`] and [`Image`] hold a shared `flock(2)` on what they name, and collection removes only what it
//!   can lock exclusively. Work in progress holds a lock in `staging/`; what lies there without a holder is
//!   left over from a crash.
//! - Whoever has a scope open holds `staging/` itself locked shared, and a scope is removed only by who locks it exclusively.
//!
//! File names are made of digests and scope names only. Symbolic links are refused everywhere below the root.

mod dir;
mod error;
mod host;
mod index;
mod kernels;
mod lock;
mod scope;
mod scopes;
mod store;

pub use dir::FileError;
pub use error::StoreError;
pub use host::{ProcessError, ProcessId};
pub use index::IndexError;
pub use kernels::{Kernel, KernelError, NewKernel};
pub use scope::Scope;
pub use scope::builder::{BuilderClaim, BuilderLock};
pub use scope::documents::MAX_DOCUMENT;
pub use scope::images::{Image, ImageClaim, ImageRecord, ImageSlot};
pub use scope::leases::{LeaseRecord, LeaseTerm};
pub use scope::names::{ImageListing, ManifestRecord, ResolutionRecord};
pub use scope::remove::Removed;
pub use scope::report::{Collected, CollectedKind, GcOptions, GcReport, Reason};
pub use scope::segments::{
    Claim, DATA_START, Segment, SegmentFiles, SegmentRecord, SegmentSlot, SegmentStats,
};
pub use scope::usage::{Tally, Usage};
pub use scope::volumes::{Volume, VolumeRecord, VolumeSlot, VolumeUse};
pub use store::{Access, SETTINGS, Store};
