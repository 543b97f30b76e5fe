//! All images of an archive, for those who load it as a whole.

use crate::docker_archive::DockerArchive;
use crate::layout::opened::{ArchiveFile, Spool};
use crate::layout::{self, Archive, BundledLayout};
use crate::source::Content;
use crate::{FetchError, LayoutError, Origin};
use mvm_ref::{ArchiveSelector, ImageSource, Reference, Selector};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an archive is called that comes through a pipe.
const PIPED: &str = "-";

/// Where an archive comes from.
pub enum Bundle {
    /// A file, a pipe with a name, or the directory of an OCI layout.
    Path(PathBuf),
    /// A stream, such as a pipe.
    Stream(Box<dyn Read + Send>),
}

/// One image of an archive.
pub struct Bundled {
    /// Its names; an archive may have images without any.
    pub names: Vec<Reference>,
    /// Where it is.
    pub origin: Origin,
}

/// Opens all images of an archive of Docker or of OCI, compressed or not.
pub(crate) fn open(bundle: Bundle, spool: &Spool) -> Result<Vec<Bundled>, FetchError> {
    let archive = match bundle {
        Bundle::Path(path) if path.is_dir() => {
            let images = layout::bundled(None, &path, &spool.cancel)?;
            let source = |selector| ImageSource::OciLayout { path: path.clone(), selector };
            return Ok(of_layout(images, spool, source));
        }
        // As the shell's `<(…)` passes what a program writes.
        Bundle::Path(path) if path.metadata().is_ok_and(|data| data.file_type().is_fifo()) => {
            let pipe =
                File::open(&path).map_err(|source| LayoutError::Open { path: path.clone(), source })?;
            ArchiveFile::spool(&path, pipe, spool)?
        }
        Bundle::Path(path) => ArchiveFile::open(&path, spool)?,
        Bundle::Stream(stream) => ArchiveFile::spool(Path::new(PIPED), stream, spool)?,
    };
    let path = archive.path.clone();
    let layout = Archive::new(archive.clone())?;
    // Docker writes both kinds into one archive, of which a layout has the manifests as they are.
    if layout::is_layout(&layout)? {
        let images = layout::bundled(Some(layout), &path, &spool.cancel)?;
        let source = |selector| ImageSource::OciArchive { path: path.clone(), selector };
        return Ok(of_layout(images, spool, source));
    }
    let archive = Arc::new(DockerArchive::new(archive)?);
    let images = archive.images().iter().enumerate().map(|(number, listed)| {
        let selector = Some(ArchiveSelector::Number(number));
        let source = ImageSource::DockerArchive { path: path.clone(), selector };
        let content: Box<dyn Content> = Box::new(archive.image(number, &spool.cancel));
        Bundled { names: listed.names.clone(), origin: Origin::new(source, content, &spool.cancel) }
    });
    Ok(images.collect())
}

fn of_layout(
    images: Vec<BundledLayout>,
    spool: &Spool,
    source: impl Fn(Option<Selector>) -> ImageSource,
) -> Vec<Bundled> {
    let origin = |BundledLayout { names, digest, content }| Bundled {
        names,
        origin: Origin::new(source(Some(Selector::Digest(digest))), content, &spool.cancel),
    };
    images.into_iter().map(origin).collect()
}
