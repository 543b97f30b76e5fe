//! OCI layouts, in a directory or in a tar file.
//!
//! Source: OCI image-spec, `image-layout.md`. Blobs are found by digest alone; no document names a path.

mod archive;
mod artifact;
mod bundle;
mod directory;
pub(crate) mod opened;
pub(crate) mod tar;

use crate::source::{ByteSource, Content, FileSource, Root};
use crate::{CancelToken, FetchError, InflateError};
pub(crate) use archive::{Archive, MAX_MEMBERS};
pub use artifact::{Artifact, BlobBytes};
pub(crate) use bundle::{BundledLayout, bundled, is_layout};
use mvm_ref::{Descriptor, Digest, Document, DocumentError, Index, MAX_DOCUMENT_SIZE, Selector, Unusable};
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use tar::TarError;

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const MAX_MARKER_SIZE: u64 = 4096;
/// Entries that can't be used of which an error tells.
const MAX_TOLD: usize = 3;
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Says why an OCI layout or archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file can't be opened.
    #[error("cannot open {path:?}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be read.
    #[error("cannot read {path:?}")]
    Read {
        /// Its path, or the path of the archive.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A blob can't be read.
    #[error("cannot read a blob of the OCI layout")]
    ReadBlob(#[source] io::Error),
    /// Something that should be a file is a directory, a device or a pipe.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// The directory or archive has no `oci-layout` or `index.json`.
    #[error("{path:?} is not an OCI layout: it has no {missing}")]
    NotALayout {
        /// The directory or archive.
        path: PathBuf,
        /// The file that it should have.
        missing: &'static str,
    },
    /// `oci-layout` doesn't say what it should.
    #[error("{path:?} has a bad file oci-layout")]
    Marker {
        /// The directory or archive.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The layout is of another version.
    #[error("{path:?} is an OCI layout of version {version:?}, expected 1.0.0")]
    Version {
        /// The directory or archive.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// `index.json` is not an image index.
    #[error("{path:?} has a bad index.json")]
    Index {
        /// The directory or archive.
        path: PathBuf,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// There is no image.
    #[error("{path:?} holds no image")]
    Empty {
        /// The directory or archive.
        path: PathBuf,
    },
    /// There are several images, and it wasn't said which one is meant.
    #[error("{path:?} holds several images; name one of them: {}", .names.join(", "))]
    Several {
        /// The directory or archive.
        path: PathBuf,
        /// What they are selected by.
        names: Vec<String>,
    },
    /// No image has the name.
    #[error("{path:?} has no image {selector}; it has: {}", .names.join(", "))]
    NotFound {
        /// The directory or archive.
        path: PathBuf,
        /// What was asked for.
        selector: Selector,
        /// What there is.
        names: Vec<String>,
    },
    /// No image fits, and the one that is meant may be among those that can't be used.
    #[error("{path:?} has no usable image{}: {}", wanted(.selector.as_ref()), .unusable.iter().map(Unusable::to_string).collect::<Vec<_>>().join("; "))]
    Unusable {
        /// The directory or archive.
        path: PathBuf,
        /// What was asked for.
        selector: Option<Selector>,
        /// What is wrong with the others.
        unusable: Vec<Unusable>,
    },
    /// A blob isn't there.
    #[error("{path:?} has no blob {digest}")]
    NoBlob {
        /// The directory or archive.
        path: PathBuf,
        /// The blob's digest.
        digest: Digest,
    },
    /// A blob has another length than its descriptor says.
    #[error("blob {digest} in {path:?} has {got} bytes, its descriptor says {expected}")]
    BlobSize {
        /// The directory or archive.
        path: PathBuf,
        /// The blob's digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// The length of the file.
        got: u64,
    },
    /// A document is longer than mvm reads.
    #[error("{name} in {path:?} has {size} bytes, more than {limit}")]
    TooLarge {
        /// The directory or archive.
        path: PathBuf,
        /// The document.
        name: String,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The archive is compressed in a way that mvm doesn't read.
    #[error("{path:?} is compressed with {compression}, which is not supported; decompress it first")]
    Compressed {
        /// The archive.
        path: PathBuf,
        /// What it is compressed with.
        compression: &'static str,
    },
    /// The archive can't be decompressed.
    #[error("{path:?} can't be decompressed")]
    Inflate {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: InflateError,
    },
    /// The archive can't be unpacked for reading.
    #[error("cannot unpack an archive into {directory:?}")]
    Spool {
        /// Where to.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The archive is larger than mvm unpacks.
    #[error("{path:?} unpacks to more than {limit} bytes")]
    SpoolLimit {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Somebody asked to stop.
    #[error("reading the archive was cancelled")]
    Cancelled,
    /// The archive is not a tar file.
    #[error("{path:?} is not a readable tar file")]
    Tar {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: TarError,
    },
    /// The archive has a member twice.
    #[error("{path:?} has {name} twice")]
    Twice {
        /// The archive.
        path: PathBuf,
        /// The member.
        name: &'static str,
    },
    /// The archive has more members than any image.
    #[error("{path:?} has more than {limit} members")]
    TooManyMembers {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

/// The files of a layout, wherever they are.
pub(crate) trait Files: Send + Sync {
    fn path(&self) -> &Path;
    fn open_named(&self, name: &'static str) -> Result<Option<Part>, LayoutError>;
    fn open_digest(&self, digest: Digest) -> Result<Option<Part>, LayoutError>;
}

/// A part of an open file.
pub(crate) struct Part {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// An open layout and the choice of one of its images.
struct Layout<F> {
    files: F,
    selector: Option<Selector>,
    cancel: CancelToken,
}

/// Opens a layout in a directory.
pub(crate) fn open_directory(
    path: &Path,
    selector: Option<Selector>,
    cancel: CancelToken,
) -> Result<impl Content + use<>, FetchError> {
    Ok(Layout { files: directory::Directory::open(path)?, selector, cancel })
}

/// Opens a layout in a tar file.
pub(crate) fn open_archive(
    path: &Path,
    selector: Option<Selector>,
    spool: &opened::Spool,
) -> Result<impl Content + use<>, FetchError> {
    let archive = Archive::new(opened::ArchiveFile::open(path, spool)?)?;
    Ok(Layout { files: archive, selector, cancel: spool.cancel.clone() })
}

impl<F: Files> Content for Layout<F> {
    fn root(&self) -> Result<Root, FetchError> {
        self.manifest(self.choose(&self.index()?)?)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Root, FetchError> {
        let bytes = self.small_blob(descriptor, MAX_DOCUMENT_SIZE)?;
        let got = Digest::of(&bytes);
        if got != descriptor.digest {
            return Err(FetchError::DocumentDigest { what: "manifest", expected: descriptor.digest, got });
        }
        Ok(Root { bytes, media_type: Some(descriptor.media_type.as_str().to_owned()) })
    }

    fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError> {
        let part = self.part(descriptor)?;
        Ok(self.read_part(&part, &format!("blob {}", descriptor.digest), limit)?)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn ByteSource>, FetchError> {
        let Part { file, offset, size } = self.part(descriptor)?;
        let failed = |source| LayoutError::ReadBlob(source).into();
        Ok(Box::new(FileSource::new(file, offset, size, self.cancel.clone(), failed)))
    }
}

impl<F: Files> Layout<F> {
    fn path(&self) -> PathBuf {
        self.files.path().to_owned()
    }

    fn index(&self) -> Result<Index, LayoutError> {
        self.check_marker()?;
        self.parse_index(&self.read_named(INDEX, MAX_DOCUMENT_SIZE)?)
    }

    fn check_marker(&self) -> Result<(), LayoutError> {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let bytes = self.read_named(MARKER, MAX_MARKER_SIZE)?;
        let marker: Marker = serde_json::from_slice(&bytes)
            .map_err(|source| LayoutError::Marker { path: self.path(), source })?;
        if !marker.version.starts_with("1.") {
            return Err(LayoutError::Version { path: self.path(), version: marker.version });
        }
        Ok(())
    }

    fn parse_index(&self, bytes: &[u8]) -> Result<Index, LayoutError> {
        let bad = |source| LayoutError::Index { path: self.path(), source };
        match Document::parse(bytes, None).map_err(bad)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(manifest) => Err(bad(DocumentError::Shape {
                media_type: manifest.media_type().clone(),
                property: "manifests",
            })),
        }
    }

    fn choose<'a>(&self, index: &'a Index) -> Result<&'a Descriptor, LayoutError> {
        let entries =
            || index.manifests().iter().filter(|e| e.media_type.is_index() || e.media_type.is_manifest());
        let chosen: Vec<_> = entries()
            .filter(|entry| match &self.selector {
                None => true,
                Some(Selector::Name(name)) => entry.annotations.get(REF_NAME) == Some(name),
                Some(Selector::Digest(digest)) => entry.digest == *digest,
            })
            .collect();
        let names = |entries: &mut dyn Iterator<Item = &Descriptor>| {
            let name = |entry: &Descriptor| {
                entry.annotations.get(REF_NAME).cloned().unwrap_or_else(|| format!("@{}", entry.digest))
            };
            entries.map(name).collect::<Vec<_>>()
        };
        match (&chosen[..], &self.selector) {
            ([entry], _) => Ok(entry),
            // The same image listed twice is one image.
            ([entry, others @ ..], _) if others.iter().all(|other| other.digest == entry.digest) => Ok(entry),
            ([], selector) if !index.unusable().is_empty() => Err(LayoutError::Unusable {
                path: self.path(),
                selector: selector.clone(),
                unusable: index.unusable().iter().take(MAX_TOLD).cloned().collect(),
            }),
            ([], Some(selector)) if index.manifests().iter().next().is_some() => Err(LayoutError::NotFound {
                path: self.path(),
                selector: selector.clone(),
                names: names(&mut entries()),
            }),
            ([], _) => Err(LayoutError::Empty { path: self.path() }),
            (several, _) => {
                Err(LayoutError::Several { path: self.path(), names: names(&mut several.iter().copied()) })
            }
        }
    }

    fn part(&self, descriptor: &Descriptor) -> Result<Part, LayoutError> {
        let Descriptor { digest, size: expected, .. } = *descriptor;
        let part = self.files.open_digest(digest)?;
        let part = part.ok_or_else(|| LayoutError::NoBlob { path: self.path(), digest })?;
        if part.size != expected {
            return Err(LayoutError::BlobSize { path: self.path(), digest, expected, got: part.size });
        }
        Ok(part)
    }

    fn read_named(&self, name: &'static str, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let part = self.files.open_named(name)?;
        let part = part.ok_or_else(|| LayoutError::NotALayout { path: self.path(), missing: name })?;
        self.read_part(&part, name, limit)
    }

    fn read_part(&self, part: &Part, name: &str, limit: u64) -> Result<Vec<u8>, LayoutError> {
        if part.size > limit {
            let (path, name) = (self.path(), name.to_owned());
            return Err(LayoutError::TooLarge { path, name, size: part.size, limit });
        }
        // Limits are far below what usize holds.
        let mut bytes = vec![0; part.size as usize];
        part.file
            .read_exact_at(&mut bytes, part.offset)
            .map_err(|source| LayoutError::Read { path: self.path(), source })?;
        Ok(bytes)
    }
}

fn wanted(selector: Option<&Selector>) -> String {
    selector.map_or(String::new(), |selector| format!(" {selector}"))
}

/// Opens a regular file for reading without following a symbolic link in its last component.
pub(crate) fn open_regular(path: &Path, follow: bool) -> Result<(File, u64), LayoutError> {
    use rustix::fs::{Mode, OFlags};
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    // A pipe must not make the opener wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | nofollow;
    let open_error = |source| LayoutError::Open { path: path.to_owned(), source };
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link, or a socket or a device that nothing is behind.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Err(LayoutError::NotAFile { path: path.to_owned() });
        }
        Err(error) => return Err(open_error(error.into())),
    };
    let metadata = file.metadata().map_err(open_error)?;
    if !metadata.is_file() {
        return Err(LayoutError::NotAFile { path: path.to_owned() });
    }
    Ok((file, metadata.len()))
}

#[cfg(test)]
mod tests;
