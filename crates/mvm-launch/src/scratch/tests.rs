use super::*;
use std::os::unix::fs::{FileExt, MetadataExt};

fn mke2fs_is_absent(test: &str) -> bool {
    let absent = find_program("mke2fs", OsStr::new("")).is_err();
    if absent {
        eprintln!("SKIP {test}: mke2fs is not installed (apt-get install e2fsprogs)");
    }
    absent
}

#[test]
fn blanks_are_sound_sparse_and_equal() {
    if mke2fs_is_absent("blanks_are_sound_sparse_and_equal") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disks = [directory.path().join("a"), directory.path().join("b")];
    for disk in &disks {
        make_blank(OsStr::new(""), disk, 512).unwrap();
        let meta = disk.metadata().unwrap();
        assert_eq!(meta.len(), 512 << 20);
        assert!(meta.blocks() * 512 < 4 << 20, "{} KiB are allocated", meta.blocks() / 2);
        let fsck =
            Invocation::new(find_program("e2fsck", OsStr::new("")).unwrap()).args(["-f", "-n"]).arg(disk);
        fsck.run(FORMAT_LIMITS).unwrap().success().unwrap();
    }
    let compared = Invocation::new("/usr/bin/cmp").args(&disks).run(FORMAT_LIMITS).unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}

#[test]
fn a_size_that_holds_no_file_system_is_refused() {
    if mke2fs_is_absent("a_size_that_holds_no_file_system_is_refused") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let error = make_blank(OsStr::new(""), &directory.path().join("a"), 0).unwrap_err();
    assert!(matches!(error, ScratchError::Format { source: ExecError::Failed { .. }, .. }), "{error:?}");
    let error = make_blank(OsStr::new(""), &directory.path().join("none/a"), 64).unwrap_err();
    assert!(matches!(error, ScratchError::File { act: "create", .. }), "{error:?}");
}

#[test]
fn copies_have_the_same_bytes_and_holes() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let file = File::create(&from).unwrap();
    file.set_len(64 << 20).unwrap();
    let pieces = [(0u64, 5000usize), (8 << 20, 300_000), ((64 << 20) - 10, 10)];
    for (at, length) in pieces {
        file.write_all_at(&vec![b'x'; length], at).unwrap();
    }
    copy_sparse(&from, &to).unwrap();
    assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    assert!(to.metadata().unwrap().blocks() * 512 < 2 << 20);
    let error = copy_sparse(&from, &to).unwrap_err();
    assert!(matches!(error, ScratchError::File { act: "create", .. }), "an existing file is kept");

    let through = directory.path().join("through");
    let target = File::create(&through).unwrap();
    for (at, length) in pieces {
        copy_through_memory(&file_at(&from), &target, at, at + length as u64).unwrap();
    }
    assert!(std::fs::read(&from).unwrap() == std::fs::read(&through).unwrap());
    let empty = directory.path().join("empty");
    File::create(&empty).unwrap();
    copy_sparse(&empty, &directory.path().join("empty-copy")).unwrap();
}

fn file_at(path: &Path) -> File {
    File::open(path).unwrap()
}

#[test]
fn only_a_disk_of_the_right_size_with_the_mark_is_a_blank() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let write = |length: u64, magic: &[u8]| {
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        file.write_all_at(magic, 1080).unwrap();
    };
    let magic = [0x53, 0xef];
    let blank = || is_blank(&path, 1).unwrap();
    assert!(!blank(), "absent");
    write(1 << 20, &magic);
    assert!(blank());
    for (length, magic, what) in [
        ((1 << 20) - 1, &magic[..], "short"),
        ((1 << 20) + 1, &magic[..], "long"),
        (1 << 20, &[0, 0][..], "not ext4"),
    ] {
        write(length, magic);
        assert!(!blank(), "{what}");
    }
    write(0, &[]);
    assert!(!is_blank(&path, 0).unwrap(), "empty");
    write(1 << 20, &magic);
    let other = directory.path().join("other");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    assert!(!is_blank(&other, 1).unwrap(), "link");
    assert!(!is_blank(directory.path(), 1).unwrap(), "directory");
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(!is_blank(&pipe, 1).unwrap(), "pipe");
    let socket = directory.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(!is_blank(&socket, 1).unwrap(), "socket");
}
