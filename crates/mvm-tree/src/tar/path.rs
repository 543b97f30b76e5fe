//! Paths of entries: brought into one form, and what their names mean.

use super::error::Refusal;
use crate::{Escaped, UnpackPolicy};

/// Returns a path without leading, trailing and doubled slashes and without `.`; the root is the empty path.
///
/// A `..` is refused wherever it stands. Container engines resolve some of them, but no tool writes them.
pub(super) fn normalise(what: &'static str, raw: &[u8], policy: &UnpackPolicy) -> Result<Box<[u8]>, Refusal> {
    check_bytes(what, raw, policy)?;
    let mut path = Vec::with_capacity(raw.len());
    for name in raw.split(|b| *b == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(Refusal::Parent { what, value: Escaped::new(raw) }),
            _ => {}
        }
        // The name of a whiteout never becomes a name in the tree; the one that it removes may be as long as any.
        let length = name.strip_prefix(b".wh.").unwrap_or(name).len();
        policy.check_name(length)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    Ok(path.into())
}

/// Checks the length of a path or link target, and that it has no NUL.
pub(super) fn check_bytes(what: &'static str, raw: &[u8], policy: &UnpackPolicy) -> Result<(), Refusal> {
    if raw.contains(&0) {
        return Err(Refusal::Nul { what, value: Escaped::new(raw) });
    }
    Ok(policy.check_path(raw.len())?)
}

/// What a path stands for (image-spec, `layer.md`, "Whiteouts").
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Itself.
    Entry,
    /// A whiteout of this path.
    Whiteout(Box<[u8]>),
    /// An opaque whiteout of this directory.
    Opaque(Box<[u8]>),
    /// What AUFS kept beside the files, no part of the layer.
    Metadata,
}

/// Says what a normalised path stands for.
pub(super) fn meaning(path: &[u8]) -> Result<Meaning, Refusal> {
    let (parent, base) = match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[][..], path),
    };
    let mut parents = parent.split(|b| *b == b'/');
    if parents.clone().any(|name| name.starts_with(b".wh..wh.")) {
        return Ok(Meaning::Metadata);
    }
    if parents.any(|name| name.starts_with(b".wh.")) {
        return Err(Refusal::BeneathWhiteout);
    }
    if base == b".wh..wh..opq" {
        return Ok(Meaning::Opaque(parent.into()));
    }
    if base.starts_with(b".wh..wh.") {
        return Ok(Meaning::Metadata);
    }
    match base.strip_prefix(b".wh.") {
        Some(target @ (b"" | b"." | b"..")) => Err(Refusal::Whiteout { target: Escaped::new(target) }),
        Some(target) if parent.is_empty() => Ok(Meaning::Whiteout(target.into())),
        Some(target) => Ok(Meaning::Whiteout([parent, b"/", target].concat().into())),
        None => Ok(Meaning::Entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Breach, Knob};

    #[test]
    fn normalises_paths() {
        let parent = |raw: &str| Refusal::Parent { what: "path", value: Escaped::new(raw.as_bytes()) };
        let cases: [(&str, Result<&str, Refusal>); 14] = [
            ("a/b", Ok("a/b")),
            ("/a/b", Ok("a/b")),
            ("./a/b/", Ok("a/b")),
            ("//a//./b//", Ok("a/b")),
            ("", Ok("")),
            ("./", Ok("")),
            (".", Ok("")),
            ("...", Ok("...")),
            ("..a/b..", Ok("..a/b..")),
            ("a\\b", Ok("a\\b")),
            ("..", Err(parent(".."))),
            ("a/../b", Err(parent("a/../b"))),
            ("a/..", Err(parent("a/.."))),
            ("a\0b", Err(Refusal::Nul { what: "path", value: Escaped::new(b"a\0b") })),
        ];
        for (raw, want) in cases {
            let got = normalise("path", raw.as_bytes(), &UnpackPolicy::default());
            assert_eq!(got, want.map(|path| path.as_bytes().into()), "{raw:?}");
        }
    }

    #[test]
    fn bounds_paths() {
        let policy = UnpackPolicy { path_bytes: 8, name_bytes: 4, ..UnpackPolicy::default() };
        let over = |what, got, limit| {
            let knob = if what == "bytes of a name" { Knob::Name } else { Knob::Path };
            Err(Refusal::Policy(Breach::OverLimit { knob, what, got, limit }))
        };
        let cases: [(&str, Result<&str, Refusal>); 6] = [
            ("abcd/ef", Ok("abcd/ef")),
            (".wh.abc", Ok(".wh.abc")),
            ("wh.abc", over("bytes of a name", 6, 4)),
            ("abcd/efg", over("bytes of a path", 8, 7)),
            ("abcde", over("bytes of a name", 5, 4)),
            ("abcd", Ok("abcd")),
        ];
        for (raw, want) in cases {
            let got = normalise("path", raw.as_bytes(), &policy);
            assert_eq!(got, want.map(|path| path.as_bytes().into()), "{raw:?}");
        }
    }

    #[test]
    fn tells_whiteouts() {
        let whiteout = |path: &[u8]| Ok(Meaning::Whiteout(path.into()));
        let opaque = |path: &[u8]| Ok(Meaning::Opaque(path.into()));
        let refused = |target: &[u8]| Err(Refusal::Whiteout { target: Escaped::new(target) });
        let cases: [(&str, Result<Meaning, Refusal>); 14] = [
            ("", Ok(Meaning::Entry)),
            ("a/b", Ok(Meaning::Entry)),
            ("a/.why", Ok(Meaning::Entry)),
            (".wh.a", whiteout(b"a")),
            ("a/.wh.b", whiteout(b"a/b")),
            (".wh..a", whiteout(b".a")),
            (".wh.", refused(b"")),
            ("a/.wh..", refused(b".")),
            (".wh...", refused(b"..")),
            (".wh..wh..opq", opaque(b"")),
            ("a/b/.wh..wh..opq", opaque(b"a/b")),
            (".wh..wh.aufs", Ok(Meaning::Metadata)),
            (".wh..wh.plnk/1.2", Ok(Meaning::Metadata)),
            (".wh.a/b", Err(Refusal::BeneathWhiteout)),
        ];
        for (path, want) in cases {
            assert_eq!(meaning(path.as_bytes()), want, "{path:?}");
        }
    }
}
