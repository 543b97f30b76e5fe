//! A builder's root from Debian packages: fetched and verified by apt, read as layers, nothing of them executed.

mod apt;
mod base;
mod deb;
mod layout;

#[cfg(test)]
mod tests;

pub use apt::AptError;
pub use deb::DebError;

use super::error::BuilderError;
use crate::progress::{Cancel, Progress, Step};
use apt::Apt;
use base::Base;
use layout::Layout;
use mvm_ref::Digest;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What is asked of apt; it finds what these depend on.
const PACKAGES: [&str; 5] = ["nix-bin", "bash-static", "busybox-static", "ca-certificates", "git"];

/// What comes with them by dependencies, and is only for scripts and manuals that a builder has no use for.
const LEFT_OUT: [&str; 8] = [
    "git-man",
    "libdbd-sqlite3-perl",
    "libdbi-perl",
    "liberror-perl",
    "libperl5.",
    "libwww-curl-perl",
    "perl",
    "perl-modules-",
];

/// The release of Debian that a builder's packages are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DebianRelease {
    /// Debian 13, with Nix 2.26.
    #[default]
    Trixie,
    /// Debian 12, with Nix 2.8, which is too old for current nixpkgs.
    Bookworm,
}

/// A package that a builder's root holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianPackage {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// Digest of the package's file, as apt's signed index has it.
    pub digest: Digest,
}

/// What was made of a release's packages.
pub(super) struct Made {
    /// The OCI layout, which holds one image.
    pub layout: PathBuf,
    /// The packages in it, by name.
    pub packages: Vec<DebianPackage>,
}

impl DebianRelease {
    /// Returns the release's code name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
        }
    }
}

impl fmt::Display for DebianRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DebianRelease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trixie" | "13" => Ok(Self::Trixie),
            "bookworm" | "12" => Ok(Self::Bookworm),
            _ => Err(format!(
                "{text:?} is no release that a builder is made of; there are trixie and bookworm"
            )),
        }
    }
}

/// Makes an OCI layout of a release's packages in `directory`, which is empty. The same packages make the same bytes.
pub(super) fn make(
    directory: &Path,
    program_path: &OsStr,
    release: DebianRelease,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Made, BuilderError> {
    let apt = Apt::prepare(directory, program_path, release, cancel)?;
    progress.step(Step::Notice(format!("asking apt for the packages of Debian {release}")));
    apt.update()?;
    let mut chosen = apt.choose(&PACKAGES)?;
    chosen.retain(|download| !is_left_out(&download.package.package));
    // apt's order follows dependencies, and may change with what it knows of others.
    chosen.sort_by(|a, b| a.package.package.cmp(&b.package.package));
    if cancel.requested() {
        return Err(BuilderError::Interrupted);
    }
    let bytes: u64 = chosen.iter().map(|download| download.size).sum();
    progress.step(Step::Notice(format!(
        "fetching {} packages, {} MB",
        chosen.len(),
        bytes.div_ceil(1_000_000)
    )));
    apt.fetch(&PACKAGES)?;
    let mut layout = Layout::create(&directory.join("layout"))?;
    let mut base = Base::default();
    for download in &chosen {
        if cancel.requested() {
            return Err(BuilderError::Interrupted);
        }
        let package = &download.package;
        let words =
            format!("{} {} {} {}", package.package, package.version, package.architecture, package.digest);
        let path = apt.file(download);
        layout.layer(&words, |out| {
            deb::to_layer(&path, package.digest, out, &mut base)
                .map_err(|source| BuilderError::Package { name: package.package.clone(), source })
        })?;
        fs::remove_file(&path).map_err(|source| BuilderError::Io {
            act: "remove",
            path: path.clone(),
            source,
        })?;
    }
    layout.layer("what the packages' scripts would have made", |out| {
        base.write(release, out).map_err(|source| BuilderError::Io {
            act: "write a layer of",
            path: directory.to_owned(),
            source,
        })
    })?;
    let layout = layout.finish()?;
    Ok(Made { layout, packages: chosen.into_iter().map(|download| download.package).collect() })
}

fn is_left_out(name: &str) -> bool {
    // Those that end in a version's beginning stand for all versions.
    let stands_for = |left: &&str| match left.ends_with(['.', '-']) {
        true => name.starts_with(*left),
        false => name == *left,
    };
    LEFT_OUT.iter().any(stands_for)
}
