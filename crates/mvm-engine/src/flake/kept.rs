//! What is kept of builds, in `builds/` of the scope: records and logs by build, and by what decides the outcome the image
//! that came of it.

use super::error::BuildError;
use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::keys;
use crate::vm::write_atomically;
use mvm_ref::nix::StorePath;
use mvm_ref::{Digest, FlakeReference};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Builds whose logs are kept by a collection.
const KEPT: usize = 100;
/// Seconds that a log is kept at most.
const KEPT_SECONDS: i64 = 90 * 24 * 60 * 60;
/// Bytes of a log before it is compressed; a builder may print without end.
const MAX_LOG: u64 = 256 << 20;
/// How strongly logs are compressed.
const LEVEL: i32 = 3;

/// What is known of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRecord {
    /// What it is called.
    // tidy: allow string-field: made here, of a time and random digits
    pub id: String,
    /// The flake.
    pub flake: FlakeReference,
    /// When it began, in seconds since 1970.
    pub started_at: i64,
    /// When it ended.
    pub ended_at: i64,
    /// The version of Nix, as it stated it.
    pub nix_version: String,
    /// How many derivations were built.
    pub derivations: usize,
    /// What came of it.
    pub outcome: BuildOutcome,
}

/// What came of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BuildOutcome {
    /// An image.
    Built {
        /// Digest of its manifest.
        manifest: Digest,
    },
    /// Nothing.
    Failed {
        /// Why.
        message: String,
    },
}

/// The image of what was built before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    pub manifest: Digest,
    pub output: StorePath,
    pub build: String,
}

/// A build that is under way, and its log.
pub(super) struct LogWriter {
    pub id: String,
    directory: PathBuf,
    started_at: i64,
    file: Option<zstd::stream::write::Encoder<'static, File>>,
    written: u64,
    failed: Option<io::Error>,
}

/// Reads a log that was kept.
pub type BuildLogReader = Box<dyn Read>;

impl LogWriter {
    /// Takes one line of a derivation or of Nix.
    pub fn line(&mut self, of: Option<&str>, text: &str) {
        let Some(file) = &mut self.file else { return };
        let mut line = String::new();
        if let Some(of) = of {
            line.push_str(of);
            line.push_str("> ");
        }
        line.push_str(text);
        line.push('\n');
        self.written += line.len() as u64;
        let written = match self.written > MAX_LOG {
            true => file.write_all(b"(the log ends here: it is too long)\n"),
            false => file.write_all(line.as_bytes()),
        };
        if let Err(error) = written {
            self.failed = Some(error);
            self.file = None;
        } else if self.written > MAX_LOG {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(Err(error)) = self.file.take().map(zstd::stream::write::Encoder::finish) {
            self.failed = Some(error);
        }
    }

    /// Removes the log of what was no build.
    pub fn discard(mut self) -> Result<(), BuildError> {
        self.file = None;
        let path = self.directory.join(format!("{}.log.zst", self.id));
        std::fs::remove_file(&path).map_err(|source| BuildError::Io { act: "remove", path, source })
    }

    /// Ends the log and puts down what came of the build.
    pub fn finish(
        mut self,
        (flake, nix_version): (&FlakeReference, &str),
        derivations: usize,
        outcome: BuildOutcome,
    ) -> Result<(), BuildError> {
        self.close();
        let log = self.directory.join(format!("{}.log.zst", self.id));
        if let Some(source) = self.failed.take() {
            return Err(BuildError::Io { act: "write", path: log, source });
        }
        let record = BuildRecord {
            id: self.id.clone(),
            flake: flake.clone(),
            started_at: self.started_at,
            ended_at: clock::unix_seconds(),
            nix_version: nix_version.to_owned(),
            derivations,
            outcome,
        };
        write_json(&self.directory.join(format!("{}.json", self.id)), &record)
    }
}

impl Engine {
    fn builds(&self) -> PathBuf {
        self.scope.path().join("builds")
    }

    /// Begins a log.
    pub(super) fn begin_log(&self) -> Result<LogWriter, EngineError> {
        let directory = self.builds();
        let failed = |act, path: &Path| {
            let path = path.to_owned();
            move |source| BuildError::Io { act, path, source }
        };
        fs::create_dir_all(&directory).map_err(failed("make", &directory))?;
        let started_at = clock::unix_seconds();
        let bytes = keys::random::<3>()?;
        let number = bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        // In order of time, as far as there is one.
        let id = format!("{started_at:010}-{number:06x}");
        let path = directory.join(format!("{id}.log.zst"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed("make", &path))?;
        let file = zstd::stream::write::Encoder::new(file, LEVEL).map_err(failed("write", &path))?;
        Ok(LogWriter { id, directory, started_at, file: Some(file), written: 0, failed: None })
    }

    /// Returns what is known of the builds of the scope, the oldest first.
    pub fn build_records(&self) -> Result<Vec<BuildRecord>, EngineError> {
        let mut records = Vec::new();
        for path in self.build_files("json")? {
            let bytes = fs::read(&path).map_err(|source| BuildError::Io { act: "read", path, source })?;
            // One of another version of mvmctl says nothing to this one.
            records.extend(serde_json::from_slice::<BuildRecord>(&bytes));
        }
        Ok(records)
    }

    /// Opens the log of a build, or of the last one; the beginning of a name is enough.
    pub fn build_log(&self, id: Option<&str>) -> Result<BuildLogReader, EngineError> {
        let wanted = id.unwrap_or_default();
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let logs = self.build_files("zst")?;
        let mut found =
            logs.into_iter().filter(|path| name(path).is_some_and(|name| name.starts_with(wanted)));
        let path = found.next_back().ok_or_else(|| BuildError::NoLog(wanted.to_owned()))?;
        let failed = |source| BuildError::Io { act: "read", path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        Ok(Box::new(zstd::stream::read::Decoder::new(file).map_err(failed)?))
    }

    /// Returns the files of builds with an extension, in order of time.
    fn build_files(&self, extension: &str) -> Result<Vec<PathBuf>, EngineError> {
        let mut files = crate::housekeeping::entries(&self.builds())?;
        files.retain(|path| path.extension().is_some_and(|there| there == extension));
        files.sort();
        Ok(files)
    }

    fn remembered_path(&self, key: &Digest) -> PathBuf {
        self.builds().join("known").join(format!("{}.json", key.hex()))
    }

    /// Returns what came of a build before.
    pub(super) fn remembered(&self, key: &Digest) -> Option<Remembered> {
        // What can't be read is built again.
        serde_json::from_slice(&fs::read(self.remembered_path(key)).ok()?).ok()
    }

    /// Remembers what came of a build.
    pub(super) fn remember_build(&self, key: &Digest, what: &Remembered) -> Result<(), EngineError> {
        let path = self.remembered_path(key);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|source| BuildError::Io {
                act: "make",
                path: directory.to_owned(),
                source,
            })?;
        }
        Ok(write_json(&path, what)?)
    }

    /// Returns the files of builds that nobody needs: logs that are old or one too many, and memories of images that are gone.
    pub(crate) fn unneeded_builds(&self) -> Result<Vec<PathBuf>, EngineError> {
        let logs = self.build_files("zst")?;
        let oldest = clock::unix_seconds() - KEPT_SECONDS;
        let started = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            name.split('-').next()?.parse::<i64>().ok()
        };
        let surplus = logs.len().saturating_sub(KEPT);
        let mut unneeded: Vec<PathBuf> = logs
            .into_iter()
            .enumerate()
            .filter(|(at, path)| *at < surplus || started(path).is_none_or(|started| started < oldest))
            .map(|(_, path)| path)
            .collect();
        let gone = |path: &PathBuf| {
            let log = path.with_extension("log.zst");
            !log.exists() || unneeded.contains(&log)
        };
        let records: Vec<PathBuf> = self.build_files("json")?.into_iter().filter(gone).collect();
        unneeded.extend(records);
        for path in crate::housekeeping::entries(&self.builds().join("known"))? {
            let what =
                fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
            let there = match what {
                Some(what) => self.scope.manifest(&what.manifest)?.is_some(),
                None => false,
            };
            if !there {
                unneeded.push(path);
            }
        }
        Ok(unneeded)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BuildError> {
    let failed = |source| BuildError::Io { act: "write", path: path.to_owned(), source };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes).map_err(failed)
}
