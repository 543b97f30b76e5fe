use super::*;
use crate::testing::{Chopped, Memory, content};
use crate::{Attributes, Breach, Budget, Change, Kind, Knob, Timestamp, UnpackPolicy};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;

/// Writes a text with its length and padding.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn words(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| text(word.as_bytes())).collect()
}

fn nar(node: Vec<u8>) -> Vec<u8> {
    [text(b"nix-archive-1"), node].concat()
}

fn file(data: &[u8]) -> Vec<u8> {
    [words(&["(", "type", "regular", "contents"]), text(data), words(&[")"])].concat()
}

fn program(data: &[u8]) -> Vec<u8> {
    let start = words(&["(", "type", "regular", "executable", "", "contents"]);
    [start, text(data), words(&[")"])].concat()
}

fn link(target: &[u8]) -> Vec<u8> {
    [words(&["(", "type", "symlink", "target"]), text(target), words(&[")"])].concat()
}

fn directory(entries: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let mut out = words(&["(", "type", "directory"]);
    for (name, node) in entries {
        let entry =
            [words(&["entry", "(", "name"]), text(name), words(&["node"]), node.clone(), words(&[")"])];
        out.extend(entry.concat());
    }
    [out, words(&[")"])].concat()
}

/// What `nix-store --dump` of Nix 2.8 makes of such a tree has this SHA-256.
const DUMPED: &str = "33a147d2ebe0511e264a449e7657b166754243c368ffc12d1dd365c321f95a80";

fn tree() -> Vec<u8> {
    nar(directory(&[
        (b"b", program(b"x")),
        (b"d", directory(&[(b"a", file(b"hello\n")), (b"e", directory(&[]))])),
        (b"empty", file(b"")),
        (b"l", link(b"b")),
    ]))
}

type Read = (Memory, Result<NarSummary, NarError<Infallible>>);

/// Reads a NAR, whole and in odd pieces, and asserts that it makes no difference and that what follows is left.
fn read(nar: &[u8], policy: &UnpackPolicy) -> Read {
    let followed = [nar, b"what follows"].concat();
    let mut memory = Memory::default();
    let mut rest = followed.as_slice();
    let result = read_nar(&mut rest, b"nix/store/x", &Budget::new(policy), &mut memory);
    if let Ok(summary) = result {
        assert_eq!(summary.nar_bytes, (followed.len() - rest.len()) as u64);
    }
    for piece in [1, 7, 8, 9, 4096] {
        let mut again = Memory::default();
        let mut input = Chopped { bytes: &followed, piece, is_interrupted: false };
        let chopped = read_nar(&mut input, b"nix/store/x", &Budget::new(policy), &mut again);
        assert_eq!(format!("{chopped:?}"), format!("{result:?}"), "in pieces of {piece}");
        assert_eq!((&again, input.bytes), (&memory, rest), "in pieces of {piece}");
    }
    (memory, result)
}

fn put(path: &str, mode: u16, kind: Kind) -> Change {
    let mtime = Timestamp { secs: 1, nanos: 0 };
    Change::Put {
        path: path.as_bytes().into(),
        attributes: Attributes { mode, mtime, ..Attributes::default() },
        kind,
    }
}

#[test]
fn what_nix_dumps_is_read() {
    let archive = tree();
    assert_eq!(format!("{:x}", Sha256::digest(&archive)), DUMPED);
    let (memory, result) = read(&archive, &UnpackPolicy::default());
    let nar_bytes = archive.len() as u64;
    assert_eq!(result.unwrap(), NarSummary { entries: 7, data_bytes: 7, nar_bytes });
    let expected = [
        put("nix/store/x", 0o555, Kind::Directory),
        put("nix/store/x/b", 0o555, Kind::Regular(content(0, 1))),
        put("nix/store/x/d", 0o555, Kind::Directory),
        put("nix/store/x/d/a", 0o444, Kind::Regular(content(1, 6))),
        put("nix/store/x/d/e", 0o555, Kind::Directory),
        put("nix/store/x/empty", 0o444, Kind::Regular(content(2, 0))),
        put("nix/store/x/l", 0o777, Kind::Symlink(b"b"[..].into())),
    ];
    assert_eq!(memory.changes, expected);
    assert_eq!(memory.files, [&b"x"[..], b"hello\n", b""]);
}

#[test]
fn a_path_may_be_a_file_or_a_link() {
    for (node, change) in [
        (file(b"x"), put("nix/store/x", 0o444, Kind::Regular(content(0, 1)))),
        (link(b"/nix/store/y"), put("nix/store/x", 0o777, Kind::Symlink(b"/nix/store/y"[..].into()))),
    ] {
        let (memory, result) = read(&nar(node), &UnpackPolicy::default());
        result.unwrap();
        assert_eq!(memory.changes, [change]);
    }
}

#[test]
fn what_is_not_canonical_is_refused() {
    let entry = |name: &[u8]| nar(directory(&[(name, file(b""))]));
    let two = |first: &[u8], second: &[u8]| nar(directory(&[(first, file(b"")), (second, file(b""))]));
    let mut padded = tree();
    // The byte after the one of `b`'s content.
    let at =
        padded.windows(16).position(|bytes| bytes == [1, 0, 0, 0, 0, 0, 0, 0, b'x', 0, 0, 0, 0, 0, 0, 0]);
    padded[at.unwrap() + 9] = 1;
    let start = |rest: &[&str]| nar(words(rest));
    let long = |name: usize| entry(&vec![b'a'; name]);
    let cases: Vec<(Vec<u8>, u64, &str)> = vec![
        (words(&["nix-archive-2"]), 0, "expected nix-archive-1, got \"nix-archive-2\""),
        (vec![0; 8], 0, "expected nix-archive-1, got \"\""),
        ([&[255; 8][..], &[0; 64]].concat(), 0, "expected nix-archive-1, got 18446744073709551615 bytes"),
        (start(&["("]), 40, "the NAR ends here, 8 or more bytes early"),
        (start(&["[", "type"]), 24, "expected (, got \"[\""),
        (start(&["(", "kind"]), 40, "expected type, got \"kind\""),
        (start(&["(", "type", "fifo"]), 56, "expected regular, symlink or directory, got \"fifo\""),
        (start(&["(", "type", "regular", ")"]), 72, "expected executable or contents, got \")\""),
        (start(&["(", "type", "regular", "executable", "yes"]), 96, "expected , got \"yes\""),
        (start(&["(", "type", "regular", "executable", "", "executable"]), 104, "got \"executable\""),
        (start(&["(", "type", "symlink", "contents"]), 72, "expected target, got \"contents\""),
        (nar(link(b"")), 88, "a link to \"\""),
        (nar(link(b"a\0b")), 88, "a link to"),
        (start(&["(", "type", "directory", "file"]), 80, "expected entry or ), got \"file\""),
        (entry(b""), 128, "\"\" can't be the name"),
        (entry(b"."), 128, "\".\" can't be the name"),
        (entry(b".."), 128, "\"..\" can't be the name"),
        (entry(b"a/b"), 128, "\"a/b\" can't be the name"),
        (entry(b"a\0"), 128, "can't be the name"),
        (two(b"b", b"a"), 0, "entry \"a\" comes after \"b\""),
        (two(b"a", b"a"), 0, "entry \"a\" comes twice"),
        (two(b"a", b"B"), 0, "entry \"B\" comes after \"a\""),
        (two(b"a.b", b"a"), 0, "entry \"a\" comes after \"a.b\""),
        (padded, 0, "the padding of a text of 1 bytes is not zero"),
        (long(256), 128, "expected a name, got 256 bytes"),
    ];
    for (archive, at, words) in cases {
        let (_, result) = read(&archive, &UnpackPolicy::default());
        // What follows in `read` is no NAR either.
        let error = result.unwrap_err();
        let NarError::Refused { offset, source, .. } = &error else { panic!("{error:?}") };
        let is_end = words.starts_with("the NAR ends");
        assert!(is_end || source.to_string().contains(words), "{words}: {error:?}");
        assert!(at == 0 || is_end || *offset == at, "{words}: at {offset}");
    }
    read(&long(255), &UnpackPolicy::default()).1.unwrap();
}

#[test]
fn every_end_is_noticed() {
    let archive = tree();
    for length in 0..archive.len() {
        let mut rest = &archive[..length];
        let result =
            read_nar(&mut rest, b"x", &Budget::new(&UnpackPolicy::default()), &mut Memory::default());
        assert!(
            matches!(&result, Err(NarError::Refused { source: NarRefusal::Truncated { missing }, offset, .. })
                if *missing > 0 && *offset == length as u64),
            "{length}: {result:?}"
        );
    }
}

#[test]
fn every_flipped_bit_changes_what_is_read_or_is_refused() {
    let archive = tree();
    let whole = read(&archive, &UnpackPolicy::default()).0;
    for at in 0..archive.len() * 8 {
        let mut flipped = archive.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let mut memory = Memory::default();
        let mut rest = flipped.as_slice();
        let result = read_nar(&mut rest, b"nix/store/x", &Budget::new(&UnpackPolicy::default()), &mut memory);
        assert!(result.is_err() || memory != whole, "bit {at}");
    }
}

#[test]
fn limits_are_kept() {
    let deep = (0..3000).fold(directory(&[]), |node, _| directory(&[(b"d", node)]));
    let cases: [(Vec<u8>, &str, Knob); 6] = [
        (nar(deep), "path=4KiB", Knob::Path),
        (tree(), "entries=6", Knob::Entries),
        (tree(), "unpacked=6", Knob::Unpacked),
        (tree(), "apparent=6", Knob::Apparent),
        (tree(), "metadata=9", Knob::Metadata),
        (nar(link(b"/x")), "absolute-symlinks=refuse", Knob::AbsoluteSymlinks),
    ];
    for (archive, setting, knob) in cases {
        let mut policy = UnpackPolicy::default();
        policy.set(setting).unwrap();
        let mut rest = archive.as_slice();
        let result = read_nar(&mut rest, b"x", &Budget::new(&policy), &mut Memory::default());
        let Err(NarError::Refused { source: NarRefusal::Policy(breach), .. }) = &result else {
            panic!("{setting}: {result:?}")
        };
        assert_eq!(Breach::knob(breach), knob, "{setting}");
    }
    // A length that is a lie costs nothing but what is there.
    let lie =
        [words(&["nix-archive-1", "(", "type", "regular", "contents"]), (1_u64 << 40).to_le_bytes().to_vec()];
    let mut policy = UnpackPolicy::default();
    policy.set("unpacked=2TiB").unwrap();
    policy.set("apparent=2TiB").unwrap();
    let lie = lie.concat();
    let mut rest = lie.as_slice();
    let result = read_nar(&mut rest, b"x", &Budget::new(&policy), &mut Memory::default());
    assert!(
        matches!(&result, Err(NarError::Refused { source: NarRefusal::Truncated { missing }, .. }) if *missing == 1 << 40),
        "{result:?}"
    );
}
