use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use tar::{Builder, Header};

/// An entry: its path as it stands in the archive, its type, its link's target.
type Row<'a> = (&'a str, EntryType, &'a str);

fn archive(directory: &Path, rows: &[Row<'_>]) -> File {
    let path = directory.join("archive.tar");
    let mut builder = Builder::new(File::create(&path).unwrap());
    for (name, kind, target) in rows {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_size(if *kind == EntryType::Regular { 4 } else { 0 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_cksum();
        builder.append(&header, &b"data"[..header.entry_size().unwrap() as usize]).unwrap();
    }
    builder.into_inner().unwrap();
    File::open(path).unwrap()
}

#[test]
fn an_archive_stays_in_its_directory() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root gives files to root");
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "kept").unwrap();
    let out = outside.path().to_str().unwrap();
    let (file, link, hard, folder) =
        (EntryType::Regular, EntryType::Symlink, EntryType::Link, EntryType::Directory);
    let up = format!("../../../../../../..{out}/kept");
    let cases: [(&[Row<'_>], Option<&str>); 9] = [
        (&[("a/b/c", file, ""), ("a/d", folder, ""), ("a/l", link, "b/c"), ("a/h", hard, "a/b/c")], None),
        (&[("/absolute", file, "")], None),
        (&[("./", folder, ""), ("./x", file, "")], None),
        (&[("../x", file, "")], Some("..")),
        (&[("a/../../x", file, "")], Some("..")),
        (&[("l", link, out), ("l/kept", file, "")], Some("l/kept")),
        (&[("l", link, "../.."), ("l/x", folder, "")], Some("l/x")),
        (&[("h", hard, &up)], Some("..")),
        (&[("null", EntryType::Char, "")], Some("device")),
    ];
    for (rows, expected) in cases {
        let (scratch, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = open(target.path()).unwrap();
        let outcome = unpack(&directory, false, archive(scratch.path(), rows));
        match (outcome, expected) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{rows:?}: {error}"),
            (outcome, expected) => panic!("{rows:?}: {outcome:?}, expected {expected:?}"),
        }
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept", "{rows:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{rows:?}");
    }
    let (scratch, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(target.path().join("x"), "longer than before").unwrap();
    unpack(&open(target.path()).unwrap(), false, archive(scratch.path(), &[("x", file, "")])).unwrap();
    let made = fs::metadata(target.path().join("x")).unwrap();
    assert_eq!(
        (made.len(), made.mode() & 0o7777, made.mtime()),
        (4, 0o755, 1000),
        "no set-id without owners"
    );
}
