//! Archives that other programs make from one directory, in all the dialects that they have.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::testing::{Memory, read_good};
use crate::{Change, Kind, Merge, Node, Tree, UnpackPolicy};

/// Makes a directory with what archives hold, its times apart.
fn make_source(root: &Path) {
    let long = "long-".repeat(30);
    fs::create_dir_all(root.join(&long).join(&long)).expect("directories");
    fs::write(root.join(&long).join(&long).join("leaf"), "deep").expect("a file");
    fs::write(root.join("empty"), "").expect("a file");
    fs::write(root.join("data"), (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
        .expect("a file");
    fs::hard_link(root.join("data"), root.join("hard")).expect("a link");
    symlink(format!("{long}/{long}"), root.join("soft")).expect("a link");
    symlink("x".repeat(200), root.join("soft-long")).expect("a link");
    fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o4751)).expect("permissions");
    let sparse = File::create(root.join("sparse")).expect("a file");
    sparse.set_len(10 << 20).expect("a length");
    for n in 1..40 {
        sparse.write_all_at(b"island", n * (192 << 10)).expect("data");
    }
}

/// Runs a program in a directory; nothing if it isn't installed.
fn run(program: &str, package: &str, arguments: &[&str], directory: &Path) -> Option<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env_clear().env("LC_ALL", "C");
    match command.output() {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{program} {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(())
        }
        Err(error) => {
            println!("skipped: {program} doesn't run ({error}); apt-get install {package}");
            None
        }
    }
}

fn merged(memory: &Memory) -> Tree {
    let mut merge = Merge::new(&UnpackPolicy::default());
    merge.begin_layer();
    memory.changes.iter().try_for_each(|change| merge.apply(change.clone())).expect("a layer that merges");
    merge.finish()
}

/// Compares a tree with the directory that it was made from.
fn compare(root: &Path, memory: &Memory, keeps_holes: bool) {
    let tree = merged(memory);
    assert_eq!(tree.len(), 9, "the root, two directories, four files and two links");
    for (path, id) in tree.walk() {
        let inode = tree.inode(id);
        let source = root.join(std::str::from_utf8(&path).expect("UTF-8"));
        let metadata = source.symlink_metadata().expect("the source");
        use std::os::unix::fs::MetadataExt as _;
        let got = (u32::from(inode.attributes.mode), inode.attributes.uid, inode.attributes.gid);
        assert_eq!(got, (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), "{source:?}");
        assert_eq!(inode.attributes.mtime.secs, metadata.mtime(), "{source:?}");
        assert_eq!(u64::from(inode.links), metadata.nlink(), "{source:?}");
        match &inode.node {
            Node::Directory(_) => assert!(metadata.is_dir(), "{source:?}"),
            Node::Symlink(target) => {
                let want = fs::read_link(&source).expect("a link");
                assert_eq!(&**target, want.as_os_str().as_encoded_bytes());
            }
            Node::Regular { content, .. } => {
                let number = content.extents[0].segment_block as usize;
                assert!(memory.files[number] == fs::read(&source).expect("a file"), "{source:?}");
                if keeps_holes && path.ends_with(b"sparse") {
                    assert!(memory.holes[number].len() >= 39, "{source:?}: {:?}", memory.holes[number]);
                }
            }
            other => panic!("{source:?}: {other:?}"),
        }
    }
}

#[test]
fn reads_what_gnu_tar_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("source");
    make_source(&source);
    let cases: [(&[&str], bool); 6] = [
        (&["--format=gnu"], false),
        (&["--format=gnu", "--sparse"], true),
        (&["--format=posix"], false),
        (&["--format=posix", "--sparse", "--sparse-version=0.0"], true),
        (&["--format=posix", "--sparse", "--sparse-version=0.1"], true),
        (&["--format=posix", "--sparse", "--sparse-version=1.0"], true),
    ];
    for (options, is_sparse) in cases {
        let arguments = [options, &["--sort=name", "-cf", "../a.tar", "."]].concat();
        if run("tar", "tar", &arguments, &source).is_none() {
            return;
        }
        let archive = fs::read(directory.path().join("a.tar")).expect("the archive");
        compare(&source, &read_good(&archive), is_sparse);
    }
}

#[test]
fn reads_what_bsdtar_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("source");
    make_source(&source);
    for (format, is_sparse) in [("pax", true), ("gnutar", false)] {
        if run("bsdtar", "libarchive-tools", &["--format", format, "-cf", "../a.tar", "."], &source).is_none()
        {
            return;
        }
        let archive = fs::read(directory.path().join("a.tar")).expect("the archive");
        compare(&source, &read_good(&archive), is_sparse);
    }
}

#[test]
fn reads_times_to_the_nanosecond() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = File::create(directory.path().join("file")).expect("a file");
    let want = crate::Timestamp { secs: -86_400, nanos: 123_456_789 };
    let time = std::time::UNIX_EPOCH - std::time::Duration::from_secs(86_400)
        + std::time::Duration::from_nanos(123_456_789);
    file.set_modified(time).expect("a time");
    if run("tar", "tar", &["--format=posix", "-cf", "a.tar", "file"], directory.path()).is_none() {
        return;
    }
    let archive = fs::read(directory.path().join("a.tar")).expect("the archive");
    match &read_good(&archive).changes[..] {
        [Change::Put { attributes, kind: Kind::Regular(_), .. }] => assert_eq!(attributes.mtime, want),
        other => panic!("{other:?}"),
    }
}
