//! Bringing the paths of a closure into the store.

use super::{Failed, ImportError, NarSource};
use crate::audit_log::Note;
use crate::engine::Engine;
use crate::images::deletion;
use crate::progress::{Cancel, Progress, Step};
use crate::pull::{Allowance, PullError};
use mvm_image::GENERATION;
use mvm_image::segment::{SegmentSummary, SegmentWriter};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::nix::{Closure, PathInfo, StorePath};
use mvm_ref::verify::{self, NarSide};
use mvm_ref::{Digest, VerifiedPath};
use mvm_store::{Claim, Segment, SegmentFiles, SegmentStats};
use mvm_tree::{Budget, read_nar};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// Bytes of NARs that are read at a time.
const BUFFER: usize = 1 << 20;
/// Open files that each path takes while the image is put together: a directory that is locked, and four files of its segment.
const FILES_OF_A_PATH: u64 = 5;
/// Open files of everything else.
const OTHER_FILES: u64 = 256;

/// An import, and who hears of it.
#[derive(Clone, Copy)]
pub(super) struct Import<'i> {
    pub engine: &'i Engine,
    pub closure: &'i Closure,
    pub output: &'i StorePath,
    pub progress: &'i dyn Progress,
    pub cancel: &'i Cancel,
}

/// The paths of a closure, all in the store.
pub(super) struct Paths {
    pub segments: BTreeMap<StorePath, Segment>,
    /// The keys of those that were there before.
    pub cached: BTreeSet<Digest>,
    pub allowance: Allowance,
}

impl Import<'_> {
    /// Brings in the paths that the scope lacks, and returns all of them. What the audit log is to say goes to `notes`.
    pub(super) fn paths(&self, source: &mut dyn NarSource, notes: &mut Vec<Note>) -> Result<Paths, Failed> {
        let Self { engine, closure, progress, .. } = *self;
        let mut paths = Paths {
            segments: BTreeMap::new(),
            cached: BTreeSet::new(),
            allowance: engine.allowance().map_err(ImportError::Store)?,
        };
        let mut missing = Vec::new();
        for info in closure.paths() {
            match self.known(info, notes)? {
                Some(segment) => {
                    paths.cached.insert(info.segment_key());
                    paths.segments.insert(info.path.clone(), segment);
                }
                None => missing.push(info),
            }
        }
        for key in &paths.cached {
            notes.push(Event::CacheHit { subject: Subject::Segment { diff_id: *key } }.into());
        }
        let size = missing.iter().map(|info| info.nar_size).sum();
        progress.step(Step::Closure { paths: closure.paths().len(), missing: missing.len(), size });
        if missing.is_empty() {
            return Ok(paths);
        }
        paths.allowance.check_bytes(size).map_err(|source| ImportError::Quota(Box::new(source)))?;
        let asked: Vec<StorePath> = missing.iter().map(|info| info.path.clone()).collect();
        let mut stream = BufReader::with_capacity(BUFFER, source.nars(&asked)?);
        // Of paths that are in the store already the merge takes account.
        let budget = Budget::new(&engine.settings.unpack_policy());
        let mut received = 0;
        for info in missing {
            let segment = self.path(info, &mut stream, &budget, &paths.allowance, notes)?;
            received += info.nar_size;
            progress.step(Step::ClosureBytes { received });
            paths.segments.insert(info.path.clone(), segment);
        }
        match stream.read(&mut [0]) {
            Ok(0) => Ok(paths),
            Ok(_) => Err(ImportError::Trailing.into()),
            Err(source) => Err(ImportError::Read(source).into()),
        }
    }

    /// Returns what the scope has of a path, if that is what it was when it was verified.
    fn known(&self, info: &PathInfo, notes: &mut Vec<Note>) -> Result<Option<Segment>, ImportError> {
        let scope = &self.engine.scope;
        let key = info.segment_key();
        let Some(segment) = scope.segment(&key, GENERATION)? else { return Ok(None) };
        if segment.check().is_ok() {
            return Ok(Some(segment));
        }
        drop(segment);
        let words = format!("{} is damaged in the store, and is fetched anew", info.path);
        self.progress.step(Step::Notice(words));
        let discarded = scope.discard_segments(&[key].into())?;
        notes.extend(discarded.iter().filter_map(deletion).map(Note::from));
        Ok(None)
    }

    /// Reads the next NAR of the stream, which is that of `info`, into the store.
    fn path(
        &self,
        info: &PathInfo,
        stream: &mut dyn BufRead,
        budget: &Budget,
        allowance: &Allowance,
        notes: &mut Vec<Note>,
    ) -> Result<Segment, ImportError> {
        let cancel = self.cancel;
        let claim =
            self.engine.scope.claim_segment(&info.segment_key(), GENERATION, &|| cancel.requested())?;
        // Where another process was faster the NAR is in the stream all the same.
        let scratch;
        let files = match &claim {
            Claim::Build(slot) => slot.files(),
            Claim::Ready(_) => {
                scratch = nowhere().map_err(ImportError::Segment)?;
                &scratch
            }
        };
        let (summary, verified) = unpack(info, stream, files, budget, allowance, cancel)?;
        notes.extend(read_and_verified(&verified));
        let SegmentSummary { blocks, tail_bytes, entries, .. } = summary;
        match claim {
            Claim::Build(slot) => Ok(slot.commit(&verified, SegmentStats { blocks, tail_bytes, entries })?),
            Claim::Ready(segment) => Ok(segment),
        }
    }
}

/// Files that are written and never read.
fn nowhere() -> io::Result<SegmentFiles> {
    let open = || File::options().write(true).open("/dev/null");
    Ok(SegmentFiles { data: open()?, tails: open()?, leaves: open()?, index: open()? })
}

/// Reads a NAR into the files of a segment and compares it with what is said of it.
fn unpack(
    info: &PathInfo,
    stream: &mut dyn BufRead,
    files: &SegmentFiles,
    budget: &Budget,
    allowance: &Allowance,
    cancel: &Cancel,
) -> Result<(SegmentSummary, VerifiedPath), ImportError> {
    let path = || info.path.clone();
    let store = |source| {
        let (offset, name) = (0, mvm_tree::Escaped::new(info.path.base_name().as_bytes()));
        let source = mvm_tree::NarError::Store { offset, path: name, source };
        ImportError::Nar { path: path(), hash: info.nar_hash, source }
    };
    let mut writer =
        SegmentWriter::new(&files.data, &files.tails, &files.leaves, &files.index).map_err(store)?;
    let mut checked = Checked {
        inner: stream,
        side: verify::store_path(info),
        left: info.nar_size,
        ran_over: false,
        cancel,
    };
    let read = {
        let mut watched = allowance.watch(&mut checked, files, None);
        read_nar(&mut watched, info.path.relative().as_bytes(), budget, &mut writer)
    };
    if let Err(source) = read {
        return Err(match (checked.ran_over, allowance.exceeded()) {
            (_, Some(exceeded)) => ImportError::Quota(Box::new(PullError::Quota(exceeded))),
            (true, _) => ImportError::TooLong { path: path(), hash: info.nar_hash, expected: info.nar_size },
            _ => ImportError::Nar { path: path(), hash: info.nar_hash, source },
        });
    }
    let summary = writer.finish().map_err(store)?;
    Ok((summary, checked.side.finish()?))
}

/// The next NAR of a stream: hashed as it is read, and at most as long as it is said to be.
struct Checked<'s> {
    inner: &'s mut dyn BufRead,
    side: NarSide,
    left: u64,
    /// Whether more was wanted.
    ran_over: bool,
    cancel: &'s Cancel,
}

impl Read for Checked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Checked<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.cancel.requested() {
            return Err(io::Error::other("interrupted"));
        }
        if self.left == 0 {
            self.ran_over = true;
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf()?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(&bytes[..bytes.len().min(most)])
    }

    fn consume(&mut self, count: usize) {
        // What was just looked at is still there.
        if let Ok(bytes) = self.inner.fill_buf() {
            self.side.update(&bytes[..count]);
        }
        self.inner.consume(count);
        self.left -= count as u64;
    }
}

fn read_and_verified(path: &VerifiedPath) -> [Note; 2] {
    let digest = path.nar_hash().digest();
    let key = mvm_ref::VerifiedSegment::from(path).key();
    [
        Event::Fetch { digest, size: path.nar_size() },
        Event::Verify { digest, diff_id: Some(key), passed: true },
    ]
    .map(|event| Note::from(event).with("store-path", &path.path().to_string()))
}

/// Lets this process open the files that so many paths take, as far as it may.
///
/// Shells give a low limit for the sake of programs that use `select(2)`, and a high one that processes may take themselves.
pub(super) fn raise_file_limit(paths: usize) -> Result<(), ImportError> {
    let needed = (paths as u64 + 1).saturating_mul(FILES_OF_A_PATH).saturating_add(OTHER_FILES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(limit) = maximum.filter(|maximum| *maximum < needed) {
        return Err(ImportError::Files { paths, needed, limit });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|errno| ImportError::Segment(errno.into()))
}
