//! Kernels: one directory for each, named by the digest of the kernel image.

use crate::Store;
use crate::dir::{Dir, FileError};
use crate::lock::{self, parse_hex};
use mvm_ref::Digest;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

const IMAGE: &str = "kernel";
const MODULES: &str = "modules.cpio";
const INFO: &str = "info.json";
const DEFAULT: &str = "default";
const DEFAULT_NEW: &str = "default.new";

/// The longest `info.json` that is kept, in bytes.
const MAX_INFO: u64 = 1 << 20;

/// The kernel that is about to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewKernel<'a> {
    /// The digest that names it, which `image` must have.
    pub digest: Digest,
    /// The kernel image.
    pub image: &'a [u8],
    /// A cpio archive with the modules that it needs, if it needs some.
    pub modules: Option<&'a [u8]>,
    /// What the engine knows of it, as JSON; opaque to the store.
    pub info: &'a [u8],
}

/// A kernel in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    digest: Digest,
    directory: PathBuf,
    has_modules: bool,
    info: Vec<u8>,
    is_default: bool,
}

/// Says which act on the kernels of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file or directory of the store.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image is not what its digest says.
    #[error("kernel {expected} has digest {got}")]
    Digest {
        /// The digest that was given, or that the stored kernel is named after.
        expected: Digest,
        /// The digest of the bytes.
        got: Digest,
    },
    /// The description is too long.
    #[error("description of kernel {digest} has {size} bytes; the limit is {limit}")]
    Info {
        /// The kernel.
        digest: Digest,
        /// The length of the description.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No kernel has this digest.
    #[error("no kernel {asked:?} in the store")]
    None {
        /// What was asked for.
        asked: String,
    },
    /// Several kernels' digests start like this.
    #[error("kernel {asked:?} could be {}", matches.iter().map(Digest::to_string).collect::<Vec<_>>().join(" or "))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// The digests that start like this, sorted.
        matches: Vec<Digest>,
    },
    /// The file that names the default kernel does not hold a digest.
    #[error("{} does not hold the digest of a kernel", path.display())]
    Default {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: mvm_ref::DigestError,
    },
}

impl Kernel {
    /// Returns the digest of the kernel image.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the absolute path of the kernel image.
    pub fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    /// Returns the absolute path of the archive of modules, none if the kernel needs none.
    pub fn modules(&self) -> Option<PathBuf> {
        self.has_modules.then(|| self.directory.join(MODULES))
    }

    /// Returns the engine's description, as it was stored.
    pub fn info(&self) -> &[u8] {
        &self.info
    }

    /// Says whether this is the kernel used when none is named.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Reads the kernel image and compares it with its digest.
    pub fn verify(&self) -> Result<(), KernelError> {
        let path = self.image();
        let got = File::open(&path)
            .and_then(Digest::of_reader)
            .map_err(|error| FileError::new("read", &path, error))?;
        if got == self.digest { Ok(()) } else { Err(KernelError::Digest { expected: self.digest, got }) }
    }
}

impl Store {
    /// Stores a kernel, in place of one with the same image. It is on the disk when this returns.
    pub fn put_kernel(&self, kernel: &NewKernel<'_>) -> Result<Kernel, KernelError> {
        let digest = kernel.digest;
        let got = Digest::of(kernel.image);
        if got != digest {
            return Err(KernelError::Digest { expected: digest, got });
        }
        let size = kernel.info.len() as u64;
        if size > MAX_INFO {
            return Err(KernelError::Info { digest, size, limit: MAX_INFO });
        }
        let _turn = self.kernels_turn()?;
        let name = digest.hex();
        let draft = format!("{name}.new");
        self.kernels.remove_tree(&draft)?;
        let written = write_kernel(&self.kernels.ensure_dir(&draft)?, kernel);
        if let Err(error) = written.and_then(|()| self.reveal(&draft, &name)) {
            self.kernels.remove_tree(&draft)?;
            return Err(error.into());
        }
        self.kernel(&digest)?.ok_or_else(|| KernelError::None { asked: digest.to_string() })
    }

    /// Moves a draft to its name. What had that name before is exchanged first, so that at no time there is none.
    fn reveal(&self, draft: &str, name: &str) -> Result<(), FileError> {
        if self.kernels.stat(name)?.is_some() {
            self.kernels.exchange(draft, name)?;
            self.kernels.remove_tree(draft)?;
        } else {
            self.kernels.rename(draft, &self.kernels, name)?;
        }
        self.kernels.sync()
    }

    /// Returns all kernels, sorted by digest.
    pub fn kernels(&self) -> Result<Vec<Kernel>, KernelError> {
        let default = self.default_digest()?;
        let mut kernels = Vec::new();
        for digest in self.kernels.names()?.iter().filter_map(|name| parse_hex(name)) {
            kernels.extend(self.read_kernel(&digest, default)?);
        }
        Ok(kernels)
    }

    /// Returns the kernel with this digest.
    pub fn kernel(&self, digest: &Digest) -> Result<Option<Kernel>, KernelError> {
        self.read_kernel(digest, self.default_digest()?)
    }

    /// Returns the one kernel whose digest is, or starts with, `asked`; `sha256:` may be left out.
    pub fn find_kernel(&self, asked: &str) -> Result<Kernel, KernelError> {
        let prefix = asked.strip_prefix("sha256:").unwrap_or(asked);
        let mut found = self.kernels()?;
        found.retain(|kernel| !prefix.is_empty() && kernel.digest.hex().starts_with(prefix));
        let asked = asked.to_owned();
        if found.len() > 1 {
            let matches = found.iter().map(Kernel::digest).collect();
            return Err(KernelError::Ambiguous { asked, matches });
        }
        found.pop().ok_or(KernelError::None { asked })
    }

    /// Returns the kernel used when none is named, if one was chosen.
    pub fn default_kernel(&self) -> Result<Option<Kernel>, KernelError> {
        let default = self.default_digest()?;
        default.map_or(Ok(None), |digest| self.read_kernel(&digest, default))
    }

    /// Chooses the kernel to use when none is named.
    pub fn set_default_kernel(&self, digest: &Digest) -> Result<(), KernelError> {
        let _turn = self.kernels_turn()?;
        if self.kernel(digest)?.is_none() {
            return Err(KernelError::None { asked: digest.to_string() });
        }
        let path = self.kernels.join(DEFAULT_NEW);
        let fail = |error| FileError::new("write", &path, error);
        self.kernels.remove_file(DEFAULT_NEW)?;
        let mut file = self.kernels.create_file(DEFAULT_NEW)?;
        writeln!(file, "{digest}").map_err(fail)?;
        file.sync_all().map_err(fail)?;
        self.kernels.rename(DEFAULT_NEW, &self.kernels, DEFAULT)?;
        Ok(self.kernels.sync()?)
    }

    /// Removes a kernel and returns the bytes of disk that it held; if it was the default, there is none then.
    pub fn remove_kernel(&self, digest: &Digest) -> Result<u64, KernelError> {
        let _turn = self.kernels_turn()?;
        let Some(kernel) = self.kernel(digest)? else {
            return Err(KernelError::None { asked: digest.to_string() });
        };
        if kernel.is_default {
            self.kernels.remove_file(DEFAULT)?;
        }
        // Renamed first, so that nobody sees it half removed.
        let draft = format!("{}.new", digest.hex());
        self.kernels.remove_tree(&draft)?;
        self.kernels.rename(&digest.hex(), &self.kernels, &draft)?;
        Ok(self.kernels.remove_tree(&draft)?)
    }

    /// Waits until no other process changes the kernels. Readers don't wait: what they see is whole.
    fn kernels_turn(&self) -> Result<Dir, FileError> {
        let turn = self.kernels.reopen()?;
        lock::exclusive(&turn, turn.path())?;
        Ok(turn)
    }

    fn read_kernel(&self, digest: &Digest, default: Option<Digest>) -> Result<Option<Kernel>, KernelError> {
        let Some(dir) = self.kernels.open_dir(&digest.hex())? else { return Ok(None) };
        let Some(info) = read_file(&dir, INFO)? else { return Ok(None) };
        if dir.file_len(IMAGE)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Kernel {
            digest: *digest,
            directory: dir.path().to_owned(),
            has_modules: dir.file_len(MODULES)?.is_some(),
            info,
            is_default: default == Some(*digest),
        }))
    }

    fn default_digest(&self) -> Result<Option<Digest>, KernelError> {
        let Some(bytes) = read_file(&self.kernels, DEFAULT)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let path = self.kernels.join(DEFAULT);
        text.trim_end().parse().map(Some).map_err(|source| KernelError::Default { path, source })
    }
}

fn write_kernel(dir: &Dir, kernel: &NewKernel<'_>) -> Result<(), FileError> {
    let modules = kernel.modules.map(|bytes| (MODULES, bytes));
    for (name, bytes) in [(IMAGE, kernel.image), (INFO, kernel.info)].into_iter().chain(modules) {
        let fail = |error| FileError::new("write", dir.join(name), error);
        let mut file = dir.create_file(name)?;
        file.write_all(bytes).map_err(fail)?;
        file.sync_all().map_err(fail)?;
    }
    dir.sync()
}

fn read_file(dir: &Dir, name: &str) -> Result<Option<Vec<u8>>, FileError> {
    let Some(file) = dir.open_file(name)? else { return Ok(None) };
    read_bounded(file).map(Some).map_err(|error| FileError::new("read", dir.join(name), error))
}

fn read_bounded(file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_INFO).read_to_end(&mut bytes)?;
    Ok(bytes)
}
