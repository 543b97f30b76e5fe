//! The modules of a distribution's kernel.

use rustix::io::Errno;
use rustix::system::finit_module;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A module that can't be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("reading {} failed", path.display())]
    Order {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("opening module {path} failed")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("loading module {path} failed")]
    Load {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Loads the modules that the file `order` lists, one absolute path a line; does nothing without such a file.
///
/// A module that is there already, or whose hardware is not (a faster hash for another processor), is no error.
pub(crate) fn load(order: &Path) -> Result<(), ModuleError> {
    let list = match std::fs::read_to_string(order) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ModuleError::Order { path: order.to_owned(), source }),
    };
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let file = File::open(path).map_err(|source| ModuleError::Open { path: path.to_owned(), source })?;
        match finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(error) => return Err(ModuleError::Load { path: path.to_owned(), source: error.into() }),
        }
    }
    Ok(())
}
