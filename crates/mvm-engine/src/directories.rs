//! Directories of the host that VMs mount: named when a plan is made, opened when it is launched.

use crate::engine::Engine;
use crate::error::EngineError;
use mvm_launch::{SharedDirectory, directory_tag};
use mvm_plan::plan::{Mount, MountSource};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Says why a directory of the host can't be mounted.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Nothing is there.
    #[error("there is no directory {} on this host", path.display())]
    Absent {
        /// Its path.
        path: PathBuf,
    },
    /// What is there is no directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// Its path.
        path: PathBuf,
    },
    /// The path leads through a symbolic link, so that it may lead elsewhere tomorrow.
    #[error("the path {} leads through a symbolic link; a plan names the directory itself", path.display())]
    Link {
        /// The path.
        path: PathBuf,
    },
    /// A plan has no name for it.
    #[error("the path {} is not UTF-8, which a plan's paths are", path.display())]
    Encoding {
        /// The path.
        path: PathBuf,
    },
    /// It would give the guest the keys by which guests are launched, and the disks of others.
    #[error("{} holds the store of mvm, or is in it ({})", path.display(), store.display())]
    Store {
        /// Its path.
        path: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// It can't be opened.
    #[error("open the directory {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Returns mounts with the real paths of the directories of the host among them, as a plan has them.
pub(crate) fn resolved(mut mounts: Vec<Mount>) -> Result<Vec<Mount>, DirectoryError> {
    for mount in &mut mounts {
        if let MountSource::HostDirectory { path } = &mut mount.source {
            let asked = PathBuf::from(path.as_str());
            let real = asked.canonicalize().map_err(|source| failed(&asked, source))?;
            if !real.is_dir() {
                return Err(DirectoryError::NotADirectory { path: asked });
            }
            *path =
                real.into_os_string().into_string().map_err(|_| DirectoryError::Encoding { path: asked })?;
        }
    }
    Ok(mounts)
}

impl Engine {
    /// Opens the directories of the host that a plan mounts.
    pub(crate) fn open_directories(&self, mounts: &[Mount]) -> Result<Vec<SharedDirectory>, EngineError> {
        let mut opened = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let MountSource::HostDirectory { path } = &mount.source else { continue };
            let path = PathBuf::from(path);
            let store = &self.settings.root;
            // Looked at as it is: a link that leads here is in nobody's hands but its owner's.
            let real = store.canonicalize().unwrap_or_else(|_| store.clone());
            if real.starts_with(&path) || path.starts_with(&real) {
                return Err(DirectoryError::Store { path, store: store.clone() }.into());
            }
            let directory = open(&path)?;
            opened.push(SharedDirectory {
                tag: directory_tag(index),
                path,
                directory,
                read_only: mount.read_only,
            });
        }
        Ok(opened)
    }
}

/// Opens the directory that was admitted: one that a link leads to by now is another.
fn open(path: &Path) -> Result<File, DirectoryError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(directory) => Ok(directory.into()),
        Err(Errno::LOOP) => Err(DirectoryError::Link { path: path.to_owned() }),
        Err(errno) => Err(failed(path, errno.into())),
    }
}

fn failed(path: &Path, source: io::Error) -> DirectoryError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => DirectoryError::Absent { path },
        io::ErrorKind::NotADirectory => DirectoryError::NotADirectory { path },
        _ => DirectoryError::Open { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_plan_has_the_real_path_and_a_launch_takes_no_other() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("real/inner")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("real", base.join("link")).unwrap();
        let resolve = |path: &str| {
            let source = MountSource::HostDirectory { path: format!("{}/{path}", base.display()) };
            let mount = Mount { target: "/m".to_owned(), source, read_only: false };
            resolved(vec![mount]).map(|mounts| mounts[0].source.clone())
        };
        let real = |path: &str| MountSource::HostDirectory { path: format!("{}/{path}", base.display()) };
        for path in ["real/inner", "link/inner/", "./real/../link/inner/."] {
            assert_eq!(resolve(path).unwrap(), real("real/inner"), "{path}");
        }
        let message = |path| resolve(path).unwrap_err().to_string().replace(&*base.to_string_lossy(), "");
        assert_eq!(message("nothing"), "there is no directory /nothing on this host");
        assert_eq!(message("file"), "/file is not a directory");
        assert_eq!(message("file/x"), "/file/x is not a directory");

        open(&base.join("real/inner")).unwrap();
        for (path, expected) in [
            ("link/inner", "the path /link/inner leads through a symbolic link"),
            ("link", "the path /link leads through a symbolic link"),
            ("gone", "there is no directory /gone on this host"),
            ("file", "/file is not a directory"),
        ] {
            let error = open(&base.join(path)).unwrap_err().to_string().replace(&*base.to_string_lossy(), "");
            assert!(error.starts_with(expected), "{path}: {error}");
        }
    }
}
