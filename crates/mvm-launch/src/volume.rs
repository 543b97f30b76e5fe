//! Volumes: ext4 file systems that outlive the machines that use them.
//!
//! Unlike a scratch disk a volume has an identity, drawn when it is formatted; it has a journal, and checksums by which the
//! guest's kernel notices what is damaged; and it can grow while it is mounted, which is how it grows at all: the host
//! makes the file longer and the guest's kernel does the rest, so that the host reads nothing that a guest wrote.

use crate::scratch::{Format, ScratchError, format};
use std::ffi::OsStr;
use std::path::Path;

/// The features, named one by one so that no configuration file of the host decides. `resize_inode` keeps room for
/// growing to 1024 times the size.
const FEATURES: &str = "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,has_journal,\
                        huge_file,large_file,metadata_csum,resize_inode,sparse_super";

/// Creates `disk` as a sparse file of `size` bytes with an empty ext4 file system, replacing what was there.
///
/// `path` is the text of a `PATH` variable, which mke2fs is looked up in. No two are alike.
pub fn make_volume(path: &OsStr, disk: &Path, size: u64) -> Result<(), ScratchError> {
    let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
    format(
        path,
        disk,
        size,
        &Format { features: FEATURES, extended, options: &["-e", "remount-ro"], env: &[] },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Invocation, Limits, find_program};
    use std::time::Duration;

    #[test]
    fn volumes_are_sound_and_no_two_are_alike() {
        let Ok(fsck) = find_program("e2fsck", OsStr::new("")) else {
            println!("skipped: e2fsck is not installed (e2fsprogs)");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let mut identities = Vec::new();
        for (name, size) in [("a", 16 << 20), ("b", 16 << 20), ("c", 64 << 20)] {
            let disk = directory.path().join(name);
            make_volume(OsStr::new(""), &disk, size).unwrap();
            assert_eq!(disk.metadata().unwrap().len(), size);
            let limits = Limits { time: Duration::from_secs(60), output: 64 * 1024 };
            let checked = Invocation::new(&fsck).args(["-f", "-n"]).arg(&disk).run(limits).unwrap();
            checked.success().unwrap();
            // The UUID, 16 bytes at 0x68 of the superblock (Linux Documentation/filesystems/ext4/super.rst).
            identities.push(std::fs::read(&disk).unwrap()[1024 + 0x68..][..16].to_vec());
        }
        identities.sort();
        identities.dedup();
        assert_eq!(identities.len(), 3);
    }
}
