//! Kernel modules: finding them in a package, their dependencies, and the order in which to load them.
//!
//! Dependencies come from each module's own `.modinfo` section (`depends=`), since `modules.dep` is made only when
//! a package is installed.

use super::elf::{Elf, ElfError};
use super::inflate::{Compression, InflateError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest module that is read or unpacked; the largest that is needed has less than 2 MiB.
const MAX_MODULE: usize = 64 << 20;

/// How deep and how large a tree of modules may be.
const MAX_DEPTH: u32 = 16;
const MAX_FILES: usize = 100_000;

/// A module that the initramfs carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The name as the kernel writes it, with underscores.
    pub(crate) name: String,
    /// The uncompressed ELF file.
    pub(crate) bytes: Vec<u8>,
}

/// Says why the modules that a kernel needs cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A directory or file of the package cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The tree is far larger or deeper than any kernel's.
    #[error("{} holds more than {MAX_FILES} files or {MAX_DEPTH} levels", path.display())]
    TreeTooLarge {
        /// The top of the tree.
        path: PathBuf,
    },
    /// A module that is needed is not in the package.
    #[error("module {name} is not in {}{}", directory.display(), wanted(needed_by))]
    Missing {
        /// The module's name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// The module that depends on it, if one does.
        needed_by: Option<String>,
    },
    /// The file is compressed in a way that is not supported.
    #[error("module {} is compressed by {format}; expected none, xz or zstd", path.display())]
    Compression {
        /// The file.
        path: PathBuf,
        /// The suffix that names the format.
        format: String,
    },
    /// The file is larger than any module.
    #[error("module {} has {size} bytes; expected at most {MAX_MODULE}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The file cannot be unpacked.
    #[error("cannot unpack module {}", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InflateError,
    },
    /// The file is not a module.
    #[error("cannot read module {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
}

fn wanted(needed_by: &Option<String>) -> String {
    needed_by.as_ref().map(|name| format!(" (needed by {name})")).unwrap_or_default()
}

/// The module files below one directory, by module name.
#[derive(Debug)]
pub(super) struct ModuleTree {
    directory: PathBuf,
    files: BTreeMap<String, PathBuf>,
}

impl ModuleTree {
    /// Walks `directory` without following links; of two files for one name, the first in path order counts.
    pub fn open(directory: &Path) -> Result<Self, ModuleError> {
        let mut tree = Self { directory: directory.to_owned(), files: BTreeMap::new() };
        let mut seen = 0;
        tree.walk(directory, MAX_DEPTH, &mut seen)?;
        Ok(tree)
    }

    fn walk(&mut self, directory: &Path, depth: u32, seen: &mut usize) -> Result<(), ModuleError> {
        let unreadable = |source| ModuleError::Read { path: directory.to_owned(), source };
        let entries = fs::read_dir(directory).map_err(unreadable)?;
        let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        *seen += entries.len();
        if depth == 0 || *seen > MAX_FILES {
            return Err(ModuleError::TreeTooLarge { path: self.directory.clone() });
        }
        for entry in entries {
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                self.walk(&entry.path(), depth - 1, seen)?;
            } else if let Some(name) = kind.is_file().then(|| module_name(&entry.path())).flatten() {
                self.files.entry(name).or_insert_with(|| entry.path());
            }
        }
        Ok(())
    }

    /// Reads the modules called `names` and all that they depend on, dependencies first.
    ///
    /// Without `keep_signatures` the signatures appended to modules are cut off: the initramfs digest in the plan
    /// vouches for them, and checking RSA signatures costs much of the boot under emulation.
    pub fn collect(&self, names: &[&str], keep_signatures: bool) -> Result<Vec<Module>, ModuleError> {
        let mut order = Vec::new();
        let mut done = BTreeSet::new();
        for name in names {
            self.add(name, None, &mut done, &mut order)?;
        }
        if !keep_signatures {
            order.iter_mut().for_each(|module| cut_signature(&mut module.bytes));
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        needed_by: Option<&str>,
        done: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), ModuleError> {
        // Marked before its dependencies are visited, so that a cycle in hostile modules ends.
        if !done.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.files.get(name).ok_or_else(|| ModuleError::Missing {
            name: name.to_owned(),
            directory: self.directory.clone(),
            needed_by: needed_by.map(str::to_owned),
        })?;
        let bytes = read_module(path)?;
        let malformed = |source| ModuleError::Malformed { path: path.clone(), source };
        for dependency in dependencies(&bytes).map_err(malformed)? {
            self.add(&dependency, Some(name), done, order)?;
        }
        order.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// Returns the kernel's name for a file such as `dm-mod.ko.xz`, or nothing for other files.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, suffix) = file.split_once(".ko")?;
    (suffix.is_empty() || suffix.starts_with('.')).then(|| name.replace('-', "_"))
}

fn read_module(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let unreadable = |source| ModuleError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_MODULE as u64 {
        return Err(ModuleError::TooLarge { path: path.to_owned(), size });
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    if let Some(compression) = Compression::of(&bytes) {
        let unpacked = compression.inflate(&bytes, MAX_MODULE);
        return unpacked.map_err(|source| ModuleError::Unpack { path: path.to_owned(), source });
    }
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("ko") => Ok(bytes),
        suffix => Err(ModuleError::Compression {
            path: path.to_owned(),
            format: suffix.unwrap_or_default().to_owned(),
        }),
    }
}

/// Reads the `depends=` line of a module's `.modinfo` section (NUL-separated `key=value` texts).
fn dependencies(module: &[u8]) -> Result<Vec<String>, ElfError> {
    let section = Elf::new(module)?.section(".modinfo")?.unwrap_or_default();
    let depends = section.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"depends="));
    let text = String::from_utf8_lossy(depends.unwrap_or_default()).into_owned();
    Ok(text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

/// Cuts off an appended signature (the kernel's `include/linux/module_signature.h`): the signature, 12 bytes that end
/// with its big-endian size, and a fixed text.
fn cut_signature(module: &mut Vec<u8>) {
    let Some(rest) = module.strip_suffix(b"~Module signature appended~\n") else { return };
    let Some((rest, trailer)) = rest.split_last_chunk::<12>() else { return };
    let size = u32::from_be_bytes([trailer[8], trailer[9], trailer[10], trailer[11]]) as usize;
    if let Some(end) = rest.len().checked_sub(size) {
        module.truncate(end);
    }
}
