use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::error::ErrorKind;
use serde_json::{Value, json};

/// Pulls an image with one of each type of file, names that hurt, and a file with two names.
fn pulled() -> (Fixture, String) {
    let fixture = fixture();
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &[u8], kind: tar::EntryType, link: &[u8], text: &str| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_mode(0o4751);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.set_device_major(if kind.is_character_special() { 1 } else { 0 }).unwrap();
        header.set_device_minor(if kind.is_character_special() { 3 } else { 0 }).unwrap();
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    };
    let pax = tar::EntryType::XHeader;
    add(b"pax", pax, b"", "20 mtime=-1.2500000\n27 SCHILY.xattr.user.k=a\0b\n");
    add(b"usr/file", tar::EntryType::Regular, b"", "hello\n");
    add(b"usr-x", tar::EntryType::Regular, b"", "");
    add(b"usr/link", tar::EntryType::Link, b"usr/file", "");
    add(b"usr/\xff a\n\\", tar::EntryType::Symlink, b"../\x1b x", "");
    add(b"null", tar::EntryType::Char, b"", "");
    add(b"pipe", tar::EntryType::Fifo, b"", "");
    let layer = archive.into_inner().unwrap();
    let layout = fixture.layout_of("layout", &[layer], &json!({}), "amd64");
    let image = fixture.pull(&layout).manifest.to_string();
    (fixture, image)
}

fn tree(fixture: &Fixture, image: &str, path: &str, digests: Digests) -> Result<Vec<Value>, EngineError> {
    let mut rows = Vec::new();
    fixture.engine.image_tree(image, path.as_bytes(), digests, &Cancel::default(), |entry| {
        rows.push(serde_json::to_value(entry).unwrap());
        Ok::<_, EngineError>(())
    })?;
    Ok(rows)
}

#[test]
fn each_name_is_listed_with_all_that_it_has() {
    let (fixture, image) = pulled();
    let mut rows = tree(&fixture, &image, "", Digests::Computed).unwrap();
    let inodes: Vec<Value> = rows.iter_mut().map(|row| row["inode"].take()).collect();
    let none = json!({});
    let time = json!({"secs": 9, "nanos": 0});
    let common = |path: &str, kind: &str, mut more: Value| {
        let row = json!({
            "path": path, "type": kind, "mode": "4751", "uid": 7, "gid": 8, "nlink": 1,
            "inode": null, "mtime": time, "xattrs": none,
        });
        let mut row = row.as_object().unwrap().clone();
        row.append(more.as_object_mut().unwrap());
        Value::Object(row)
    };
    let directory = |path: &str, nlink: u32| {
        let zero = json!({"secs": 0, "nanos": 0});
        let more = json!({"mode": "0755", "uid": 0, "gid": 0, "nlink": nlink, "mtime": zero});
        common(path, "directory", more)
    };
    let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let file = json!({
        "size": 6, "sha256": hello, "nlink": 2, "mtime": {"secs": -2, "nanos": 750_000_000},
        "xattrs": {"user.k": "YQBi"},
    });
    let expected = [
        directory("/", 3),
        common("/null", "char-device", json!({"device": {"major": 1, "minor": 3}})),
        common("/pipe", "fifo", json!({})),
        directory("/usr", 2),
        common("/usr/file", "file", file.clone()),
        common("/usr/link", "file", file),
        common("/usr/\\xff a\\x0a\\\\", "symlink", json!({"target": "../\\x1b x", "mode": "0777"})),
        common("/usr-x", "file", json!({"size": 0, "sha256": empty})),
    ];
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len());
    assert_eq!(inodes[4], inodes[5], "two names of one file");
    assert_eq!(inodes.iter().collect::<std::collections::HashSet<_>>().len(), 7);
}

#[test]
fn a_path_names_itself_and_what_is_beneath_it() {
    let (fixture, image) = pulled();
    let paths = |path: &str| -> Vec<String> {
        let rows = tree(&fixture, &image, path, Digests::Omitted).unwrap();
        assert!(rows.iter().all(|row| row.get("sha256").is_none()));
        rows.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    let usr = ["/usr", "/usr/file", "/usr/link", "/usr/\\xff a\\x0a\\\\"];
    for path in ["usr", "/usr", "//usr/"] {
        assert_eq!(paths(path), usr, "{path}");
    }
    assert_eq!(paths("usr/link"), ["/usr/link"]);
    assert_eq!(paths("/usr-x"), ["/usr-x"]);
    for path in ["us", "usr/fil", "usr/file/x", "usr/.."] {
        let error = tree(&fixture, &image, path, Digests::Omitted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
        assert_eq!(error.to_string(), format!("image {image} has no {path}"));
    }
}

#[test]
fn it_ends_when_it_is_interrupted() {
    let (fixture, image) = pulled();
    let cancel = Cancel::default();
    let mut count = 0;
    let ended = fixture.engine.image_tree(&image, b"", Digests::Computed, &cancel, |_| {
        count += 1;
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, EngineError>(())
    });
    assert_eq!((ended.unwrap_err().kind(), count), (ErrorKind::Interrupted, 1));
}
