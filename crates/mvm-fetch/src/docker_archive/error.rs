//! What can be wrong with an archive of Docker.

use mvm_ref::{ArchiveSelector, ConfigError, Digest, ReferenceError};
use std::io;
use std::path::PathBuf;

/// Says why an archive of Docker can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DockerArchiveError {
    /// The archive is none that an image can be in.
    #[error("{path:?} holds no image: it has neither manifest.json nor oci-layout")]
    NoImages {
        /// The archive.
        path: PathBuf,
    },
    /// The archive is of a Docker before 1.10.
    #[error(
        "{path:?} is an archive of Docker before 1.10, which has no manifest.json; that is not supported"
    )]
    Legacy {
        /// The archive.
        path: PathBuf,
    },
    /// `manifest.json` is not a list of images.
    #[error("{path:?} has a bad manifest.json")]
    Manifest {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// `manifest.json` lists no image, or too many.
    #[error("manifest.json in {path:?} lists {count} images; 1 to {limit} can be read")]
    Count {
        /// The archive.
        path: PathBuf,
        /// How many it lists.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// An image has a name that is none.
    #[error("image {number} in {path:?} has a bad name")]
    Name {
        /// The archive.
        path: PathBuf,
        /// The image, from 0.
        number: usize,
        /// What is wrong with the name.
        source: ReferenceError,
    },
    /// There are several images, and it wasn't said which one is meant.
    #[error("{path:?} holds several images; name one of them: {}", .names.join(", "))]
    Several {
        /// The archive.
        path: PathBuf,
        /// What they are selected by.
        names: Vec<String>,
    },
    /// No image has the name.
    #[error("{path:?} has no image {selector}; it has: {}", .names.join(", "))]
    NotFound {
        /// The archive.
        path: PathBuf,
        /// What was asked for.
        selector: ArchiveSelector,
        /// What there is.
        names: Vec<String>,
    },
    /// A member that the manifest names can't be used.
    #[error("{member:?} in {path:?} {problem}")]
    Member {
        /// The archive.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        problem: MemberProblem,
    },
    /// A member can't be read.
    #[error("cannot read {member:?} in {path:?}")]
    Read {
        /// The archive.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// Why not.
        source: io::Error,
    },
    /// A member is longer than mvm reads.
    #[error("{member:?} in {path:?} has {size} bytes, more than {limit}")]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A config is not the one that its name says.
    #[error("{member:?} in {path:?} has digest {got}, its name says {expected}")]
    ConfigDigest {
        /// The archive.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// The digest in the name.
        expected: Digest,
        /// The digest of the content.
        got: Digest,
    },
    /// A config can't be used.
    #[error("image config {member:?} in {path:?} can't be used")]
    Config {
        /// The archive.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// Manifest and config are not about the same layers.
    #[error("image {number} in {path:?} lists {got} layers, its config {expected}")]
    Layers {
        /// The archive.
        path: PathBuf,
        /// The image, from 0.
        number: usize,
        /// How many layers the config has.
        expected: usize,
        /// How many layers the manifest lists.
        got: usize,
    },
    /// A layer is compressed in a way that mvm doesn't read.
    #[error("layer {member:?} in {path:?} is compressed with {compression}, which is not supported")]
    Compression {
        /// The archive.
        path: PathBuf,
        /// The member's name.
        member: String,
        /// What it is compressed with.
        compression: &'static str,
    },
    /// A layer can't be read.
    #[error("cannot read a layer of the archive")]
    ReadLayer(#[source] io::Error),
    /// Something was asked for that the manifest doesn't name.
    #[error("{path:?} has nothing of digest {digest}")]
    NoBlob {
        /// The archive.
        path: PathBuf,
        /// The digest.
        digest: Digest,
    },
}

/// What is wrong with a member of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberProblem {
    /// It doesn't exist.
    #[error("does not exist")]
    Missing,
    /// There are two of that name.
    #[error("is there twice")]
    Twice,
    /// Its name, or a link's target, leads out of the archive.
    #[error("leads out of the archive")]
    Outside,
    /// Links lead in a circle.
    #[error("is a link that leads nowhere")]
    Loop,
    /// It is not a file.
    #[error("is not a regular file")]
    NotAFile,
}
