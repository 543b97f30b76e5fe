//! What `mvmctl image tree --json` prints, read back.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde_json::Value;

use crate::tree::{Content, Entry};

/// Reads the lines, one entry each. Says what is wrong with them.
pub fn parse(lines: &[u8]) -> Result<BTreeMap<PathBuf, Entry>, String> {
    let mut entries = BTreeMap::new();
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut counts: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut directories: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let (path, inode, entry) =
            entry(&value).ok_or_else(|| format!("not an entry: {}", String::from_utf8_lossy(line)))?;
        if entry.content == Content::Directory {
            if let Some(parent) = path.parent() {
                *directories.entry(parent.to_owned()).or_default() += 1;
            }
            *directories.entry(path.clone()).or_default() += 2;
        } else {
            groups.entry(inode).or_default().push(path.clone());
        }
        counts.insert(path.clone(), value["nlink"].as_u64().unwrap_or_default());
        if entries.insert(path, entry).is_some() {
            return Err(format!("twice: {}", String::from_utf8_lossy(line)));
        }
    }
    let mut expected = directories;
    expected.extend(
        groups.values().flat_map(|group| group.iter().map(|path| (path.clone(), group.len() as u64))),
    );
    if let Some((path, count)) = counts.iter().find(|(path, count)| expected.get(*path) != Some(count)) {
        return Err(format!("{}: {count} links, expected {:?}", path.display(), expected.get(path)));
    }
    for mut group in groups.into_values() {
        group.sort();
        let links = (group[0].clone(), group.len() as u64);
        for path in group {
            if let Some(entry) = entries.get_mut(&path) {
                entry.links = links.clone();
            }
        }
    }
    Ok(entries)
}

fn entry(value: &Value) -> Option<(PathBuf, u64, Entry)> {
    let number = |name: &str| value[name].as_u64().and_then(|number| u32::try_from(number).ok());
    let path = PathBuf::from(OsStr::from_bytes(&unescape(value["path"].as_str()?.strip_prefix('/')?)?));
    let (kind, content) = match value["type"].as_str()? {
        "directory" => (0o040_000, Content::Directory),
        "file" => (0o100_000, Content::File(value["size"].as_u64()?, hash(value["sha256"].as_str()?)?)),
        "symlink" => (0o120_000, Content::Symlink(OsString::from_vec(unescape(value["target"].as_str()?)?))),
        "char-device" => (0o020_000, device(&value["device"])?),
        "block-device" => (0o060_000, device(&value["device"])?),
        "fifo" => (0o010_000, Content::Nothing),
        "socket" => (0o140_000, Content::Nothing),
        _ => return None,
    };
    let attributes = value["xattrs"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| Some((OsString::from_vec(unescape(name)?), base64(value.as_str()?)?)));
    let mtime = (value["mtime"]["secs"].as_i64()?, value["mtime"]["nanos"].as_i64()?);
    let entry = Entry {
        mode: kind | u32::from_str_radix(value["mode"].as_str()?, 8).ok()?,
        owner: (number("uid")?, number("gid")?),
        mtime,
        attributes: attributes.collect::<Option<_>>()?,
        links: (path.clone(), 1),
        content,
    };
    Some((path, value["inode"].as_u64()?, entry))
}

fn device(value: &Value) -> Option<Content> {
    let number = |name: &str| value[name].as_u64().and_then(|number| u32::try_from(number).ok());
    Some(Content::Device(number("major")?, number("minor")?))
}

fn hash(hex: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Takes `\xNN` and `\\` back.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
        } else if let Some(after) = rest.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = after;
        } else {
            let digits = rest.strip_prefix(b"x")?.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &rest[3..];
        }
    }
    Some(bytes)
}

/// Decodes base64 with padding (RFC 4648, section 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | ALPHABET.iter().position(|letter| *letter == byte)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}
