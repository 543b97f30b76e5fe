//! All images of a layout, with the names that go with them.
//!
//! Source: OCI image-spec, `annotations.md`; containerd's annotation for the whole name of an image, which Docker
//! writes too, with a mere tag in the one of OCI.

use super::{Archive, Files, INDEX, Layout, LayoutError, MARKER, REF_NAME, directory};
use crate::source::Content;
use crate::{CancelToken, FetchError};
use mvm_ref::{Descriptor, Digest, Reference, Selector};
use std::path::Path;

/// The whole name of an image.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// One image of a layout.
pub(crate) struct BundledLayout {
    pub(crate) names: Vec<Reference>,
    pub(crate) digest: Digest,
    pub(crate) content: Box<dyn Content>,
}

/// Says whether an archive has what makes a layout.
pub(crate) fn is_layout(archive: &Archive) -> Result<bool, LayoutError> {
    Ok(archive.open_named(MARKER)?.is_some() && archive.open_named(INDEX)?.is_some())
}

/// Returns all images of a layout, in an archive or in the directory at `path`.
pub(crate) fn bundled(
    archive: Option<Archive>,
    path: &Path,
    cancel: &CancelToken,
) -> Result<Vec<BundledLayout>, FetchError> {
    match archive {
        Some(archive) => images(archive, cancel),
        None => images(directory::Directory::open(path)?, cancel),
    }
}

fn images<F: Files + Clone + 'static>(
    files: F,
    cancel: &CancelToken,
) -> Result<Vec<BundledLayout>, FetchError> {
    let layout = Layout { files: files.clone(), selector: None, cancel: cancel.clone() };
    let index = layout.index()?;
    let mut images: Vec<BundledLayout> = Vec::new();
    for entry in index.manifests().iter().filter(|e| e.media_type.is_index() || e.media_type.is_manifest()) {
        let name = name(entry);
        // The same image listed twice, under two names, is one image.
        match images.iter_mut().find(|image| image.digest == entry.digest) {
            Some(image) => image.names.extend(name),
            None => {
                let selector = Some(Selector::Digest(entry.digest));
                let layout = Layout { files: files.clone(), selector, cancel: cancel.clone() };
                let (names, content) = (name.into_iter().collect(), Box::new(layout));
                images.push(BundledLayout { names, digest: entry.digest, content });
            }
        }
    }
    if images.is_empty() {
        return Err(LayoutError::Empty { path: layout.path() }.into());
    }
    Ok(images)
}

/// Returns the name of an image, if it has one: a tag alone doesn't say of what.
fn name(entry: &Descriptor) -> Option<Reference> {
    let text = |key: &str| entry.annotations.get(key).map(String::as_str);
    let named = text(REF_NAME).filter(|name| name.contains(['/', ':']));
    text(IMAGE_NAME).or(named).and_then(|name| name.parse().ok())
}
