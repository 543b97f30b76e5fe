//! Runs a case: the program under test on its image, then everybody else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::case::{Case, Outcome};
use super::expected::Tree;
use super::image::Image;
use super::kind::Kind;
use super::measure::{self, Cost};
use super::{listing, peers};
use crate::process::{Output, ProcessError, Program};
use crate::tree::{self, Entry};
use crate::workspace;

/// How long a case may take the program under test.
const LIMIT: Duration = Duration::from_secs(2);

/// How much memory it may take, in bytes.
const PEAK: u64 = 300 << 20;

/// Runs of a case that is late, in all: what counts is the fastest, since other programs run on the same machine.
const ATTEMPTS: usize = 5;

/// When a run that hangs is ended.
const HANG: Duration = Duration::from_secs(60);

/// A directory that links of hostile images point to. Nothing may change in it.
pub const CANARY: &str = "/tmp/mvm-corpus-canary";

/// What the cases that ran have shown.
#[derive(Debug, Default)]
struct Record {
    costs: Vec<(Cost, String)>,
    hostile: usize,
    oddities: usize,
    skipped: BTreeMap<String, usize>,
}

static RECORD: Mutex<Record> =
    Mutex::new(Record { costs: Vec::new(), hostile: 0, oddities: 0, skipped: BTreeMap::new() });

/// Why a case failed.
#[derive(Debug, Error)]
pub enum CaseError {
    /// A file operation of the test failed.
    #[error("cannot prepare: {0}")]
    File(#[from] io::Error),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The program under test did something else than the case says.
    #[error("{0}")]
    Wrong(String),
}

/// Fails a case with words unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::corpus::run::CaseError::Wrong(format!($($words)+)));
        }
    };
}
pub(super) use ensure;

/// Runs one case.
pub fn run(case: &Case) -> Result<(), CaseError> {
    let mut fastest: Option<Cost> = None;
    for _ in 0..ATTEMPTS {
        let cost = attempt(case)?;
        fastest = Some(fastest.map_or(cost, |before| if before.wall < cost.wall { before } else { cost }));
        if cost.wall <= LIMIT {
            break;
        }
    }
    let cost = fastest.unwrap_or_default();
    note(cost, format!("{case:?}"), case.is_hostile)
}

/// Counts a case, and fails it if it took too much.
pub(super) fn note(cost: Cost, name: String, is_hostile: bool) -> Result<(), CaseError> {
    let mut record = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
    record.costs.push((cost, name));
    if is_hostile {
        record.hostile += 1;
    } else {
        record.oddities += 1;
    }
    drop(record);
    ensure!(
        cost.wall <= LIMIT,
        "took {:?}, {:?} of them on processors; at most {:?} are allowed",
        cost.wall,
        cost.processor,
        LIMIT
    );
    ensure!(cost.peak <= PEAK, "took {} MiB, at most {} are allowed", cost.peak >> 20, PEAK >> 20);
    Ok(())
}

/// The directories of one run.
pub(super) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn of(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mvmctl(&self) -> io::Result<Program> {
        let program = measure::measured(&workspace::mvmctl(), &self.of("report"))?;
        Ok(program
            .env("HOME", self.of("home"))
            .directory(&self.of("home"))
            .limit(HANG)
            .arg("--root")
            .arg(self.of("store")))
    }
}

fn attempt(case: &Case) -> Result<Cost, CaseError> {
    let place = Place { directory: tempfile::Builder::new().prefix("mvm-corpus.").tempdir()? };
    fs::create_dir(place.of("home"))?;
    let mut image = Image::create(&place.of("layout"))?;
    (case.build)(&mut image)?;
    let archives = image.finish()?;
    let canary = canary()?;

    let name = format!("oci:{}:latest", place.of("layout").display());
    let output = place.mvmctl()?.arg("pull").args(case.arguments).arg(&name).run()?;
    let cost = measure::read(&place.of("report"))?;
    let tree = match &case.outcome {
        Outcome::Refused(kind, names) => {
            refused(&output, *kind, names)?;
            None
        }
        Outcome::Accepted(tree) => {
            ensure!(output.code() == 0, "exit code {}: {}", output.code(), output.err());
            let tree = tree();
            let listed = place.mvmctl()?.args(["image", "tree", "--json"]).arg(&name).run()?.ok()?;
            equals(&listed.stdout, &tree)?;
            Some(tree)
        }
    };
    clean(&place, tree.is_some())?;
    ensure!(canary == read_canary()?, "{CANARY} has changed");
    for skipped in peers::compare(case, &place, &archives, tree.as_ref())? {
        *RECORD.lock().unwrap_or_else(PoisonError::into_inner).skipped.entry(skipped).or_default() += 1;
    }
    Ok(cost)
}

/// Checks an exit code, and that the words are one error with at most a hint after it.
fn refused(output: &Output, kind: Kind, names: &str) -> Result<(), CaseError> {
    let words = output.err();
    let (code, text) = kind.signs();
    ensure!(output.code() == code, "exit code {}, expected {code} ({kind:?}): {words}", output.code());
    ensure!(!words.contains("panicked"), "a panic: {words}");
    let mut lines = words.lines().skip_while(|line| !line.starts_with("mvmctl: "));
    let error = lines.next().unwrap_or_default();
    ensure!(error.contains(text), "{text:?} ({kind:?}) is not in: {words}");
    ensure!(error.contains(names), "{names:?} is not in: {words}");
    let is_hint = |line: &str| line.starts_with("  hint: ") || line.starts_with("        ");
    ensure!(lines.all(is_hint), "more than an error and a hint: {words}");
    ensure!(!words.contains(|c: char| c.is_control() && c != '\n'), "control characters in {words:?}");
    ensure!(output.stdout.is_empty(), "words on stdout: {}", output.out());
    Ok(())
}

fn equals(listed: &[u8], tree: &Tree) -> Result<(), CaseError> {
    let made = listing::parse(listed).map_err(CaseError::Wrong)?;
    let differences = tree::compare(&made, tree.entries());
    ensure!(differences.is_empty(), "another tree:\n{differences}");
    Ok(())
}

/// Checks that nothing half-made is in the store, and nothing new beside it.
fn clean(place: &Place, is_accepted: bool) -> Result<(), CaseError> {
    let scope = place.of("store/scopes/default");
    let count = |name: &str| match fs::read_dir(scope.join(name)) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    let (staging, images) = (count("staging")?, count("images")?);
    ensure!(staging == 0, "{staging} files in the staging directory");
    ensure!(images == usize::from(is_accepted), "{images} images in the store");
    let strays: Vec<_> = fs::read_dir(place.of("home"))?.collect::<Result<_, _>>()?;
    ensure!(strays.is_empty(), "files in the working directory: {strays:?}");
    let mut names: Vec<_> =
        fs::read_dir(place.of("."))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.retain(|name| !["home", "layout", "report", "store"].iter().any(|known| name == known));
    ensure!(names.is_empty(), "files beside the store: {names:?}");
    if is_accepted && workspace::find("fsck.erofs").is_some() {
        for file in fs::read_dir(scope.join("images"))? {
            // It recurses, with a path on the stack each time.
            Program::new("prlimit")
                .args(["--stack=268435456", "fsck.erofs"])
                .arg(file?.path())
                .run()?
                .ok()?;
        }
    }
    Ok(())
}

/// Makes the canary where it is missing, and reads it.
fn canary() -> io::Result<BTreeMap<PathBuf, Entry>> {
    if !Path::new(CANARY).is_dir() {
        let made = tempfile::Builder::new().prefix("mvm-canary.").tempdir_in("/tmp")?;
        fs::write(made.path().join("file"), "untouched\n")?;
        // Whoever comes second finds one that is not empty, and leaves it.
        match fs::rename(made.path(), CANARY) {
            Ok(()) => drop(made.keep()),
            Err(_) if Path::new(CANARY).is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    read_canary()
}

fn read_canary() -> io::Result<BTreeMap<PathBuf, Entry>> {
    tree::read(Path::new(CANARY))
}

/// Says how many cases ran, which took most, and what could not be compared; the last line has the counts.
pub fn report(faults: usize) -> Vec<String> {
    let record = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
    if record.costs.is_empty() && faults == 0 {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for (skipped, count) in &record.skipped {
        lines.push(format!("SKIP {count} comparisons: {skipped}"));
    }
    if let Some((cost, name)) = record.costs.iter().max_by_key(|(cost, _)| cost.wall) {
        lines.push(format!("slowest case: {name}, {:.2} s", cost.wall.as_secs_f64()));
    }
    if let Some((cost, name)) = record.costs.iter().max_by_key(|(cost, _)| cost.peak) {
        lines.push(format!("largest case: {name}, {} MiB", cost.peak >> 20));
    }
    lines.push(format!(
        "{} hostile cases, {} legal oddities, {faults} faults",
        record.hostile, record.oddities
    ));
    lines
}
