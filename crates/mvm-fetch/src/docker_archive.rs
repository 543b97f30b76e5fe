//! Archives of `docker save`, of podman and of skopeo's `docker-archive:`.
//!
//! `manifest.json` lists images, each with its config, its names and its layers, lowest first, all as members of the
//! archive; layers are tar files, compressed or not. There is no manifest as registries have them, so one is made: the
//! config as it is, and the layers as the archive has them. It depends on nothing else, so that the same archive is
//! always the same image.
//!
//! Source: the Docker image specification, v1.2, section "Combined Image JSON + Filesystem Changeset Format".

mod error;
mod members;

use crate::layout::opened::{ArchiveFile, Packing, Spool};
use crate::source::{ByteSource, Content, FileSource, Root};
use crate::{CancelToken, FetchError};
pub use error::{DockerArchiveError, MemberProblem};
use members::Members;
use mvm_ref::{
    ArchiveSelector, Descriptor, Digest, ImageConfig, LayerCompression, MAX_CONFIG_SIZE, MAX_DOCUMENT_SIZE,
    MediaType, Reference,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const MANIFEST: &str = "manifest.json";
const LEGACY: &str = "repositories";
const MAX_IMAGES: usize = 1024;

/// An archive and what it lists.
#[derive(Debug)]
pub(crate) struct DockerArchive {
    archive: ArchiveFile,
    members: Members,
    images: Vec<Listed>,
}

/// An image as `manifest.json` lists it.
#[derive(Debug)]
pub(crate) struct Listed {
    config: String,
    pub(crate) names: Vec<Reference>,
    layers: Vec<String>,
}

/// One image of an archive.
struct DockerImage {
    archive: Arc<DockerArchive>,
    number: usize,
    cancel: CancelToken,
    /// Where layers are, by the digests that the manifest gives them.
    layers: Mutex<HashMap<Digest, (u64, u64)>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: MadeDescriptor<'a>,
    layers: Vec<MadeDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeDescriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
}

/// Opens the one image of an archive that is selected.
pub(crate) fn open(
    path: &Path,
    selector: Option<&ArchiveSelector>,
    spool: &Spool,
) -> Result<impl Content + use<>, FetchError> {
    let archive = Arc::new(DockerArchive::new(ArchiveFile::open(path, spool)?)?);
    let number = archive.choose(selector)?;
    Ok(archive.image(number, &spool.cancel))
}

impl DockerArchive {
    pub(crate) fn new(archive: ArchiveFile) -> Result<Self, FetchError> {
        let members = Members::scan(&archive)?;
        let path = || archive.path.clone();
        if !members.has(MANIFEST) {
            let legacy = members.has(LEGACY);
            return Err(match legacy {
                true => DockerArchiveError::Legacy { path: path() },
                false => DockerArchiveError::NoImages { path: path() },
            }
            .into());
        }
        let mut opened = Self { archive, members, images: Vec::new() };
        let bytes = opened.read(MANIFEST, MAX_DOCUMENT_SIZE)?;
        opened.images = opened.list(&bytes)?;
        Ok(opened)
    }

    fn list(&self, bytes: &[u8]) -> Result<Vec<Listed>, DockerArchiveError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            config: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            #[serde(default)]
            layers: Option<Vec<String>>,
        }
        let path = || self.archive.path.clone();
        let entries: Vec<Entry> = serde_json::from_slice(bytes)
            .map_err(|source| DockerArchiveError::Manifest { path: path(), source })?;
        if !(1..=MAX_IMAGES).contains(&entries.len()) {
            let count = entries.len();
            return Err(DockerArchiveError::Count { path: path(), count, limit: MAX_IMAGES });
        }
        let listed = entries.into_iter().enumerate().map(|(number, entry)| {
            let names = entry.repo_tags.unwrap_or_default();
            let names = names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
            let names = names.map_err(|source| DockerArchiveError::Name { path: path(), number, source })?;
            Ok(Listed { config: entry.config, names, layers: entry.layers.unwrap_or_default() })
        });
        listed.collect()
    }

    pub(crate) fn images(&self) -> &[Listed] {
        &self.images
    }

    /// Opens image `number`, which there is.
    pub(crate) fn image(self: &Arc<Self>, number: usize, cancel: &CancelToken) -> impl Content + use<> {
        let archive = Arc::clone(self);
        DockerImage { archive, number, cancel: cancel.clone(), layers: Mutex::default() }
    }

    fn choose(&self, selector: Option<&ArchiveSelector>) -> Result<usize, DockerArchiveError> {
        let path = || self.archive.path.clone();
        let names = || {
            let name = |(number, image): (usize, &Listed)| match image.names.first() {
                Some(name) => name.familiar(),
                None => format!("@{number}"),
            };
            self.images.iter().enumerate().map(name).collect::<Vec<_>>()
        };
        let Some(selector) = selector else {
            return match self.images.len() {
                1 => Ok(0),
                _ => Err(DockerArchiveError::Several { path: path(), names: names() }),
            };
        };
        let found = match selector {
            ArchiveSelector::Number(number) => (*number < self.images.len()).then_some(*number),
            ArchiveSelector::Name(name) => self.images.iter().position(|image| image.names.contains(name)),
        };
        let selector = selector.clone();
        found.ok_or_else(|| DockerArchiveError::NotFound { path: path(), selector, names: names() })
    }

    fn find(&self, member: &str) -> Result<(u64, u64), DockerArchiveError> {
        let path = || self.archive.path.clone();
        self.members.find(member).map_err(|problem| DockerArchiveError::Member {
            path: path(),
            member: member.to_owned(),
            problem,
        })
    }

    /// Reads a member of at most `limit` bytes.
    fn read(&self, member: &str, limit: u64) -> Result<Vec<u8>, DockerArchiveError> {
        let (offset, size) = self.find(member)?;
        if size > limit {
            let path = self.archive.path.clone();
            return Err(DockerArchiveError::TooLarge { path, member: member.to_owned(), size, limit });
        }
        let mut bytes = vec![0; size as usize];
        let read = self.archive.file.read_exact_at(&mut bytes, offset);
        read.map_err(|source| self.unreadable(member, source))?;
        Ok(bytes)
    }

    fn unreadable(&self, member: &str, source: io::Error) -> DockerArchiveError {
        DockerArchiveError::Read { path: self.archive.path.clone(), member: member.to_owned(), source }
    }
}

impl DockerImage {
    fn listed(&self) -> &Listed {
        &self.archive.images[self.number]
    }

    /// Reads the config, and compares it with the digest that its name has.
    fn config(&self) -> Result<Vec<u8>, DockerArchiveError> {
        let member = &self.listed().config;
        let bytes = self.archive.read(member, MAX_CONFIG_SIZE)?;
        let got = Digest::of(&bytes);
        match named_digest(member).filter(|&expected| expected != got) {
            None => Ok(bytes),
            Some(expected) => {
                let (path, member) = (self.archive.archive.path.clone(), member.clone());
                Err(DockerArchiveError::ConfigDigest { path, member, expected, got })
            }
        }
    }

    /// Makes the manifest that the archive doesn't have.
    fn manifest(&self) -> Result<Vec<u8>, FetchError> {
        let Listed { config: member, layers, .. } = self.listed();
        let path = || self.archive.archive.path.clone();
        let config = self.config()?;
        let parsed = ImageConfig::parse(&config).map_err(|source| DockerArchiveError::Config {
            path: path(),
            member: member.clone(),
            source,
        })?;
        let (expected, got) = (parsed.diff_ids().len(), layers.len());
        if expected != got {
            let number = self.number;
            return Err(DockerArchiveError::Layers { path: path(), number, expected, got }.into());
        }
        let media_types = [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd]
            .map(|compression| (compression, MediaType::OciLayer(compression)));
        let mut places = HashMap::new();
        let mut made = Vec::new();
        for (layer, diff_id) in layers.iter().zip(parsed.diff_ids()) {
            let (compression, digest, place) = self.layer(layer, *diff_id)?;
            places.insert(digest, place);
            let media_type = media_types.iter().find(|(of, _)| *of == compression);
            let media_type = media_type.map_or("", |(_, media_type)| media_type.as_str());
            made.push(MadeDescriptor { media_type, digest, size: place.1 });
        }
        *self.layers.lock().unwrap_or_else(PoisonError::into_inner) = places;
        let manifest = MadeManifest {
            schema_version: 2,
            media_type: MediaType::OciManifest.as_str(),
            config: MadeDescriptor {
                media_type: MediaType::OciConfig.as_str(),
                digest: Digest::of(&config),
                size: config.len() as u64,
            },
            layers: made,
        };
        let made = serde_json::to_vec(&manifest);
        Ok(made.map_err(|source| DockerArchiveError::Manifest { path: path(), source })?)
    }

    /// Returns how a layer is stored, the digest of what is stored, and where. An uncompressed layer is taken to be
    /// what the config says; that is compared when it is read.
    fn layer(
        &self,
        member: &str,
        diff_id: Digest,
    ) -> Result<(LayerCompression, Digest, (u64, u64)), FetchError> {
        let place @ (offset, size) = self.archive.find(member)?;
        let file = &self.archive.archive.file;
        let mut beginning = [0; Packing::BEGINNING];
        let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(beginning.len());
        let read = file.read_exact_at(&mut beginning[..wanted], offset);
        read.map_err(|source| self.archive.unreadable(member, source))?;
        match Packing::of(&beginning[..wanted]) {
            Packing::Known(LayerCompression::None) => Ok((LayerCompression::None, diff_id, place)),
            Packing::Known(compression) => Ok((compression, self.hash(member, place)?, place)),
            Packing::Unknown(compression) => {
                let (path, member) = (self.archive.archive.path.clone(), member.to_owned());
                Err(DockerArchiveError::Compression { path, member, compression }.into())
            }
        }
    }

    fn hash(&self, member: &str, (offset, size): (u64, u64)) -> Result<Digest, FetchError> {
        let file = &self.archive.archive.file;
        let range = Range { file, at: offset, end: offset + size, cancel: &self.cancel };
        Digest::of_reader(range).map_err(|source| match self.cancel.is_cancelled() {
            true => FetchError::Cancelled,
            false => self.archive.unreadable(member, source).into(),
        })
    }

    fn no_blob(&self, digest: Digest) -> FetchError {
        DockerArchiveError::NoBlob { path: self.archive.archive.path.clone(), digest }.into()
    }
}

/// A part of a file, as far as nobody asks to stop.
struct Range<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    cancel: &'a CancelToken,
}

impl Read for Range<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::ErrorKind::Other.into());
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(target.len());
        let length = self.file.read_at(&mut target[..left], self.at)?;
        if length == 0 && left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Content for DockerImage {
    fn root(&self) -> Result<Root, FetchError> {
        let media_type = Some(MediaType::OciManifest.as_str().to_owned());
        Ok(Root { bytes: self.manifest()?, media_type })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Root, FetchError> {
        Err(self.no_blob(descriptor.digest))
    }

    fn small_blob(&self, _: &Descriptor, _: u64) -> Result<Vec<u8>, FetchError> {
        Ok(self.config()?)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn ByteSource>, FetchError> {
        let place =
            self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(&descriptor.digest).copied();
        let (offset, size) = place.ok_or_else(|| self.no_blob(descriptor.digest))?;
        let failed = |source| DockerArchiveError::ReadLayer(source).into();
        let file = Arc::clone(&self.archive.archive.file);
        Ok(Box::new(FileSource::new(file, offset, size, self.cancel.clone(), failed)))
    }
}

/// Returns the digest that the name of a config has: `HEX.json`, `sha256:HEX` or `blobs/sha256/HEX`.
fn named_digest(member: &str) -> Option<Digest> {
    let name = member.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".json").unwrap_or(name);
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests;
