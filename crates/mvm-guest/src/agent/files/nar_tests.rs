use super::*;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn store(directory: &Path) -> OwnedFd {
    File::open(directory).unwrap().into()
}

/// Returns what is written of paths in a directory.
fn archives(directory: &Path, names: &[&str]) -> Result<Vec<u8>, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let paths = check(store(directory), &names).map_err(|error| error.to_string())?;
    let (read, written) = io::pipe().unwrap();
    let writing = std::thread::spawn(move || write(paths, File::from(OwnedFd::from(written))));
    let mut bytes = Vec::new();
    File::from(OwnedFd::from(read)).read_to_end(&mut bytes).unwrap();
    writing.join().unwrap().map(|()| bytes).map_err(|error| error.to_string())
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn words(words: &[&[u8]]) -> Vec<u8> {
    words.iter().flat_map(|word| text(word)).collect()
}

#[test]
fn trees_are_written_in_the_order_of_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("x/d/e")).unwrap();
    fs::write(at("x/b"), "x").unwrap();
    fs::set_permissions(at("x/b"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(at("x/d/a"), "hello\n").unwrap();
    fs::write(at("x/empty"), "").unwrap();
    symlink("b", at("x/l")).unwrap();
    fs::write(at("y"), vec![7; 100_001]).unwrap();
    symlink("/etc/passwd", at("z")).unwrap();

    let expected = [
        words(&[b"nix-archive-1", b"(", b"type", b"directory"]),
        words(&[b"entry", b"(", b"name", b"b", b"node", b"(", b"type", b"regular", b"executable", b""]),
        words(&[b"contents", b"x", b")", b")"]),
        words(&[b"entry", b"(", b"name", b"d", b"node", b"(", b"type", b"directory"]),
        words(&[b"entry", b"(", b"name", b"a", b"node", b"(", b"type", b"regular", b"contents", b"hello\n"]),
        words(&[b")", b")"]),
        words(&[b"entry", b"(", b"name", b"e", b"node", b"(", b"type", b"directory", b")", b")"]),
        words(&[b")", b")"]),
        words(&[b"entry", b"(", b"name", b"empty", b"node", b"(", b"type", b"regular", b"contents", b""]),
        words(&[b")", b")"]),
        words(&[
            b"entry", b"(", b"name", b"l", b"node", b"(", b"type", b"symlink", b"target", b"b", b")", b")",
        ]),
        words(&[b")"]),
    ]
    .concat();
    assert_eq!(archives(directory.path(), &["x"]).unwrap(), expected);
    let large = words(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents", &[7; 100_001], b")"]);
    let link = words(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", b"/etc/passwd", b")"]);
    let several = archives(directory.path(), &["z", "y", "x"]).unwrap();
    assert_eq!(several, [link, large, expected].concat());
}

#[test]
fn names_that_are_none_and_paths_that_are_not_there_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "a/b", "/etc", "a\0b", "absent"] {
        assert!(archives(directory.path(), &[name]).is_err(), "{name:?}");
    }
    let many = vec!["x"; MAX_NARS + 1];
    let names: Vec<String> = many.iter().map(|name| (*name).to_owned()).collect();
    assert!(matches!(open(&names), Err(NarError::Count { .. })));
}

#[test]
fn what_has_no_place_in_a_store_ends_the_archive() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("x")).unwrap();
    let fifo = directory.path().join("x/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let error = archives(directory.path(), &["x"]).unwrap_err();
    assert!(error.contains("other than files, links and directories"), "{error}");
}
