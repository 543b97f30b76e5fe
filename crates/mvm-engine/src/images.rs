//! What can be done with images in the store: list, inspect, remove, collect.

use crate::closures::{ClosurePath, PathTrust, REPRODUCIBLE, read_manifest};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::special_files::{SpecialFiles, special_files};
use mvm_image::erofs::Reader;
use mvm_plan::audit::{Event, Subject};
use mvm_ref::nix::{NarHash, StorePath};
use mvm_ref::{Digest, ImageConfig, ImageSource, NixSystem, Platform};
use mvm_store::{Collected, CollectedKind, ImageListing, ManifestRecord, Reason};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;

/// Returns the name that an image has in the store: a flake's has the full path of its directory, where there is one.
pub fn full_name(image: ImageSource) -> ImageSource {
    let ImageSource::Flake(flake) = &image else { return image };
    let full = fs::canonicalize(flake.path()).ok().and_then(|path| flake.clone().at(path).ok());
    full.map_or(image, ImageSource::Flake)
}

/// One line of a list of images: a name and what it stands for.
#[derive(Clone, Debug, Serialize)]
pub struct ImageRow {
    /// The name, unless every name has moved on to another image.
    pub reference: Option<String>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config.
    pub config: Digest,
    /// Root hash of its root file system.
    pub root_hash: Digest,
    /// Its platform.
    pub platform: Platform,
    /// Length of its root file system in bytes; 0 if that has to be made again.
    pub size: u64,
    /// When it was pulled, in seconds since 1970.
    pub pulled_at: i64,
    /// Whether it stays whatever becomes of its names.
    pub pinned: bool,
}

/// All that is known of an image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageDetails {
    /// Its names.
    pub references: Vec<String>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config.
    pub config_digest: Digest,
    /// Its platform.
    pub platform: Platform,
    /// What was checked about it.
    pub posture: String,
    /// When it was pulled, in seconds since 1970.
    pub pulled_at: i64,
    /// Whether it stays whatever becomes of its names.
    pub pinned: bool,
    /// Diff IDs of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Its root file system.
    pub root: RootDetails,
    /// What its config says to run.
    pub process: ProcessDetails,
    /// Files that give more rights than their owner has.
    pub special_files: SpecialFiles,
    /// What it was built from, if it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildDetails>,
}

/// What an image was built from.
#[derive(Clone, Debug, Serialize)]
pub struct BuildDetails {
    /// The derivation.
    pub derivation: StorePath,
    /// The path that describes the guest.
    pub output: StorePath,
    /// Digest of the flake's lock file, if it has one.
    pub lock: Option<Digest>,
    /// The system that it is for.
    pub system: NixSystem,
    /// How many of its store paths are believed for which reason.
    pub trust: TrustCounts,
    /// Its store paths, with the hash of each one's NAR and why it is believed.
    pub paths: Vec<BuiltPath>,
}

/// How many store paths are believed for which reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrustCounts {
    /// Their names follow from their contents.
    pub content_addressed: usize,
    /// A trusted key signed them.
    pub signed: usize,
    /// The builder said so.
    pub builder: usize,
}

/// A store path of an image.
#[derive(Clone, Debug, Serialize)]
pub struct BuiltPath {
    /// The path.
    pub path: StorePath,
    /// The hash of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Why it is believed.
    #[serde(flatten)]
    pub trust: PathTrust,
}

/// A root file system.
#[derive(Clone, Debug, Serialize)]
pub struct RootDetails {
    /// Its dm-verity root hash.
    pub root_hash: Digest,
    /// Generation of the image format.
    pub generation: u32,
    /// Blocks of 4096 bytes under verity.
    pub data_blocks: u64,
    /// Offset of the verity superblock in bytes.
    pub hash_start: u64,
    /// Length of the file in bytes.
    pub size: u64,
    /// Where the file is.
    pub path: std::path::PathBuf,
}

/// What an image's config says to run.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessDetails {
    /// The entry point.
    pub entrypoint: Vec<String>,
    /// The command, or the entry point's default arguments.
    pub cmd: Vec<String>,
    /// The environment.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: String,
    /// The user.
    pub user: String,
    /// The signal that asks it to stop.
    pub stop_signal: String,
    /// Ports that it says it listens on.
    pub exposed_ports: BTreeSet<String>,
    /// Directories that it says hold data.
    pub volumes: BTreeSet<String>,
}

impl Engine {
    /// Lists images, a row for each name, sorted by name.
    pub fn images(&self) -> Result<Vec<ImageRow>, EngineError> {
        let mut rows = Vec::new();
        for image in self.scope.list_images()? {
            let row = |reference| ImageRow {
                reference,
                manifest: image.manifest,
                config: image.config,
                root_hash: image.root_hash,
                platform: image.platform.clone(),
                size: image.size.unwrap_or(0),
                pulled_at: image.pulled_at,
                pinned: image.pinned,
            };
            if image.references.is_empty() {
                rows.push(row(None));
            }
            rows.extend(image.references.iter().map(|reference| row(Some(reference.clone()))));
        }
        rows.sort_by(|a, b| (&a.reference, a.manifest).cmp(&(&b.reference, b.manifest)));
        Ok(rows)
    }

    /// Returns all that is known of an image.
    pub fn inspect_image(&self, name: &str) -> Result<ImageDetails, EngineError> {
        let listing = self.find_image(name)?;
        let unknown = || EngineError::UnknownImage(name.to_owned());
        let manifest = self.scope.manifest(&listing.manifest)?.ok_or_else(unknown)?;
        let image = self.scope.image_by_root(&listing.root_hash)?.ok_or_else(unknown)?;
        let config = self.scope.document(&listing.config)?.ok_or_else(unknown)?;
        let config = ImageConfig::parse(&config).map_err(|source| EngineError::Damaged {
            root_hash: listing.root_hash,
            name: name.to_owned(),
            discarded: false,
            source: source.into(),
        })?;
        let process = config.process();
        let special = Reader::open(image.file()).and_then(|reader| special_files(&reader));
        let special_files = special.map_err(|source| EngineError::Damaged {
            root_hash: listing.root_hash,
            name: name.to_owned(),
            discarded: false,
            source: source.into(),
        })?;
        Ok(ImageDetails {
            build: self.build_details(&manifest)?,
            special_files,
            references: listing.references,
            manifest: listing.manifest,
            config_digest: listing.config,
            platform: listing.platform,
            posture: manifest.posture,
            pulled_at: manifest.pulled_at,
            pinned: listing.pinned,
            layers: manifest.chain,
            root: RootDetails {
                root_hash: image.record().root_hash,
                generation: image.generation(),
                data_blocks: image.record().data_blocks,
                hash_start: image.record().hash_start,
                size: image.record().size,
                path: image.path().to_owned(),
            },
            process: ProcessDetails {
                entrypoint: process.entrypoint.clone(),
                cmd: process.cmd.clone(),
                env: process.env.clone(),
                working_dir: process.working_dir.clone(),
                user: process.user.clone(),
                stop_signal: process.stop_signal.clone(),
                exposed_ports: process.exposed_ports.clone(),
                volumes: process.volumes.clone(),
            },
        })
    }

    /// Returns what an image was built from, if it was.
    fn build_details(&self, record: &ManifestRecord) -> Result<Option<BuildDetails>, EngineError> {
        if record.posture != REPRODUCIBLE {
            return Ok(None);
        }
        let document = self.scope.document(&record.manifest)?;
        let Some(closure) = document.and_then(|document| read_manifest(&document).ok()) else {
            return Ok(None);
        };
        let mut trust = TrustCounts::default();
        let path = |path: ClosurePath| {
            *match &path.trust {
                PathTrust::ContentAddressed => &mut trust.content_addressed,
                PathTrust::Signed { .. } => &mut trust.signed,
                PathTrust::Builder => &mut trust.builder,
            } += 1;
            let ClosurePath { path, nar_hash, nar_size, trust, .. } = path;
            BuiltPath { path, nar_hash, nar_size, trust }
        };
        let paths = closure.paths.into_iter().map(path).collect();
        Ok(Some(BuildDetails {
            derivation: closure.derivation,
            output: closure.output,
            lock: closure.lock,
            system: closure.system,
            trust,
            paths,
        }))
    }

    /// Removes a name, and its image if that was the last one. Returns a line for each thing removed.
    pub fn remove_image(&self, name: &str) -> Result<Vec<String>, EngineError> {
        let canonical = self.canonical_name(name)?;
        let used = self.images_of_vms()?;
        let removed =
            self.scope.remove_reference(&canonical, &|root| used.get(root).cloned().unwrap_or_default())?;
        let mut events = Vec::new();
        let mut lines = Vec::new();
        for reference in &removed.untagged {
            if let Ok(requested) = reference.parse() {
                events.push(Event::Delete { subject: Subject::Reference { requested } });
            }
            lines.push(format!("untagged {reference}"));
        }
        for collected in &removed.deleted {
            events.extend(deletion(collected));
            lines.push(format!("deleted {} {}", kind_name(collected.kind), collected.path.display()));
        }
        self.audit.append(&self.settings.scope, events)?;
        Ok(lines)
    }

    /// Finds an image by a name as it was pulled, or by the beginning of one of its digests.
    pub(crate) fn find_image(&self, name: &str) -> Result<ImageListing, EngineError> {
        let images = self.scope.list_images()?;
        if let Ok(source) = name.parse::<ImageSource>() {
            let canonical = full_name(source).to_string();
            if let Some(image) = images.iter().find(|image| image.references.contains(&canonical)) {
                return Ok(image.clone());
            }
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let fits = |digest: &Digest| digest.hex().starts_with(prefix);
        let mut found: Vec<ImageListing> = images
            .into_iter()
            .filter(|image| fits(&image.manifest) || fits(&image.config) || fits(&image.root_hash))
            .collect();
        match (prefix.len() >= 4, found.len()) {
            (true, 1) => Ok(found.remove(0)),
            (true, count @ 2..) => Err(EngineError::Ambiguous { text: name.to_owned(), count }),
            _ => Err(EngineError::UnknownImage(name.to_owned())),
        }
    }

    /// Returns the text under which the store removes an image.
    fn canonical_name(&self, name: &str) -> Result<String, EngineError> {
        let image = self.find_image(name)?;
        let canonical = name.parse::<ImageSource>().map(|source| source.to_string());
        match canonical {
            Ok(canonical) if image.references.contains(&canonical) => Ok(canonical),
            _ => Ok(image.manifest.to_string()),
        }
    }
}

/// Returns what the audit log is to say of a thing that was removed, or that a crash had damaged.
pub(crate) fn deletion(collected: &Collected) -> Option<Event> {
    // Names of files begin with a digest; leftovers of crashes are of no interest to an auditor.
    let name = collected.path.file_name()?.to_str()?;
    let digest: Digest = format!("sha256:{}", name.get(..64)?).parse().ok()?;
    let subject = match (collected.kind, digest) {
        (CollectedKind::Image, root_hash) => Subject::Image { root_hash },
        (CollectedKind::Segment, diff_id) => Subject::Segment { diff_id },
        (CollectedKind::Document | CollectedKind::Initramfs, digest) => Subject::Blob { digest },
        (CollectedKind::UsedPlan, digest) => Subject::Plan { digest },
        _ => return None,
    };
    Some(match collected.reason {
        Reason::Lost | Reason::Torn | Reason::Unrecorded | Reason::Unsynced => Event::Recover { subject },
        _ => Event::Delete { subject },
    })
}

/// Returns the word for a kind of thing that is collected.
pub fn kind_name(kind: CollectedKind) -> &'static str {
    match kind {
        CollectedKind::Image => "image",
        CollectedKind::Segment => "layer",
        CollectedKind::Document => "document",
        CollectedKind::Leftover => "leftover",
        CollectedKind::Initramfs => "initramfs",
        CollectedKind::Signatures => "signatures",
        CollectedKind::UsedPlan => "used plan",
    }
}

#[cfg(test)]
mod tests;
