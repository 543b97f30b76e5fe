//! apt, run as an ordinary user with state of its own: it finds what a package needs, and verifies what it fetches.
//!
//! The mirror is the one that the machine's own apt fetches Debian from, the keys are Debian's. Nothing of the machine's
//! own packages is looked at or changed.

use super::{DebianPackage, DebianRelease};
use crate::builder::error::BuilderError;
use crate::progress::Cancel;
use mvm_launch::exec::{ExecError, Invocation, Limits, Output, find_program};
use mvm_ref::Digest;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The keys that releases of Debian are signed with (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package indexes and packages are some 100 MB; whoever needs longer has no connection to speak of.
const LIMITS: Limits = Limits { time: Duration::from_secs(30 * 60), output: 4 << 20 };

/// Says why apt could not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// apt is not on this machine.
    #[error("apt-get is not installed, so there is nothing to fetch Debian's packages with")]
    NotInstalled(#[source] ExecError),
    /// The keys that verify Debian's packages are not on this machine.
    #[error("{KEYRING} is not there, so that nothing verifies Debian's packages")]
    NoKeyring,
    /// The machine's apt fetches from no mirror of Debian.
    #[error("this machine's apt has no source of Debian's packages")]
    NoMirror,
    /// apt failed.
    #[error("apt-get {act}")]
    Run {
        /// What it was to do.
        act: &'static str,
        /// What it said.
        source: ExecError,
    },
    /// apt listed something that is not understood.
    #[error("apt-get listed {0:?}, which is no package with its SHA-256")]
    Line(String),
}

/// apt with its own state.
pub(super) struct Apt<'c> {
    program: PathBuf,
    path: OsString,
    directory: PathBuf,
    cancel: &'c Cancel,
}

/// A package that apt has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Download {
    pub package: DebianPackage,
    /// The name that apt gives the file.
    pub file: String,
    pub size: u64,
}

impl<'c> Apt<'c> {
    /// Makes the state below a directory. Where `cancel` calls the work off, apt is ended.
    pub fn prepare(
        directory: &Path,
        path: &OsStr,
        release: DebianRelease,
        cancel: &'c Cancel,
    ) -> Result<Self, BuilderError> {
        let program = find_program("apt-get", path).map_err(AptError::NotInstalled)?;
        if !Path::new(KEYRING).exists() {
            return Err(AptError::NoKeyring.into());
        }
        let apt = Self { program, path: path.to_owned(), directory: directory.to_owned(), cancel };
        let mirror = apt.mirror()?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BuilderError::Io { act: "write", path, source }
        };
        for name in ["apt/lists/partial", "apt/debs/partial", "apt/empty"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        let sources = format!("deb [signed-by={KEYRING}] {mirror} {release} main\n");
        for (name, text) in [("apt/status", ""), ("apt/sources.list", sources.as_str())] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(failed(&path))?;
        }
        Ok(apt)
    }

    /// Fetches the lists of packages, which Debian's keys have to have signed.
    pub fn update(&self) -> Result<(), BuilderError> {
        self.run("update", &["update", "-qq", "-o", "APT::Update::Error-Mode=any"]).map(drop)
    }

    /// Lists the packages with all that they depend on.
    pub fn choose(&self, packages: &[&str]) -> Result<Vec<Download>, BuilderError> {
        let mut words = vec!["install", "-qq", "-y", "--print-uris", "-o", "Acquire::ForceHash=SHA256"];
        words.extend(packages);
        let listed = self.run("install --print-uris", &words)?;
        Ok(parse(&String::from_utf8_lossy(&listed.stdout))?)
    }

    /// Fetches them.
    pub fn fetch(&self, packages: &[&str]) -> Result<(), BuilderError> {
        let mut words = vec!["install", "-qq", "-y", "--download-only"];
        words.extend(packages);
        self.run("install --download-only", &words).map(drop)
    }

    /// Returns where a package is that was fetched.
    pub fn file(&self, download: &Download) -> PathBuf {
        self.directory.join("apt/debs").join(&download.file)
    }

    /// Returns the mirror that this machine fetches Debian from.
    fn mirror(&self) -> Result<String, BuilderError> {
        let format = "$(LABEL) $(CODENAME) $(REPO_URI)";
        let words = ["indextargets", "--format", format, "Created-By: Packages"];
        let act = "indextargets";
        let listed = self.finish(act, self.start(&words))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        mirror_of(&listed).ok_or(AptError::NoMirror.into())
    }

    fn run(&self, act: &'static str, words: &[&str]) -> Result<Output, BuilderError> {
        let mut invocation = self.start(&[]);
        for (option, value) in [
            ("Dir::State", "apt"),
            ("Dir::State::lists", "apt/lists"),
            ("Dir::State::status", "apt/status"),
            ("Dir::Cache", "apt"),
            ("Dir::Cache::archives", "apt/debs"),
            ("Dir::Etc::sourcelist", "apt/sources.list"),
            ("Dir::Etc::sourceparts", "apt/empty"),
        ] {
            let mut setting = OsString::from(format!("{option}="));
            setting.push(self.directory.join(value));
            invocation = invocation.arg("-o").arg(setting);
        }
        for setting in [
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            "Debug::NoLocking=1",
            "APT::Install-Recommends=false",
            // The state is below a directory of this user's, which another one needs no way into.
            "APT::Sandbox::User=root",
        ] {
            invocation = invocation.arg("-o").arg(setting);
        }
        self.finish(act, invocation.args(words.iter().copied()))
    }

    fn finish(&self, act: &'static str, invocation: Invocation) -> Result<Output, BuilderError> {
        match invocation.run_unless(LIMITS, &|| self.cancel.requested()).and_then(Output::success) {
            Ok(output) => Ok(output),
            Err(ExecError::Stopped { .. }) => Err(BuilderError::Interrupted),
            Err(source) => Err(AptError::Run { act, source }.into()),
        }
    }

    fn start(&self, words: &[&str]) -> Invocation {
        Invocation::new(&self.program)
            .args(words.iter().copied())
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .directory(&self.directory)
            .die_with_parent()
    }
}

/// Chooses the mirror from a list of `LABEL CODENAME URI`: that of a release itself, not of its updates.
pub(super) fn mirror_of(listed: &str) -> Option<String> {
    let mut sources = listed.lines().filter_map(|line| {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("Debian"), Some(codename), Some(uri), None) => Some((codename, uri)),
            _ => None,
        }
    });
    let plain = |uri: &str| !uri.contains(['[', ']', '#']) && !uri.contains(char::is_control);
    sources.find(|(codename, uri)| !codename.contains('-') && plain(uri)).map(|(_, uri)| uri.to_owned())
}

/// Parses lines of the form `'URI' FILE SIZE SHA256:HEX`.
pub(super) fn parse(listed: &str) -> Result<Vec<Download>, AptError> {
    listed.lines().map(|line| parse_line(line).ok_or_else(|| AptError::Line(line.to_owned()))).collect()
}

fn parse_line(line: &str) -> Option<Download> {
    let mut words = line.rsplitn(4, ' ');
    let (digest, size, file) = (words.next()?, words.next()?, words.next()?);
    words.next()?;
    let digest: Digest = format!("sha256:{}", digest.strip_prefix("SHA256:")?).parse().ok()?;
    if file.contains('/') || file.starts_with('.') {
        return None;
    }
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || name.is_empty() {
        return None;
    }
    // The colon of an epoch, which is the one character that apt encodes.
    let (name, version) = (name.to_owned(), version.replace("%3a", ":"));
    let package = DebianPackage { package: name, version, architecture: architecture.to_owned(), digest };
    Some(Download { package, file: file.to_owned(), size: size.parse().ok()? })
}
