use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use tar::{Builder, EntryType, Header};

/// An entry: its path as it stands in the archive, its type, its link's target.
type Row<'a> = (&'a str, EntryType, &'a str);

fn archive(rows: &[Row<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, target) in rows {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o6754);
        let size = if *kind == EntryType::Regular { 4 } else { 0 };
        header.set_size(size);
        header.set_uid(7);
        header.set_gid(7);
        header.set_mtime(1000);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(8).unwrap();
            header.set_device_minor(0).unwrap();
        }
        header.set_cksum();
        builder.append(&header, &b"data"[..usize::try_from(size).unwrap()]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn landing_in(directory: &Path) -> Landing {
    Landing { directory: directory.to_owned(), name: Some("got".into()), strip: true }
}

#[test]
fn a_hostile_archive_stays_below_its_directory() {
    let (file, link, hard, folder) =
        (EntryType::Regular, EntryType::Symlink, EntryType::Link, EntryType::Directory);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "kept").unwrap();
    let out = outside.path().to_str().unwrap();
    let cases: [(&[Row<'_>], Result<u64, &str>); 13] = [
        (
            &[("d", folder, ""), ("d/a/b", file, ""), ("d/l", link, "/etc/passwd"), ("d/h", hard, "d/a/b")],
            Ok(0),
        ),
        (
            &[
                ("d", folder, ""),
                ("d/n", EntryType::Char, ""),
                ("d/s", EntryType::Block, ""),
                ("d/p", EntryType::Fifo, ""),
            ],
            Ok(3),
        ),
        (&[("../x", file, "")], Err("..")),
        (&[("d/../../x", file, "")], Err("..")),
        (&[("d/l", link, out), ("d/l/kept", file, "")], Err("d/l/kept")),
        (&[("d", link, out), ("d/kept", file, "")], Err("d/kept")),
        (&[("d/l", link, "../.."), ("d/l/x", folder, "")], Err("d/l/x")),
        (&[("d/l", link, out), ("d/l", folder, "")], Err("d/l")),
        (&[("d/l", link, out), ("d/h", hard, "d/l/kept")], Err("d/h")),
        (&[("d/h", hard, "../../../../../../etc/passwd")], Err("..")),
        (&[("d/.wh.x", file, "")], Err("layers of images")),
        (&[("d/h", hard, "d/none")], Err("d/h")),
        (&[("d", file, ""), ("d/x", file, "")], Err("d/x")),
    ];
    for (rows, expected) in cases {
        let target = tempfile::tempdir().unwrap();
        let bytes = archive(rows);
        let landed = land::land(&mut bytes.as_slice(), &landing_in(target.path()), true);
        match (landed, expected) {
            (Ok(left), Ok(special)) => assert_eq!(left, LeftBehind { special }, "{rows:?}"),
            (Err(error), Err(words)) => {
                let words_of = crate::error::chain(&error);
                assert!(words_of.contains(words), "{rows:?}: {words_of}");
            }
            (landed, expected) => panic!("{rows:?}: {landed:?}, expected {expected:?}"),
        }
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept", "{rows:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{rows:?}");
        let names: Vec<_> =
            fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == "got"), "{rows:?}: {names:?}");
    }
}

#[test]
fn what_lands_has_neither_set_id_bits_nor_owners() {
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("got"), "longer than before").unwrap();
    let bytes = archive(&[("x", EntryType::Regular, "")]);
    land::land(&mut bytes.as_slice(), &landing_in(target.path()), false).unwrap();
    let got = fs::metadata(target.path().join("got")).unwrap();
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((got.len(), got.mode() & 0o7777, got.mtime(), got.uid()), (4, 0o754, 1000, me));
}

#[test]
fn places_follow_docker() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("file"), "").unwrap();
    let (regular, folder) = (FileKind::Regular, FileKind::Directory);
    let to = |directory: PathBuf, name: Option<&str>, strip| {
        Some(Landing { directory, name: name.map(OsString::from), strip })
    };
    let top = directory.path().to_owned();
    for (path, kind, target, expected) in [
        ("/etc/hosts", regular, at("dir"), to(at("dir"), Some("hosts"), true)),
        ("/etc/hosts", regular, at("new"), to(top.clone(), Some("new"), true)),
        ("/etc/hosts", regular, at("file"), to(top.clone(), Some("file"), true)),
        ("/etc/hosts", regular, at("new/"), None),
        ("/etc", folder, at("dir"), to(at("dir"), Some("etc"), true)),
        ("/etc/.", folder, at("dir"), to(at("dir"), None, true)),
        ("/etc/.", folder, at("new"), to(top.clone(), Some("new"), true)),
        ("/etc", folder, at("new/"), to(top.clone(), Some("new"), true)),
        ("/etc", folder, at("file"), None),
        ("/", folder, at("dir"), to(at("dir"), None, false)),
        ("/etc/../etc/./ssl//x", regular, at("dir"), to(at("dir"), Some("x"), true)),
    ] {
        let (inside, contents) = cleaned(path);
        assert_eq!(
            landing(&inside, contents, kind, &target).ok(),
            expected,
            "{path} to {}",
            target.display()
        );
    }
    assert_eq!(cleaned("etc/x"), ("/etc/x".to_owned(), false));
    assert_eq!(cleaned("/../../x/.."), ("/".to_owned(), false));
}

#[test]
fn what_is_packed_here_is_read_there() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let long = "n".repeat(120);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::write(at(&format!("d/e/{long}")), "text").unwrap();
    fs::set_permissions(at(&format!("d/e/{long}")), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/nowhere", at("d/l")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("d/s")).unwrap();
    fs::write(at("empty"), "").unwrap();
    let mut bytes = Vec::new();
    pack::pack(&at("d"), OsStr::new("name"), false, &mut bytes).unwrap();
    fs::create_dir(at("target")).unwrap();
    let landing = Landing { directory: at("target"), name: Some("got".into()), strip: true };
    land::land(&mut bytes.as_slice(), &landing, false).unwrap();
    let file = at(&format!("target/got/e/{long}"));
    assert_eq!(fs::read(&file).unwrap(), b"text");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_link(at("target/got/l")).unwrap(), Path::new("/nowhere"));
    assert!(!at("target/got/s").exists());
}
