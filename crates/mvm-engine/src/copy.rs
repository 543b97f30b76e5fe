//! Copying files into running VMs and out of them, as tar archives over the control socket.
//!
//! What comes out of a guest is read by the reader of layers, which is made for hostile archives, and lands below one
//! directory that the user named: no link is followed there, and set-id bits, devices, owners and attributes stay behind.

mod dialogue;
mod land;
mod nars;
mod pack;

use crate::attach::AttachError;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use dialogue::Dialogue;
use mvm_ref::VmName;
use mvm_wire::{Direction, FileKind, Reply, Request};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

pub use land::LandError;
pub(crate) use nars::VmStore;

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Whether owners are kept, where who copies may give files away.
    pub owners: bool,
    /// Whether a symlink that is named is followed.
    pub follow: bool,
}

/// What a copy out of a VM left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// Devices, pipes and sockets.
    pub special: u64,
}

/// Says why files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is nothing at a path in the VM.
    #[error("{vm} has no {path}")]
    Absent {
        /// The VM.
        vm: VmName,
        /// The path.
        path: String,
    },
    /// What is in the place of the copy can't be replaced by it.
    #[error("{path} is {found}, and {wanted} is copied")]
    InTheWay {
        /// The path.
        path: String,
        /// What is there.
        found: &'static str,
        /// What was to be put there.
        wanted: &'static str,
    },
    /// The guest did not do it.
    #[error("the guest: {0}")]
    Guest(String),
    /// The VM ended meanwhile.
    #[error("the VM ended: {0}")]
    Ended(String),
    /// The archive is not complete.
    #[error("the copy broke off; mvmctl logs --console may say why")]
    BrokeOff,
    /// The connection to the supervisor.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// What came can't be put on the host.
    #[error(transparent)]
    Land(#[from] Box<LandError>),
    /// A file of the host can't be read or written.
    #[error("{act} {}", path.display())]
    Host {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// Where the entries of an archive go: below a directory, with the first name replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    /// The directory, which exists.
    directory: PathBuf,
    /// What the first name becomes; absent if it is left out.
    name: Option<OsString>,
    /// Whether the archive has a first name that is not a part of what is copied.
    strip: bool,
}

impl Engine {
    /// Copies what is at `path` in a VM to `target`, as `docker cp` does.
    pub fn copy_out(
        &self,
        vm: &VmName,
        (path, target): (&str, &Path),
        options: CopyOptions,
        cancel: &Cancel,
    ) -> Result<LeftBehind, EngineError> {
        let mut dialogue = self.dialogue(vm, cancel)?;
        let (inside, contents) = cleaned(path);
        let kind = dialogue.kind(&inside, vm)?;
        let landing = landing(&inside, contents, kind, target)?;
        let stream = dialogue.open(Direction::Receive)?;
        dialogue.ask(Request::Pack { path: inside, follow: options.follow || contents, stream })?;
        let mut archive = BufReader::with_capacity(64 * 1024, dialogue.reader(stream));
        let left = land::land(&mut archive, &landing, options.owners)?;
        archive.get_ref().check_complete()?;
        Ok(left)
    }

    /// Writes what is at `path` in a VM to `out`, as a tar archive.
    pub fn copy_out_archive(
        &self,
        vm: &VmName,
        path: &str,
        out: &mut dyn Write,
        (options, cancel): (CopyOptions, &Cancel),
    ) -> Result<(), EngineError> {
        let mut dialogue = self.dialogue(vm, cancel)?;
        let (inside, contents) = cleaned(path);
        dialogue.kind(&inside, vm)?;
        let stream = dialogue.open(Direction::Receive)?;
        dialogue.ask(Request::Pack { path: inside, follow: options.follow || contents, stream })?;
        let mut archive = dialogue.reader(stream);
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = archive.read(&mut piece).map_err(CopyError::from)?;
            if count == 0 {
                return Ok(archive.check_complete()?);
            }
            let written = out.write_all(&piece[..count]);
            written.map_err(|source| host("write", Path::new("the archive"), source))?;
        }
    }

    /// Copies a file or directory of the host to `path` in a VM, as `docker cp` does.
    pub fn copy_in(
        &self,
        vm: &VmName,
        (source, path): (&Path, &str),
        options: CopyOptions,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let metadata = match options.follow || ends_with_dot(source) {
            true => source.metadata(),
            false => source.symlink_metadata(),
        };
        let metadata = metadata.map_err(|error| host("look at", source, error))?;
        let mut dialogue = self.dialogue(vm, cancel)?;
        let (inside, _) = cleaned(path);
        let (directory, name) =
            dialogue.place(vm, (&inside, path.ends_with('/')), source, metadata.is_dir())?;
        let stream = dialogue.open(Direction::Send)?;
        dialogue.begin(Request::Unpack { path: directory, owners: options.owners, stream })?;
        let mut out = dialogue.writer(stream);
        let packed = pack::pack(source, &name, options.follow, &mut out);
        Ok(out.finish(packed.map_err(|error| host("pack", source, error)))?)
    }

    /// Unpacks a tar archive that is read from `archive` into a directory in a VM.
    pub fn copy_in_archive(
        &self,
        vm: &VmName,
        path: &str,
        archive: &mut dyn Read,
        (options, cancel): (CopyOptions, &Cancel),
    ) -> Result<(), EngineError> {
        let mut dialogue = self.dialogue(vm, cancel)?;
        let (directory, _) = cleaned(path);
        if dialogue.kind(&directory, vm)? != FileKind::Directory {
            return Err(in_the_way(&directory, "no directory", "an archive").into());
        }
        let stream = dialogue.open(Direction::Send)?;
        dialogue.begin(Request::Unpack { path: directory, owners: options.owners, stream })?;
        let mut out = dialogue.writer(stream);
        let copied = io::copy(archive, &mut out).map(drop);
        Ok(out.finish(copied.map_err(|error| host("read", Path::new("the archive"), error)))?)
    }

    fn dialogue<'a>(&self, vm: &VmName, cancel: &'a Cancel) -> Result<Dialogue<'a>, EngineError> {
        let connection = crate::attach::ControlConnection::new(self.vms.get(vm)?.connect()?)?;
        Ok(Dialogue::new(connection.into_link(), cancel))
    }
}

impl Dialogue<'_> {
    /// Returns what is at a path in the VM, which must be there.
    fn kind(&mut self, path: &str, vm: &VmName) -> Result<FileKind, CopyError> {
        let absent = || CopyError::Absent { vm: vm.clone(), path: path.to_owned() };
        self.stat(path)?.ok_or_else(absent)
    }

    fn stat(&mut self, path: &str) -> Result<Option<FileKind>, CopyError> {
        match self.ask(Request::Stat { path: path.to_owned() })? {
            Reply::File { kind } => Ok(kind),
            _ => Err(CopyError::Guest("it answered something else".to_owned())),
        }
    }

    /// Returns the directory in the VM that something is to be unpacked into, and the name that it gets there.
    fn place(
        &mut self,
        vm: &VmName,
        (path, is_directory): (&str, bool),
        source: &Path,
        source_is_directory: bool,
    ) -> Result<(String, OsString), CopyError> {
        let own = source.file_name().map(OsStr::to_owned);
        let contents = source_is_directory && (ends_with_dot(source) || own.is_none());
        match self.stat(path)? {
            Some(FileKind::Directory) if contents => Ok((path.to_owned(), OsString::from("."))),
            Some(FileKind::Directory) => Ok((path.to_owned(), own.unwrap_or_else(|| OsString::from(".")))),
            Some(_) if source_is_directory => Err(in_the_way(path, "no directory", "a directory")),
            None if is_directory && !source_is_directory => {
                Err(CopyError::Absent { vm: vm.clone(), path: path.to_owned() })
            }
            Some(_) | None => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                let parent = if parent.is_empty() { "/" } else { parent };
                match self.kind(parent, vm)? {
                    FileKind::Directory => Ok((parent.to_owned(), OsString::from(name))),
                    _ => Err(in_the_way(parent, "no directory", "something in it")),
                }
            }
        }
    }
}

/// Returns where on the host something from a VM goes.
fn landing(inside: &str, contents: bool, kind: FileKind, target: &Path) -> Result<Landing, CopyError> {
    let own = Path::new(inside).file_name().map(OsStr::to_owned);
    let is_directory = kind == FileKind::Directory;
    let strip = own.is_some();
    let contents = is_directory && (contents || own.is_none());
    let existing = match target.metadata() {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(host("look at", target, source)),
    };
    let shown = || target.display().to_string();
    match existing {
        Some(metadata) if metadata.is_dir() => {
            let name = if contents { None } else { own };
            Ok(Landing { directory: target.to_owned(), name, strip })
        }
        Some(_) if is_directory => Err(in_the_way(&shown(), "no directory", "a directory")),
        None if target.as_os_str().as_encoded_bytes().ends_with(b"/") && !is_directory => {
            Err(host("copy to", target, io::ErrorKind::NotFound.into()))
        }
        Some(_) | None => {
            let name = target.file_name().map(OsStr::to_owned);
            let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = parent.unwrap_or(Path::new(".")).to_owned();
            Ok(Landing { directory, name, strip })
        }
    }
}

/// Returns a path in a VM without `.` and `..`, and whether it names the contents of a directory.
fn cleaned(path: &str) -> (String, bool) {
    let contents = path == "." || path.ends_with("/.");
    let mut names: Vec<&OsStr> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    let joined: Vec<_> = names.iter().filter_map(|name| name.to_str()).collect();
    (format!("/{}", joined.join("/")), contents)
}

fn ends_with_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

fn host(act: &'static str, path: &Path, source: io::Error) -> CopyError {
    match source.downcast::<CopyError>() {
        // Our own words, which came through a reader or writer.
        Ok(error) => error,
        Err(source) => CopyError::Host { act, path: path.to_owned(), source },
    }
}

impl From<io::Error> for CopyError {
    fn from(source: io::Error) -> Self {
        host("copy", Path::new("the archive"), source)
    }
}

fn in_the_way(path: &str, found: &'static str, wanted: &'static str) -> CopyError {
    CopyError::InTheWay { path: path.to_owned(), found, wanted }
}

#[cfg(test)]
mod tests;
