//! What can go wrong with a store.

use crate::{FileError, IndexError, ProcessError};
use mvm_ref::{Digest, ScopeName, VolumeName};
use std::path::PathBuf;

/// Says which act on the store failed and on what.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store.
    #[error(transparent)]
    File(#[from] FileError),
    /// The index of a scope.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What the host says about itself or a process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The directory holds something else; nothing was written there.
    #[error("{} is not a store and not empty: it contains {found:?}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// The first entry that no store has.
        found: String,
    },
    /// `store.json` is not what mvm writes.
    #[error("{} does not describe a store", path.display())]
    StoreFile {
        /// The file.
        path: PathBuf,
        /// Why it could not be parsed.
        source: serde_json::Error,
    },
    /// A newer mvm made the store.
    #[error("{} has format {found}; this mvmctl knows formats up to {supported}", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known here.
        supported: u64,
    },
    /// A document exceeds what the store keeps.
    #[error("document of {size} bytes is larger than {limit}")]
    DocumentSize {
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document's bytes are not those that its name promises.
    #[error("{} should hold {expected}, but its bytes are {got}", path.display())]
    DocumentDigest {
        /// The file.
        path: PathBuf,
        /// The digest it is named after.
        expected: Digest,
        /// The digest of its bytes.
        got: Digest,
    },
    /// A file of a segment is not what it was when the segment was made.
    #[error("{} should have the digest {expected}, but has {got}", path.display())]
    SegmentDigest {
        /// The file.
        path: PathBuf,
        /// The digest that it had.
        expected: Digest,
        /// The digest that it has.
        got: Digest,
    },
    /// The digests of a segment's files are not what mvm writes.
    #[error("{} is not a list of digests", path.display())]
    SegmentSums {
        /// The file.
        path: PathBuf,
    },
    /// A manifest was recorded before one of its documents was stored.
    #[error("document {digest} of manifest {manifest} is not in the store")]
    DocumentMissing {
        /// The manifest.
        manifest: Digest,
        /// The document that is absent.
        digest: Digest,
    },
    /// A slot was committed with evidence about another layer.
    #[error("segment {expected} was committed with layer {got}")]
    WrongLayer {
        /// The diff ID that was claimed.
        expected: Digest,
        /// The diff ID that was verified.
        got: Digest,
    },
    /// A file to be committed does not have the length that its record says.
    #[error("{} has {got} bytes, its record says {expected}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// What the record says.
        expected: u64,
        /// What the file has.
        got: u64,
    },
    /// The wait for another process's work was called off.
    #[error("cancelled while another process was preparing {what}")]
    Cancelled {
        /// What was waited for.
        what: String,
    },
    /// An image was collected before it could be leased.
    #[error("image with root hash {root} is not in the store")]
    NoImage {
        /// The root hash.
        root: Digest,
    },
    /// Nothing in the scope has this name or digest.
    #[error("no image {requested:?} in scope {scope}")]
    NoReference {
        /// What was asked for.
        requested: String,
        /// The scope.
        scope: String,
    },
    /// A digest names an image that several references name.
    #[error("image {requested} has {} references: {}; remove them by name", references.len(), references.join(", "))]
    SeveralReferences {
        /// The digest that was asked for.
        requested: String,
        /// The references, sorted.
        references: Vec<String>,
    },
    /// Removing this reference would remove an image that is leased.
    #[error("image {requested} is used by {}", holders.join(", "))]
    InUse {
        /// What was asked for.
        requested: String,
        /// The holders of its leases, sorted.
        holders: Vec<String>,
    },
    /// Removing this reference would remove an image that is pinned.
    #[error("image {requested} is pinned")]
    Pinned {
        /// What was asked for.
        requested: String,
    },
    /// The store has no scope of this name.
    #[error("no scope {name} is in the store")]
    NoScope {
        /// The name.
        name: ScopeName,
    },
    /// A scope can't be removed while commands or VMs work in it.
    #[error("scope {name} is in use")]
    ScopeInUse {
        /// The scope.
        name: ScopeName,
    },
    /// A scope has images that are to stay.
    #[error("scope {name} has {count} pinned images")]
    ScopePinned {
        /// The scope.
        name: ScopeName,
        /// How many are pinned.
        count: usize,
    },
    /// A scope has volumes, whose data is nowhere else.
    #[error("scope {name} has {count} volumes")]
    ScopeVolumes {
        /// The scope.
        name: ScopeName,
        /// How many there are.
        count: usize,
    },
    /// There is no volume of this name.
    #[error("no volume {name} is in scope {scope}")]
    NoVolume {
        /// The name.
        name: VolumeName,
        /// The scope.
        scope: ScopeName,
    },
    /// There is a volume of this name already.
    #[error("there is a volume {name} already")]
    VolumeExists {
        /// The name.
        name: VolumeName,
    },
    /// A volume is used by one VM or command at a time.
    #[error("volume {name} is in use by {holder}")]
    VolumeInUse {
        /// The volume.
        name: VolumeName,
        /// Who uses it.
        holder: String,
    },
    /// A volume can't become smaller.
    #[error("volume {name} has {got} bytes; a volume grows and can't have {asked}")]
    VolumeShrinks {
        /// The volume.
        name: VolumeName,
        /// Its size in bytes.
        got: u64,
        /// The size that was asked for.
        asked: u64,
    },
}
