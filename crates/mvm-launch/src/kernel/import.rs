//! Importing kernels: from a distribution's unpacked package, or from a build of one's own.

use super::config::{Config, ConfigError};
use super::image::{BootImage, ImageError, boot_image};
use super::modules::{Module, ModuleError, ModuleTree};
use super::requirements::{MissingOptions, Selection, select};
use super::{KernelInfo, KernelSchema};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest image file that is read.
const MAX_FILE: u64 = 256 << 20;

/// Where packages put a kernel's files, `V` standing for its version: Debian and most others, then Fedora.
const IMAGES: [&str; 3] = ["boot/vmlinuz-V", "usr/lib/modules/V/vmlinuz", "lib/modules/V/vmlinuz"];
const CONFIGS: [&str; 3] = ["boot/config-V", "usr/lib/modules/V/config", "lib/modules/V/config"];
const MODULES: [&str; 2] = ["usr/lib/modules/V", "lib/modules/V"];

/// A kernel that is ready to be stored and booted.
#[derive(Debug)]
pub struct ImportedKernel {
    /// The image file's bytes, in the form that `info.format` names.
    pub image: Vec<u8>,
    /// What a launch must know about it.
    pub info: KernelInfo,
    /// The modules for the initramfs, in load order.
    pub modules: Vec<Module>,
}

/// Says why a kernel cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The directory holds no kernel image under any name that packages use.
    #[error("no kernel in {}: expected boot/vmlinuz-VERSION or lib/modules/VERSION/vmlinuz", directory.display())]
    NoKernel {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds several kernels and none was chosen.
    #[error("{} holds several kernels; choose one of {}", directory.display(), versions.join(", "))]
    SeveralKernels {
        /// The directory.
        directory: PathBuf,
        /// Their versions, sorted.
        versions: Vec<String>,
    },
    /// A file that belongs to the kernel is missing.
    #[error("kernel {version} has no {what} in {}", directory.display())]
    NoFile {
        /// The kernel's version.
        version: String,
        /// What is missing.
        what: &'static str,
        /// The directory.
        directory: PathBuf,
    },
    /// The image file is larger than any kernel.
    #[error("{} has {size} bytes; expected at most {MAX_FILE}", path.display())]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The configuration cannot be read.
    #[error("cannot use the configuration of kernel {version}")]
    Config {
        /// The kernel's version.
        version: String,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The kernel was built without something that a guest needs.
    #[error("kernel {version} lacks {missing}")]
    Missing {
        /// The kernel's version.
        version: String,
        /// The options.
        missing: MissingOptions,
    },
    /// The kernel has modules, but came without them.
    #[error("kernel {version} needs modules ({}), but was given without any", modules.join(", "))]
    ModulesNotGiven {
        /// The kernel's version.
        version: String,
        /// The modules that it needs.
        modules: Vec<&'static str>,
    },
    /// The image cannot be booted.
    #[error("cannot use the image of kernel {version}")]
    Image {
        /// The kernel's version.
        version: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// The modules cannot be collected.
    #[error("cannot collect the modules of kernel {version}")]
    Modules {
        /// The kernel's version.
        version: String,
        /// What is wrong with them.
        source: ModuleError,
    },
}

/// Imports a kernel from the unpacked package below `directory`.
///
/// `version` chooses among several kernels, as below `/`; with one kernel there it can be left out.
pub fn import_package(directory: &Path, version: Option<&str>) -> Result<ImportedKernel, ImportError> {
    let version = match version {
        Some(version) => version.to_owned(),
        None => only_version(directory)?,
    };
    let locate = |candidates: &[&str], what| {
        let paths = candidates.iter().map(|name| directory.join(name.replace('V', &version)));
        paths.into_iter().find(|path| path.exists()).ok_or_else(|| ImportError::NoFile {
            version: version.clone(),
            what,
            directory: directory.to_owned(),
        })
    };
    let image = read(&locate(&IMAGES, "image")?)?;
    let config = parse_config(&read(&locate(&CONFIGS, "configuration")?)?, &version)?;
    let selection = selection(&config, &version)?;
    let modules = if selection.modules.is_empty() {
        Vec::new()
    } else {
        let modules = locate(&MODULES, "modules")?;
        let tree = ModuleTree::open(&modules)
            .and_then(|tree| tree.collect(&selection.modules, selection.signed_only));
        tree.map_err(|source| ImportError::Modules { version: version.clone(), source })?
    };
    assemble(version, image, &selection, modules)
}

/// Imports a kernel that has everything built in, from its image and the configuration it was built with.
///
/// The configuration's header gives the version.
pub fn import_elf(image: Vec<u8>, config: &[u8]) -> Result<ImportedKernel, ImportError> {
    let config = parse_config(config, "of unknown version")?;
    let version = config.version().unwrap_or("of unknown version").to_owned();
    let selection = selection(&config, &version)?;
    if !selection.modules.is_empty() {
        return Err(ImportError::ModulesNotGiven { version, modules: selection.modules });
    }
    assemble(version, image, &selection, Vec::new())
}

fn parse_config(bytes: &[u8], version: &str) -> Result<Config, ImportError> {
    Config::parse(bytes).map_err(|source| ImportError::Config { version: version.to_owned(), source })
}

fn selection(config: &Config, version: &str) -> Result<Selection, ImportError> {
    select(config).map_err(|missing| ImportError::Missing { version: version.to_owned(), missing })
}

fn assemble(
    version: String,
    image: Vec<u8>,
    selection: &Selection,
    modules: Vec<Module>,
) -> Result<ImportedKernel, ImportError> {
    let image = boot_image(image);
    let BootImage { bytes, format, load_end } =
        image.map_err(|source| ImportError::Image { version: version.clone(), source })?;
    let info = KernelInfo {
        schema: KernelSchema::V1,
        version,
        format,
        machine: selection.machine,
        load_end,
        modules: modules.iter().map(|module| module.name.clone()).collect(),
    };
    Ok(ImportedKernel { image: bytes, info, modules })
}

/// Returns the version of the one kernel below `directory`.
fn only_version(directory: &Path) -> Result<String, ImportError> {
    let mut versions = Vec::new();
    for (place, prefix) in [("boot", "vmlinuz-"), ("usr/lib/modules", ""), ("lib/modules", "")] {
        for name in names(&directory.join(place))? {
            let Some(version) = name.strip_prefix(prefix) else { continue };
            if prefix.is_empty() && !directory.join(place).join(version).join("vmlinuz").exists() {
                continue;
            }
            versions.push(version.to_owned());
        }
    }
    versions.sort();
    versions.dedup();
    match versions.as_slice() {
        [] => Err(ImportError::NoKernel { directory: directory.to_owned() }),
        [version] => Ok(version.clone()),
        _ => Err(ImportError::SeveralKernels { directory: directory.to_owned(), versions }),
    }
}

/// Lists the names in a directory; one that does not exist has none.
fn names(directory: &Path) -> Result<Vec<String>, ImportError> {
    let unreadable = |source| ImportError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    names.filter_map(io::Result::transpose).collect::<io::Result<_>>().map_err(unreadable)
}

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    let unreadable = |source| ImportError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(ImportError::TooLarge { path: path.to_owned(), size });
    }
    fs::read(path).map_err(unreadable)
}
