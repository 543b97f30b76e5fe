//! Images into archives and directories that other tools read.

use crate::audit_log::Note;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::export::{
    Compression, Entry, ExportError, Fault, LayerBlob, StoredImage, TarWriter, checked_layer,
    docker_manifest, index, manifest, spool, tag_name,
};
use crate::progress::{Cancel, Progress};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::{Digest, LayerCompression};
use mvm_store::Segment;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes of an archive that are collected before they are written.
const BUFFER: usize = 256 << 10;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar of an OCI layout, which `docker load` reads too.
    OciArchive,
    /// A tar as `docker save` made it before it knew OCI layouts.
    DockerArchive,
    /// A directory that is an OCI layout.
    OciDirectory,
}

/// Where it is written.
pub enum SaveTarget<'a> {
    /// A file or directory, which is complete or not there.
    Path(&'a Path),
    /// A stream; a failure leaves it without the mark of its end.
    Stream(&'a mut dyn Write),
}

/// What is to be saved, and how.
#[derive(Clone, Debug)]
pub struct SaveRequest {
    /// Names or digests of images.
    pub images: Vec<String>,
    /// The form.
    pub format: SaveFormat,
    /// How layers are stored in it.
    pub compression: Compression,
}

/// Says that a text names no format.
#[derive(Debug, thiserror::Error)]
#[error("no such format: {0:?}; use oci-archive, docker-archive or oci")]
pub struct UnknownFormat(String);

impl FromStr for SaveFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "oci-archive" => Ok(Self::OciArchive),
            "docker-archive" => Ok(Self::DockerArchive),
            "oci" => Ok(Self::OciDirectory),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

/// An image to save, and the names by which it was asked for.
struct Source {
    image: StoredImage,
    layers: Vec<Segment>,
    names: Vec<String>,
}

impl Engine {
    /// Writes images so that other tools, and `pull`, can read them: the same images make the same bytes.
    ///
    /// Every layer is compared with its diff ID while it is written; where one differs nothing is left at a path, and the
    /// layer is discarded. A layer that is not in the store is fetched from where its image came from.
    pub fn save_images(
        &self,
        request: &SaveRequest,
        target: SaveTarget<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let sources = self.while_fetching(progress, cancel, |fetcher| {
            let mut sources: Vec<Source> = Vec::new();
            for asked in &request.images {
                let image = self.stored_image(asked)?;
                let name = image.name.as_ref().and_then(tag_name);
                let known = sources.iter_mut().find(|s| s.image.manifest_bytes == image.manifest_bytes);
                if let Some(known) = known {
                    known.names.extend(name.filter(|name| !known.names.contains(name)));
                    continue;
                }
                let layers = self.layers_to_give(&image, fetcher, progress, cancel)?;
                sources.push(Source { image, layers, names: name.into_iter().collect() });
            }
            Ok::<_, EngineError>(sources)
        })?;
        let notes = sources.iter().map(|source| {
            let manifest = Subject::Blob { digest: Digest::of(&source.image.manifest_bytes) };
            let note = Note::from(Event::Export { subject: manifest });
            let note = note.with("image", &source.image.asked);
            match &target {
                SaveTarget::Path(path) => note.with("to", &path.to_string_lossy()),
                SaveTarget::Stream(_) => note,
            }
        });
        self.audit.append_notes(&self.settings.scope, notes.collect())?;
        let save = |members: Members<'_>, to: &Path| {
            Save { engine: self, request, cancel, members, to, written: BTreeSet::new() }.run(&sources)
        };
        let saved = match (target, request.format) {
            (_, SaveFormat::DockerArchive) if request.compression.0 != LayerCompression::None => {
                Err(ExportError::PlainOnly)
            }
            (SaveTarget::Stream(out), _) => save(Members::tar(out), Path::new("the archive")),
            (SaveTarget::Path(path), SaveFormat::OciDirectory) => into_directory(path, save),
            (SaveTarget::Path(path), _) => into_file(path, save),
        };
        self.discard_damaged(saved.map_err(EngineError::from))
    }
}

/// Makes a directory beside `path`, has it filled, and gives it its name.
fn into_directory(
    path: &Path,
    save: impl FnOnce(Members<'_>, &Path) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let failed = |act| move |source| ExportError::Write { act, to: path.to_owned(), source };
    let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if path.symlink_metadata().is_ok() && !is_empty(path) {
        return Err(ExportError::Exists(path.to_owned()));
    }
    let partial = Partial::directory(path).map_err(failed("make"))?;
    save(Members::Directory(partial.path.clone()), path)?;
    partial.rename(path).map_err(failed("name"))
}

/// Makes a file beside `path`, has it filled, and gives it its name. What is no ordinary file is written to as it is.
fn into_file(
    path: &Path,
    save: impl FnOnce(Members<'_>, &Path) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let failed = |act| move |source| ExportError::Write { act, to: path.to_owned(), source };
    if path.is_dir() {
        return Err(failed("write")(io::ErrorKind::IsADirectory.into()));
    }
    if path.metadata().is_ok_and(|data| !data.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(failed("open"))?;
        return save(Members::tar(&mut file), path);
    }
    // A link is written through, as other programs do.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (partial, mut file) = Partial::file(&real).map_err(failed("make"))?;
    save(Members::tar(&mut file), path)?;
    file.sync_all().map_err(failed("write"))?;
    partial.rename(&real).map_err(failed("name"))
}

/// A file or directory that has not got its name yet; it is removed unless it gets it.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn file(path: &Path) -> io::Result<(Self, File)> {
        Self::make(path, |path| File::options().write(true).create_new(true).open(path))
    }

    fn directory(path: &Path) -> io::Result<Self> {
        Self::make(path, |path| fs::create_dir(path)).map(|(partial, ())| partial)
    }

    fn make<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        for attempt in 0_u32.. {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{attempt}.partial", std::process::id()));
            let path = path.with_file_name(hidden);
            match make(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|made| (Self { path }, made)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing of that name; else this is the second failure, and the first is told.
        if self.path.is_dir() {
            drop(fs::remove_dir_all(&self.path));
        } else {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// What members are added to.
enum Members<'a> {
    Tar(TarWriter<BufWriter<&'a mut dyn Write>>),
    Directory(PathBuf),
}

impl<'a> Members<'a> {
    fn tar(out: &'a mut dyn Write) -> Self {
        Self::Tar(TarWriter::new(BufWriter::with_capacity(BUFFER, out)))
    }

    fn directory(&mut self, name: &str) -> io::Result<()> {
        match self {
            Self::Tar(tar) => tar.directory(name),
            Self::Directory(path) => fs::create_dir(path.join(name)),
        }
    }

    fn file(
        &mut self,
        name: &str,
        size: u64,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match self {
            Self::Tar(tar) => tar.file(name, size, fill),
            Self::Directory(path) => {
                let mut out = File::create_new(path.join(name)).map_err(Fault::Output)?;
                fill(&mut out)?;
                out.sync_all().map_err(Fault::Output)
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Tar(tar) => tar.finish().map(drop),
            Self::Directory(_) => Ok(()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// One archive or layout in the making.
struct Save<'a, 'm> {
    engine: &'a Engine,
    request: &'a SaveRequest,
    cancel: &'a Cancel,
    members: Members<'m>,
    /// Where it goes, for messages.
    to: &'a Path,
    /// Members that are there; images share layers.
    written: BTreeSet<String>,
}

impl Save<'_, '_> {
    fn run(mut self, sources: &[Source]) -> Result<(), ExportError> {
        let is_docker = self.request.format == SaveFormat::DockerArchive;
        if !is_docker {
            self.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            self.directory("blobs/")?;
            self.directory("blobs/sha256/")?;
        }
        let mut entries = Vec::new();
        for source in sources {
            let blobs = source
                .layers
                .iter()
                .map(|segment| self.layer(source, segment))
                .collect::<Result<Vec<_>, _>>()?;
            self.bytes(&self.config_path(&source.image.config), &source.image.config_bytes)?;
            let manifest = manifest(&source.image, &blobs)?;
            if !is_docker {
                self.bytes(&blob_path(&manifest.digest), &manifest.bytes)?;
            }
            entries.push(Entry {
                manifest,
                platform: &source.image.platform,
                config: source.image.config,
                names: source.names.clone(),
                layers: blobs.iter().map(|blob| self.layer_path(&blob.digest)).collect(),
            });
        }
        if !is_docker {
            self.bytes("index.json", &index(&entries))?;
        }
        if self.request.format != SaveFormat::OciDirectory {
            self.bytes("manifest.json", &docker_manifest(&entries, |config| self.config_path(config)))?;
        }
        let to = self.to;
        self.members.finish().map_err(|source| write_error(to, source))
    }

    fn config_path(&self, config: &Digest) -> String {
        match self.request.format {
            SaveFormat::DockerArchive => format!("{}.json", config.hex()),
            _ => blob_path(config),
        }
    }

    fn layer_path(&self, layer: &Digest) -> String {
        match self.request.format {
            SaveFormat::DockerArchive => format!("{}.tar", layer.hex()),
            _ => blob_path(layer),
        }
    }

    /// Writes a layer, unless it is there already.
    fn layer(&mut self, source: &Source, segment: &Segment) -> Result<LayerBlob, ExportError> {
        let (image, cancel) = (source.image.asked.as_str(), self.cancel);
        let compression = self.request.compression.0;
        if compression == LayerCompression::None {
            let record = segment.record();
            let blob = LayerBlob::new(record.diff_id, record.tar_size, compression);
            self.file(&self.layer_path(&blob.digest), blob.size, |out| {
                checked_layer(image, segment, cancel, out)
            })?;
            return Ok(blob);
        }
        let spooled = spool(self.engine, image, segment, compression, cancel)?;
        let blob = LayerBlob::new(spooled.digest, spooled.size, compression);
        self.file(&self.layer_path(&blob.digest), blob.size, |out| {
            io::copy(&mut spooled.reader(), out).map(drop).map_err(Fault::Output)
        })?;
        Ok(blob)
    }

    fn directory(&mut self, name: &str) -> Result<(), ExportError> {
        self.members.directory(name).map_err(|source| write_error(self.to, source))
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.file(name, bytes.len() as u64, |out| out.write_all(bytes).map_err(Fault::Output))
    }

    fn file(
        &mut self,
        name: &str,
        size: u64,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), Fault>,
    ) -> Result<(), ExportError> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        self.members.file(name, size, fill).map_err(|fault| match fault {
            Fault::Layer(error) => error,
            Fault::Output(source) => write_error(self.to, source),
        })
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn write_error(to: &Path, source: io::Error) -> ExportError {
    ExportError::Write { act: "write", to: to.to_owned(), source }
}

#[cfg(test)]
mod tests;
