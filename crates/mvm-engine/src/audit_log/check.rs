//! The check of a whole log: its chain, its checkpoints, the record of where it ended, and a witness.

mod tampering;

pub use tampering::{Evidence, Tampering};

use super::files::Recorded;
use super::read::Snapshot;
use super::witness::{self, Witnessed};
use super::{AuditError, AuditLog, io_error};
use crate::error::chain;
use crate::keys;
use mvm_plan::audit::{self, Chain, Checkpoint, Entry, LineInPlace, Seals, Statement, VerifyError};
use mvm_plan::{KeyId, PublicKey, UtcTime};
use mvm_ref::Digest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a log is held against.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// A witness, in place of the one of the settings.
    pub witness: Option<PathBuf>,
    /// Files of public keys that checkpoints may be signed with, beside the keys of the store.
    pub keys: Vec<PathBuf>,
}

/// What a log that is whole says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct AuditReport {
    /// Number of entries.
    pub entries: u64,
    /// Digest of the last line, zeros if there is none.
    pub head: Digest,
    /// Number of files.
    pub files: usize,
    /// Whether there is a record of where the log ended, which agrees.
    pub head_recorded: bool,
    /// Number of checkpoints, all of them signed by known keys.
    pub checkpoints: u64,
    /// Number of entries that the last checkpoint covers.
    pub signed_entries: u64,
    /// The keys that signed.
    pub signers: Vec<KeyId>,
    /// How often the clock had been set back when an entry was written.
    pub clock_steps_back: u64,
    /// What a witness says, if there is one.
    pub witness: Option<WitnessReport>,
    /// What this check can't know, in words.
    pub cannot_know: Vec<String>,
}

/// What a witness says of a log.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessReport {
    /// Where it is.
    pub path: PathBuf,
    /// Number of its checkpoints of this log, all of which agree.
    pub checkpoints: u64,
    /// Number of entries that they cover.
    pub signed_entries: u64,
    /// Number of its checkpoints of other logs.
    pub of_others: u64,
    /// Number of its lines that were cut short while they were written.
    pub torn: u64,
}

/// A witness whose signatures hold.
struct Witness {
    path: PathBuf,
    statements: Vec<(u64, Statement)>,
    torn: u64,
}

/// What is seen on the way through a log.
struct Walk<'a> {
    keys: &'a [PublicKey],
    /// What others know, by the number of the last entry that it covers.
    known: BTreeMap<u64, Vec<(Digest, Option<Digest>, Evidence)>>,
    origin: Option<Digest>,
    checkpoints: u64,
    signed: u64,
    signers: Vec<KeyId>,
    last: Option<UtcTime>,
    clock_steps: u64,
    /// The last entry that somebody else knows as it stands.
    good: Option<u64>,
    /// The first thing that is wrong though the chain holds, and its entry.
    wrong: Option<(u64, Tampering)>,
    failed: Option<AuditError>,
}

impl AuditLog {
    /// Checks the whole log.
    pub fn verify(&self, request: &Verification) -> Result<AuditReport, AuditError> {
        let keys = self.known_keys(&request.keys)?;
        let configured = self.settings()?.witness;
        let witness = match request.witness.as_ref().or(configured.as_ref()) {
            Some(path) => Some(self.witness(path, &keys)?),
            None => None,
        };
        let snapshot = self.snapshot()?;
        let mut known: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        let mut add = |entries: u64, head, origin, evidence| {
            if let Some(entry) = entries.checked_sub(1) {
                known.entry(entry).or_default().push((head, origin, evidence));
            }
        };
        let mut last = None;
        if let Recorded::End(head) = &snapshot.recorded {
            add(head.entries, head.head, None, Evidence::Record);
            last = head.entries.checked_sub(1).map(|entry| (entry, head.head));
        }
        for (line, statement) in witness.iter().flat_map(|witness| &witness.statements) {
            add(statement.entries, statement.head, Some(statement.origin), Evidence::Witness(*line));
        }
        let mut walk = Walk {
            keys: &keys,
            known,
            origin: None,
            checkpoints: 0,
            signed: 0,
            signers: Vec::new(),
            last: None,
            clock_steps: 0,
            good: None,
            wrong: None,
            failed: None,
        };
        let walked = audit::walk(snapshot.reader(), Chain::start(), last, &mut |line| walk.see(&line));
        if let Some(error) = walk.failed.take() {
            return Err(error);
        }
        let summary = match walked {
            Ok(summary) => summary,
            Err(error) => return Err(self.broken(&snapshot, error, walk.wrong)?),
        };
        if let Some((entry, source)) = walk.wrong.take() {
            let source = match source {
                Tampering::Rewritten { entry, evidence, .. } if entry + 1 == summary.entries => {
                    Tampering::LastEntry { entry, evidence }
                }
                source => source,
            };
            return Err(self.wrong(&snapshot, Some(entry), source)?);
        }
        if let Some(source) = walk.missing(summary.entries, &snapshot.recorded) {
            return Err(self.wrong(&snapshot, None, source)?);
        }
        let witness = match witness {
            Some(witness) => Some(walk.report(witness, &snapshot.recorded)),
            None => None,
        };
        let witness = match witness {
            Some(Err(source)) => return Err(self.wrong(&snapshot, None, source)?),
            Some(Ok(report)) => Some(report),
            None => None,
        };
        let mut report = AuditReport {
            entries: summary.entries,
            head: summary.head,
            files: snapshot.parts.len(),
            head_recorded: matches!(snapshot.recorded, Recorded::End(_)),
            checkpoints: walk.checkpoints,
            signed_entries: walk.signed,
            signers: walk.signers,
            clock_steps_back: walk.clock_steps,
            witness,
            cannot_know: Vec::new(),
        };
        report.cannot_know = report.limits(&snapshot.recorded);
        Ok(report)
    }

    fn known_keys(&self, files: &[PathBuf]) -> Result<Vec<PublicKey>, AuditError> {
        let mut known = keys::known(&self.root).map_err(|error| AuditError::Unsigned(Box::new(error)))?;
        for path in files {
            let text = fs::read_to_string(path).map_err(io_error("read a key of", path))?;
            let key = PublicKey::from_pem(&text)
                .map_err(|source| AuditError::Key { path: path.clone(), source })?;
            known.push(key);
        }
        Ok(known)
    }

    /// Reads a witness and checks its signatures.
    fn witness(&self, path: &Path, keys: &[PublicKey]) -> Result<Witness, AuditError> {
        let Witnessed { checkpoints, torn } = witness::read(path)?;
        let mut statements = Vec::new();
        for (line, checkpoint) in checkpoints {
            let key = match checkpoint.seals(keys)? {
                Seals::Valid(_) => {
                    statements.push((line, *checkpoint.statement()));
                    continue;
                }
                Seals::Forged(key) => Some(key),
                Seals::Unknown(key) => key,
            };
            let source = Tampering::WitnessSignature { path: path.to_owned(), line, key };
            return Err(AuditError::Verify { path: self.current(), source: Box::new(source) });
        }
        Ok(Witness { path: path.to_owned(), statements, torn })
    }

    /// Says where a chain broke, or what is wrong before that.
    fn broken(
        &self,
        snapshot: &Snapshot,
        error: VerifyError,
        wrong: Option<(u64, Tampering)>,
    ) -> Result<AuditError, AuditError> {
        if let Some((entry, source)) = wrong
            && error.entry().is_none_or(|broken| entry < broken)
        {
            return self.wrong(snapshot, Some(entry), source);
        }
        // What was cut short had been whole, if the record of the end knows it so.
        if let (VerifyError::Torn { whole, .. }, Recorded::End(head)) = (&error, &snapshot.recorded)
            && head.entries > whole.entries
        {
            let (entries, expected) = (whole.entries, head.entries);
            let source = Tampering::Truncated { entries, expected, evidence: Evidence::Record };
            return self.wrong(snapshot, None, source);
        }
        let (path, before) = self.locate(snapshot, error.line())?;
        Ok(AuditError::Verify { path, source: Box::new(Tampering::Chain(error.in_file(before))) })
    }

    fn wrong(
        &self,
        snapshot: &Snapshot,
        entry: Option<u64>,
        source: Tampering,
    ) -> Result<AuditError, AuditError> {
        let path = match entry {
            Some(entry) => self.locate(snapshot, entry + 1)?.0,
            None => self.current(),
        };
        Ok(AuditError::Verify { path, source: Box::new(source) })
    }

    fn locate(&self, snapshot: &Snapshot, line: u64) -> Result<(PathBuf, u64), AuditError> {
        snapshot.locate(line).map_err(io_error("read", &self.current()))
    }
}

impl Walk<'_> {
    fn see(&mut self, line: &LineInPlace<'_>) {
        let origin = *self.origin.get_or_insert(line.digest);
        if let (Some(time), Some(last)) = (line.time, self.last)
            && time < last
        {
            self.clock_steps += 1;
        }
        self.last = line.time.or(self.last);
        for (digest, _, evidence) in self
            .known
            .remove(&line.seq)
            .into_iter()
            .flatten()
            .filter(|(_, of, _)| of.is_none_or(|of| of == origin))
        {
            if digest == line.digest {
                self.good = Some(line.seq);
            } else {
                let (entry, good) = (line.seq, self.good);
                self.find(line.seq, Tampering::Rewritten { entry, good, evidence });
            }
        }
        // A quick look first, for nearly no line is one: in a string, the quotes would not stand like this.
        const KIND: &[u8] = br#""kind":"checkpoint""#;
        if line.text.windows(KIND.len()).any(|window| window == KIND)
            && let Ok(entry) = Entry::parse(line.text)
            && let Some(checkpoint) = Checkpoint::of(&entry)
        {
            self.check(&entry, &checkpoint, origin);
        }
    }

    fn check(&mut self, entry: &Entry, checkpoint: &Checkpoint, origin: Digest) {
        let Statement { entries, head, origin: of, .. } = *checkpoint.statement();
        let seq = entry.seq;
        if (entries, head, of) != (seq, entry.prev, origin) {
            return self.find(seq, Tampering::Misplaced { entry: seq });
        }
        match checkpoint.seals(self.keys) {
            Ok(Seals::Valid(key)) => {
                self.checkpoints += 1;
                self.signed = entries;
                if !self.signers.contains(&key) {
                    self.signers.push(key);
                }
            }
            Ok(Seals::Forged(key)) => self.find(seq, Tampering::Forged { entry: seq, key }),
            Ok(Seals::Unknown(key)) => self.find(seq, Tampering::Stranger { entry: seq, key }),
            Err(error) => self.failed = Some(error.into()),
        }
    }

    fn find(&mut self, entry: u64, tampering: Tampering) {
        self.wrong.get_or_insert((entry, tampering));
    }

    /// Returns what others know of entries that are not there.
    fn missing(&mut self, entries: u64, recorded: &Recorded) -> Option<Tampering> {
        let origin = self.origin.or(match recorded {
            Recorded::End(head) => Some(head.origin),
            Recorded::Nothing | Recorded::Damaged(_) => None,
        });
        let known = std::mem::take(&mut self.known).into_iter().rev();
        let mut beyond = known
            .flat_map(|(entry, all)| all.into_iter().map(move |one| (entry, one)))
            .filter(|(_, (_, of, _))| of.is_none() || *of == origin);
        let (entry, (_, _, evidence)) = beyond.next()?;
        let expected = entry + 1;
        Some(match entries {
            0 => Tampering::Gone { expected, evidence },
            entries => Tampering::Truncated { entries, expected, evidence },
        })
    }

    /// Sums up what a witness says, which agrees with the log as far as it is of this one.
    fn report(&self, witness: Witness, recorded: &Recorded) -> Result<WitnessReport, Tampering> {
        let origin = self.origin.or(match recorded {
            Recorded::End(head) => Some(head.origin),
            Recorded::Nothing | Recorded::Damaged(_) => None,
        });
        let all = witness.statements.len() as u64;
        let own = witness.statements.iter().filter(|(_, statement)| Some(statement.origin) == origin);
        let (mut checkpoints, mut signed_entries) = (0, 0);
        for (_, statement) in own {
            checkpoints += 1;
            signed_entries = signed_entries.max(statement.entries);
        }
        if checkpoints == 0 {
            return Err(Tampering::Unwitnessed { path: witness.path });
        }
        let of_others = all - checkpoints;
        Ok(WitnessReport { path: witness.path, checkpoints, signed_entries, of_others, torn: witness.torn })
    }
}

impl AuditReport {
    /// Says what the evidence doesn't tell.
    fn limits(&self, recorded: &Recorded) -> Vec<String> {
        let mut limits = Vec::new();
        match recorded {
            Recorded::End(_) => {}
            Recorded::Nothing if self.entries == 0 => {
                limits
                    .push("whether there ever was an entry: no record of the log's end is there".to_owned());
            }
            Recorded::Nothing => limits.push(
                "whether entries at the end were removed: no record of the log's end is there".to_owned(),
            ),
            Recorded::Damaged(error) => limits.push(format!(
                "whether entries at the end were removed: the record of the log's end is damaged ({})",
                chain(error)
            )),
        }
        if self.entries == 0 {
            return limits;
        }
        // The checkpoint itself is one of those that are left.
        let unsigned = self.entries - self.signed_entries - u64::from(self.checkpoints > 0);
        if self.checkpoints == 0 {
            limits.push(
                "whether all of it was written anew: no entry is signed yet (a VM's end, or mvmctl audit \
                 checkpoint, signs them)"
                    .to_owned(),
            );
        } else if unsigned > 0 {
            let first = self.signed_entries + 1;
            limits.push(format!(
                "whether entries {first} to {} were written anew: they are not signed yet",
                self.entries - 1
            ));
        }
        match &self.witness {
            None => limits.push(
                "whether somebody who has the signing key wrote the log anew: there is no witness".to_owned(),
            ),
            Some(witness) if witness.signed_entries < self.entries => limits.push(format!(
                "whether somebody who has the signing key wrote entries from {} on anew: the witness has not seen \
                 them",
                witness.signed_entries
            )),
            Some(_) => {}
        }
        limits
    }
}

#[cfg(test)]
mod tests;
