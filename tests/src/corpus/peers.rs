//! What other programs make of the same images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::case::{Case, Peer};
use super::expected::Tree;
use super::run::{CaseError, Place, ensure};
use crate::need::Need;
use crate::process::{ProcessError, Program};
use crate::tree::{self, Entry};

/// When another program that hangs is ended.
const HANG: Duration = Duration::from_secs(20);

/// Compares a case with all that it names; returns why some could not be asked.
pub(super) fn compare(
    case: &Case,
    place: &Place,
    archives: &[Vec<u8>],
    tree: Option<&Tree>,
) -> Result<Vec<String>, CaseError> {
    let mut skipped = Vec::new();
    if !matches!(case.umoci, Peer::NotAsked(_)) {
        match missing(&[Need::Program("umoci", "umoci"), Need::Root]) {
            Some(reason) => skipped.push(reason),
            None => judge("umoci", case.umoci, tree, umoci(place)?)?,
        }
    }
    if let Some(peer) = case.bsdtar.filter(|peer| !matches!(peer, Peer::NotAsked(_))) {
        match missing(&[Need::Program("bsdtar", "libarchive-tools"), Need::Root]) {
            Some(reason) => skipped.push(reason),
            None => {
                ensure!(
                    archives.len() == 1,
                    "bsdtar reads one layer that isn't compressed, not {}",
                    archives.len()
                );
                judge("bsdtar", peer, tree, bsdtar(place, &archives[0])?)?;
            }
        }
    }
    if let Some(peer) = case.skopeo.filter(|peer| !matches!(peer, Peer::NotAsked(_))) {
        match missing(&[Need::Program("skopeo", "skopeo")]) {
            Some(reason) => skipped.push(reason),
            None => agree("skopeo", peer, tree.is_some(), &skopeo(place)?)?,
        }
    }
    Ok(skipped)
}

/// Compares whether both accept, with a program that makes no tree.
fn agree(name: &str, peer: Peer, is_accepted: bool, made: &Result<(), String>) -> Result<(), CaseError> {
    let difference = match (is_accepted, made) {
        (true, Err(words)) => Some(format!("{name} refuses it: {words}")),
        (false, Ok(())) => Some(format!("{name} accepts it")),
        _ => None,
    };
    match (peer, difference) {
        (Peer::Same, Some(difference)) => Err(CaseError::Wrong(difference)),
        (Peer::Differs(why), None) => {
            Err(CaseError::Wrong(format!("{name} does the same, but should differ: {why}")))
        }
        _ => Ok(()),
    }
}

fn missing(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| need.missing())
}

/// What another program has made, or what it said when it refused.
type Made = Result<BTreeMap<PathBuf, Entry>, String>;

fn judge(name: &str, peer: Peer, tree: Option<&Tree>, made: Made) -> Result<(), CaseError> {
    let difference = match (tree, made) {
        (None, Err(_)) => None,
        (None, Ok(made)) => {
            let paths: Vec<&PathBuf> = made.keys().take(8).collect();
            Some(format!("{name} accepts it: {paths:?}"))
        }
        (Some(_), Err(words)) => Some(format!("{name} refuses it: {words}")),
        (Some(tree), Ok(made)) => {
            differences(made, tree).map(|text| format!("{name} makes another tree:\n{text}"))
        }
    };
    match (peer, difference) {
        (Peer::Same, Some(difference)) => Err(CaseError::Wrong(difference)),
        (Peer::Differs(why), None) => {
            Err(CaseError::Wrong(format!("{name} does the same, but should differ: {why}")))
        }
        _ => Ok(()),
    }
}

/// Compares trees, but for the times of directories that no layer describes, and of those in which they were made.
fn differences(mut made: BTreeMap<PathBuf, Entry>, tree: &Tree) -> Option<String> {
    for (path, entry) in &mut made {
        if tree.has_time_of_unpacking(path)
            && let Some(wanted) = tree.entries().get(path)
        {
            entry.mtime = wanted.mtime;
        }
    }
    let differences = tree::compare(&made, tree.entries());
    (!differences.is_empty()).then(|| differences.to_string())
}

fn umoci(place: &Place) -> Result<Made, CaseError> {
    let bundle = place.of("bundle");
    let image = format!("{}:latest", place.of("layout").display());
    let run = Program::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).limit(HANG).run();
    ended(run, &bundle.join("rootfs"))
}

fn bsdtar(place: &Place, archive: &[u8]) -> Result<Made, CaseError> {
    let (file, root) = (place.of("layer.tar"), place.of("bsdtar"));
    fs::write(&file, archive)?;
    fs::create_dir(&root)?;
    let run =
        Program::new("bsdtar").args(["-x", "-p", "--numeric-owner", "-f"]).arg(&file).arg("-C").arg(&root);
    ended(run.limit(HANG).run(), &root)
}

fn skopeo(place: &Place) -> Result<Result<(), String>, CaseError> {
    let image = format!("oci:{}:latest", place.of("layout").display());
    let copy = format!("dir:{}", place.of("copy").display());
    let run = Program::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", &image, &copy])
        .limit(HANG)
        .run();
    match run {
        Ok(output) if output.code() == 0 => Ok(Ok(())),
        Ok(output) => Ok(Err(output.err())),
        Err(ProcessError::Late { .. }) => Ok(Err(format!("no end after {HANG:?}"))),
        Err(error) => Err(error.into()),
    }
}

fn ended(run: Result<crate::process::Output, ProcessError>, root: &Path) -> Result<Made, CaseError> {
    match run {
        Ok(output) if output.code() == 0 => Ok(Ok(tree::read(root)?)),
        Ok(output) => Ok(Err(output.err())),
        Err(ProcessError::Late { .. }) => Ok(Err(format!("no end after {HANG:?}"))),
        Err(error) => Err(error.into()),
    }
}
