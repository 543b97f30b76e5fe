//! What the root must hold before it is switched to: places to mount on, and the files that name the guest.
//!
//! An image may lack them or have anything in their place: files, or links to nowhere, to themselves or out of
//! the root. All is done relative to the root's directory, one name at a time or resolved inside it.

use mvm_wire::document::mounts::Interface;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Something in the root that can't be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("opening the root failed")]
    Root(#[source] io::Error),
    #[error("making /{name} a directory failed")]
    Directory {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("writing /etc/{name} failed")]
    File {
        name: &'static str,
        #[source]
        source: io::Error,
    },
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Makes `/proc`, `/sys` and `/dev` directories, and writes `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`. Without
/// an interface the last is left as it is, or empty.
pub(crate) fn prepare(
    root: &Path,
    hostname: &str,
    interface: Option<&Interface>,
) -> Result<(), PrepareError> {
    let root =
        rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(|error| PrepareError::Root(error.into()))?;
    for name in ["proc", "sys", "dev"] {
        real_directory(root.as_fd(), name).map_err(|source| PrepareError::Directory { name, source })?;
    }
    let etc = directory_inside(root.as_fd(), "etc")
        .map_err(|source| PrepareError::Directory { name: "etc", source })?;
    let mut hosts = format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         127.0.1.1\t{hostname}\n"
    );
    let mut resolvers = String::new();
    if let Some(interface) = interface {
        hosts.extend(interface.hosts.iter().map(|entry| format!("{}\t{}\n", entry.address, entry.name)));
        resolvers.extend(interface.resolvers.iter().map(|address| format!("nameserver {address}\n")));
    }
    for (name, content, replace) in [
        ("hostname", format!("{hostname}\n"), true),
        ("hosts", hosts, true),
        ("resolv.conf", resolvers, interface.is_some()),
    ] {
        write_file(etc.as_fd(), name, &content, replace)
            .map_err(|source| PrepareError::File { name, source })?;
    }
    Ok(())
}

/// Makes sure that `name` is a directory and no link to one.
fn real_directory(root: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match file_type(root, name)? {
        Some(FileType::Directory) => return Ok(()),
        Some(_) => unlinkat(root, name, AtFlags::empty())?,
        None => {}
    }
    Ok(mkdirat(root, name, Mode::from_raw_mode(0o755))?)
}

/// Opens the directory that `name` is or leads to inside the root; makes one where it leads to none.
fn directory_inside(root: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, name, DIRECTORY, Mode::empty(), resolve) {
        Ok(directory) => Ok(directory),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NAMETOOLONG) => {
            real_directory(root, name)?;
            Ok(openat(root, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a file, in place of whatever has its name unless that is a directory; leaves it be without `replace`.
fn write_file(directory: BorrowedFd<'_>, name: &str, content: &str, replace: bool) -> io::Result<()> {
    match file_type(directory, name)? {
        Some(FileType::Directory) => return Ok(()),
        Some(_) if !replace => return Ok(()),
        Some(_) => unlinkat(directory, name, AtFlags::empty())?,
        None => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::from_raw_mode(0o644))?);
    file.write_all(content.as_bytes())
}

fn file_type(directory: BorrowedFd<'_>, name: &str) -> io::Result<Option<FileType>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mvm_wire::document::mounts::HostEntry;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Prepares what `make` makes of an empty root, and says what the files are.
    fn prepared(make: impl FnOnce(&Path)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        prepare(dir.path(), "web-1", None).unwrap();
        for name in ["proc", "sys", "dev"] {
            assert!(fs::symlink_metadata(dir.path().join(name)).unwrap().is_dir(), "{name}");
        }
        dir
    }

    #[test]
    fn an_empty_root_gets_everything() {
        let dir = prepared(|_| {});
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("etc/hostname"), "web-1\n");
        assert!(read("etc/hosts").ends_with("\n127.0.1.1\tweb-1\n"));
        assert_eq!(read("etc/resolv.conf"), "");
    }

    #[test]
    fn an_interface_brings_names_and_resolvers() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        let interface = Interface {
            name: "eth0".to_owned(),
            addresses: vec![],
            gateways: vec![],
            resolvers: vec!["10.0.2.3".parse().unwrap()],
            hosts: vec![HostEntry { address: "192.0.2.7".parse().unwrap(), name: "db.example".to_owned() }],
            mtu: None,
        };
        prepare(dir.path(), "web-1", Some(&interface)).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("etc/hosts").ends_with("\n127.0.1.1\tweb-1\n192.0.2.7\tdb.example\n"));
        assert_eq!(read("etc/resolv.conf"), "nameserver 10.0.2.3\n");
    }

    #[test]
    fn what_is_in_the_way_is_replaced() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::create_dir(&target).unwrap();
        let dir = prepared(|root| {
            fs::write(root.join("proc"), "a file").unwrap();
            symlink(&target, root.join("dev")).unwrap();
            symlink("sys", root.join("sys")).unwrap();
            symlink("/etc", root.join("etc")).unwrap();
        });
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        assert!(fs::symlink_metadata(dir.path().join("etc")).unwrap().is_dir());
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = prepared(|root| {
            fs::create_dir_all(root.join("private/etc")).unwrap();
            symlink("/private/etc", root.join("etc")).unwrap();
        });
        assert_eq!(fs::read_to_string(dir.path().join("private/etc/hostname")).unwrap(), "web-1\n");

        let dir = prepared(|root| symlink("../../../../tmp", root.join("etc")).unwrap());
        assert!(fs::symlink_metadata(dir.path().join("etc")).unwrap().is_dir());
    }

    #[test]
    fn files_do_not_go_through_links() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let dir = prepared(|root| {
            fs::create_dir(root.join("etc")).unwrap();
            symlink(outside.path(), root.join("etc/hosts")).unwrap();
            symlink("../run/resolv.conf", root.join("etc/resolv.conf")).unwrap();
            fs::create_dir(root.join("etc/hostname")).unwrap();
        });
        assert_eq!(fs::read(outside.path()).unwrap(), b"");
        assert!(fs::symlink_metadata(dir.path().join("etc/hosts")).unwrap().is_file());
        assert!(fs::symlink_metadata(dir.path().join("etc/resolv.conf")).unwrap().is_symlink());
        assert!(dir.path().join("etc/hostname").is_dir());
    }
}
