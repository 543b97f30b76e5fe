//! The door to all kinds of origin.

use crate::bundle::{self, Bundle, Bundled};
use crate::inflate::ExpansionLimit;
use crate::layout::opened::Spool;
use crate::registry::{self, Registry, RegistryImage};
use crate::resolve;
use crate::source::{ByteSource, Content};
use crate::{
    CancelToken, Destination, FetchConfig, FetchError, FoundSignatures, Login, LoginCheck, RegistryError,
    Resolved, docker_archive, layer, layout,
};
use mvm_ref::{Descriptor, Digest, ImageSource, Platform, Reference, RegistryName, VerifiedLayer};
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

/// Length that an archive may have uncompressed, in bytes.
const MAX_ARCHIVE: u64 = 64 << 30;

/// Opens origins of images; cheap to share, one is enough for a process.
pub struct Fetcher {
    config: FetchConfig,
    /// Made at the first use of a registry: reading the system's certificates takes longer than a whole layout.
    registry: Mutex<Option<Arc<Registry>>>,
    cancel: CancelToken,
}

/// A registry's repository, an OCI layout, or an archive of OCI or of Docker that holds an image.
pub struct Origin {
    source: ImageSource,
    content: Box<dyn Content>,
    expansion: ExpansionLimit,
    cancel: CancelToken,
}

impl Fetcher {
    /// Makes a fetcher; nothing is connected to nor opened.
    pub fn new(config: FetchConfig) -> Self {
        let cancel = config.cancel.clone();
        Self { config, registry: Mutex::new(None), cancel }
    }

    /// Returns the client of registries, if `host` may be asked at all.
    fn registry(&self, host: &str) -> Result<Arc<Registry>, FetchError> {
        if self.config.offline {
            return Err(RegistryError::Offline { host: host.to_owned() }.into());
        }
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = &*registry {
            return Ok(Arc::clone(registry));
        }
        let made = Arc::new(Registry::new(self.config.clone())?);
        *registry = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Shows credentials to a registry and says what it thinks of them.
    pub fn check_login(&self, registry: &RegistryName, login: &Login) -> Result<LoginCheck, FetchError> {
        Ok(self.registry(registry.as_str())?.check_login(registry, login)?)
    }

    /// Looks beside an image in its registry for what may be signatures of these manifests and indexes.
    pub fn signatures(&self, image: &Reference, digests: &[Digest]) -> Result<FoundSignatures, FetchError> {
        let registry = self.registry(image.registry())?;
        Ok(registry::find_signatures(&registry, image, digests)?)
    }

    /// Opens a repository to give an image to; nothing is asked of the registry yet.
    pub fn destination(&self, reference: &Reference) -> Result<Destination, FetchError> {
        let registry = self.registry(reference.registry())?;
        Ok(Destination::new(registry, reference)?)
    }

    /// Opens the origin of an image; of a registry nothing but the files of certificates is opened before
    /// [`Origin::resolve`].
    pub fn open(&self, source: &ImageSource) -> Result<Origin, FetchError> {
        let cancel = self.cancel.clone();
        let content: Box<dyn Content> = match source {
            ImageSource::Registry(reference) => {
                let registry = self.registry(reference.registry())?;
                Box::new(RegistryImage::new(registry, reference.clone())?)
            }
            ImageSource::OciLayout { path, selector } => {
                Box::new(layout::open_directory(path, selector.clone(), cancel)?)
            }
            ImageSource::OciArchive { path, selector } => {
                Box::new(layout::open_archive(path, selector.clone(), &self.spool())?)
            }
            ImageSource::DockerArchive { path, selector } => {
                Box::new(docker_archive::open(path, selector.as_ref(), &self.spool())?)
            }
            ImageSource::Flake(reference) => return Err(FetchError::Flake(reference.clone())),
        };
        Ok(self.limited(Origin::new(source.clone(), content, &self.cancel)))
    }

    /// Opens all images of an archive of Docker or of OCI, compressed or not.
    pub fn open_bundle(&self, bundle: Bundle) -> Result<Vec<Bundled>, FetchError> {
        let images = bundle::open(bundle, &self.spool())?;
        let limited = |image: Bundled| Bundled { origin: self.limited(image.origin), ..image };
        Ok(images.into_iter().map(limited).collect())
    }

    fn limited(&self, origin: Origin) -> Origin {
        Origin { expansion: self.config.expansion, ..origin }
    }

    fn spool(&self) -> Spool {
        Spool { directory: self.config.spool.clone(), limit: MAX_ARCHIVE, cancel: self.cancel.clone() }
    }
}

impl Origin {
    pub(crate) fn new(source: ImageSource, content: Box<dyn Content>, cancel: &CancelToken) -> Self {
        Self { source, content, expansion: ExpansionLimit::default(), cancel: cancel.clone() }
    }

    /// Returns what was opened.
    pub fn source(&self) -> &ImageSource {
        &self.source
    }

    /// Finds the image for `platform` and verifies its documents.
    pub fn resolve(&self, platform: &Platform) -> Result<Resolved, FetchError> {
        resolve::resolve(self.content.as_ref(), &self.source, platform)
    }

    /// Streams layer `index` of `resolved`, uncompressed, through `body`, and verifies it.
    ///
    /// `body` runs on the caller's thread; a second thread receives and inflates, and calls `progress` with the
    /// number of stored bytes that have come so far. The stream is read to its end even when `body` stops early.
    /// An error of `body` comes back unchanged, unless the stream itself broke, which comes back instead.
    /// Several layers may be read at the same time.
    pub fn read_layer<T, E: From<FetchError>>(
        &self,
        resolved: &Resolved,
        index: usize,
        progress: &(dyn Fn(u64) + Sync),
        body: impl FnOnce(&mut dyn BufRead) -> Result<T, E>,
    ) -> Result<(T, VerifiedLayer), E> {
        let layers = resolved.layers();
        let (descriptor, expected) =
            layers.get(index).ok_or(FetchError::NoSuchLayer { index, layers: layers.len() })?;
        let open = || self.open_blob(descriptor);
        layer::read(descriptor, *expected, open, self.expansion, &self.cancel, progress, body)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn ByteSource>, FetchError> {
        self.content.open_blob(descriptor)
    }
}
