//! Images from the store to a registry.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::export::{Compression, ExportError, LayerBlob, ManifestDocument, StoredImage, manifest, spool};
use crate::progress::{Cancel, Progress, Sent, Step};
use mvm_fetch::{Destination, FetchError, Fetcher};
use mvm_plan::audit::Event;
use mvm_ref::{Descriptor, Digest, ImageSource, MediaType, Platform, Reference};
use mvm_store::Segment;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Repositories of the same registry that are tried for a layer.
const MOUNT_SOURCES: usize = 4;

/// What is to be pushed, and where.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Name or digest of an image in the store.
    pub image: String,
    /// The name that it gets; nothing for the one it has.
    pub destination: Option<Reference>,
    /// How layers are stored that the registry doesn't have yet.
    pub compression: Compression,
}

/// An image that a registry has.
#[derive(Clone, Debug, Serialize)]
pub struct Pushed {
    /// The name that it has there.
    pub reference: String,
    /// Digest of the manifest there.
    pub manifest: Digest,
    /// Digest of the config, which is the image ID.
    pub config: Digest,
    /// Its platform.
    pub platform: Platform,
    /// Whether the manifest is the one that the image came with.
    pub unchanged: bool,
}

/// Says why an image could not be pushed, beyond reading it and speaking with the registry.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is no name to push to.
    #[error("{0} has no name in a registry; say where it is to go")]
    NoDestination(String),
    /// The destination names another manifest than the image has.
    #[error("{destination} is not what would be pushed: its manifest is {got}")]
    Digest {
        /// The destination.
        destination: Reference,
        /// The manifest.
        got: Digest,
    },
}

impl Engine {
    /// Gives an image to a registry: what of it is not there yet, and the manifest last.
    ///
    /// Where the registry has or can take over every layer as it was pulled, the manifest is the one that the image came
    /// with, byte for byte. Else layers are compressed anew, and the manifest is a new one; config and image ID stay.
    pub fn push_image(
        &self,
        request: &PushRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pushed, EngineError> {
        let image = self.stored_image(&request.image)?;
        let destination = request.destination.clone().or_else(|| image.name.clone());
        let destination = destination.ok_or_else(|| PushError::NoDestination(request.image.clone()))?;
        let push = Push { engine: self, image: &image, compression: request.compression, progress, cancel };
        let pushed = self.while_fetching(progress, cancel, |fetcher| push.run(fetcher, &destination));
        self.discard_damaged(pushed)
            .map_err(|error| if cancel.requested() { EngineError::Interrupted } else { error })
    }
}

struct Push<'a> {
    engine: &'a Engine,
    image: &'a StoredImage,
    compression: Compression,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl Push<'_> {
    fn run(&self, fetcher: &Fetcher, reference: &Reference) -> Result<Pushed, EngineError> {
        let Self { image, .. } = self;
        let to = fetcher.destination(reference)?;
        let mounts = self.mount_sources(reference)?;
        // Looked for when the first is needed: a registry that has all needs none from here.
        let mut segments: Option<Vec<Segment>> = None;
        let mut blobs: BTreeMap<Digest, LayerBlob> = BTreeMap::new();
        for (original, diff_id) in image.manifest.layers().iter().zip(&image.chain) {
            if !blobs.contains_key(diff_id) {
                let blob = match self.as_it_came(&to, original, &mounts)? {
                    Some(blob) => blob,
                    None => {
                        let segments = match &segments {
                            Some(segments) => segments,
                            None => segments.insert(self.engine.layers_to_give(
                                image,
                                fetcher,
                                self.progress,
                                self.cancel,
                            )?),
                        };
                        self.upload_layer(&to, segments, diff_id)?
                    }
                };
                blobs.insert(*diff_id, blob);
            }
        }
        let layers: Vec<LayerBlob> =
            image.chain.iter().filter_map(|diff_id| blobs.get(diff_id).cloned()).collect();
        let ManifestDocument { bytes, media_type, digest } = manifest(image, &layers)?;
        if reference.digest().is_some_and(|expected| expected != digest) {
            return Err(PushError::Digest { destination: reference.clone(), got: digest }.into());
        }
        self.upload_config(&to)?;
        let name = reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
        let requested = reference.to_string();
        let named = requested.parse().map_err(|source: mvm_plan::PlanError| EngineError::Plan {
            act: "make",
            source: source.into(),
        })?;
        // Before others can see it.
        let event = Event::Push { requested: named, manifest: digest, config: image.config };
        self.engine.audit.append(&self.engine.settings.scope, vec![event])?;
        to.put_manifest(&name, &media_type, &bytes)?;
        Ok(Pushed {
            reference: requested,
            manifest: digest,
            config: image.config,
            platform: image.platform.clone(),
            unchanged: bytes == image.manifest_bytes,
        })
    }

    /// Returns repositories of the registry that the image came from: they have its layers.
    fn mount_sources(&self, to: &Reference) -> Result<Vec<String>, EngineError> {
        let names = self.engine.find_image(&self.image.asked)?.references;
        let references = names.iter().filter_map(|name| match name.parse() {
            Ok(ImageSource::Registry(reference)) => Some(reference),
            _ => None,
        });
        let same = references.filter(|from| from.registry() == to.registry());
        let mut repositories: Vec<String> = same.map(|from| from.repository().to_owned()).collect();
        repositories.sort();
        repositories.dedup();
        repositories.retain(|repository| repository != to.repository());
        repositories.truncate(MOUNT_SOURCES);
        Ok(repositories)
    }

    /// Returns a layer as it was pulled, if the registry has it or can take it over.
    fn as_it_came(
        &self,
        to: &Destination,
        original: &Descriptor,
        mounts: &[String],
    ) -> Result<Option<LayerBlob>, FetchError> {
        let Descriptor { digest, size, .. } = *original;
        let blob = || Some(LayerBlob::new(digest, size, original.compression()));
        if to.has_blob(&digest, size)? {
            self.sent(digest, Sent::Present);
            return Ok(blob());
        }
        for from in mounts {
            if to.mount(&digest, from)? {
                self.sent(digest, Sent::Mounted);
                return Ok(blob());
            }
        }
        Ok(None)
    }

    /// Compresses a layer and uploads it.
    fn upload_layer(
        &self,
        to: &Destination,
        segments: &[Segment],
        diff_id: &Digest,
    ) -> Result<LayerBlob, EngineError> {
        let segment = segments.iter().find(|segment| segment.record().diff_id == *diff_id);
        let lost = || ExportError::Lost { image: self.image.asked.clone(), layer: *diff_id };
        let segment = segment.ok_or_else(lost)?;
        let compression = self.compression.0;
        let spooled = spool(self.engine, &self.image.asked, segment, compression, self.cancel)?;
        let (digest, size) = (spooled.digest, spooled.size);
        let blob = LayerBlob { digest, size, media_type: MediaType::OciLayer(compression) };
        if to.has_blob(&digest, size)? {
            self.sent(digest, Sent::Present);
            return Ok(blob);
        }
        self.progress.step(Step::UploadStarted { layer: digest, size });
        std::thread::scope(|scope| {
            let (counts, heard) = std::sync::mpsc::channel();
            let progress = self.progress;
            // Ends with the upload, which has the senders.
            scope.spawn(move || {
                heard.iter().for_each(|received| progress.step(Step::LayerBytes { layer: digest, received }));
            });
            let open = move || -> io::Result<Box<dyn Read + Send>> {
                Ok(Box::new(Counted { inner: spooled.reader(), count: 0, to: counts.clone() }))
            };
            to.upload(&digest, size, Arc::new(open))
        })?;
        self.sent(digest, Sent::Uploaded);
        Ok(blob)
    }

    fn upload_config(&self, to: &Destination) -> Result<(), FetchError> {
        let size = self.image.config_bytes.len() as u64;
        if to.has_blob(&self.image.config, size)? {
            return Ok(());
        }
        let bytes = self.image.config_bytes.clone();
        let open = move || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(Cursor::new(bytes.clone()))) };
        to.upload(&self.image.config, size, Arc::new(open))
    }

    fn sent(&self, layer: Digest, how: Sent) {
        self.progress.step(Step::LayerSent { layer, how });
    }
}

/// Tells how much was read.
struct Counted<R> {
    inner: R,
    count: u64,
    to: Sender<u64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.count += count as u64;
        // Nobody may listen any more.
        self.to.send(self.count).unwrap_or_default();
        Ok(count)
    }
}
