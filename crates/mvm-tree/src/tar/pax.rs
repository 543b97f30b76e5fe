//! PAX extended headers (POSIX.1-2017, `pax`, "pax Extended Header").

use super::error::{Refusal, SparseFault};
use super::header::MAX_ID;
use super::libarchive;
use super::number::{decimal, time};
use super::sparse::Records;
use crate::{Escaped, Timestamp, Xattr};

/// What extended headers say about an entry.
///
/// Of a key that is given twice the last value counts, and an empty value takes a value back, as POSIX has it.
/// Only an extended attribute can be empty. Unknown keys are ignored.
#[derive(Clone, Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    /// Sorted by name, each name once.
    pub(super) xattrs: Vec<Xattr>,
    /// Those in the form of libarchive, until they are compared with the others.
    encoded_xattrs: Vec<Xattr>,
    pub(super) sparse: Records,
    /// Number of extended attributes left out, since Linux file systems have no place for their namespace.
    pub(super) ignored_xattrs: u64,
}

impl Extended {
    /// Adds the records of an extended header. A global one can't hold what belongs to one entry.
    pub(super) fn read(&mut self, payload: &[u8], is_global: bool) -> Result<(), Refusal> {
        let mut rest = payload;
        while !rest.is_empty() {
            let malformed = Refusal::PaxRecord { at: payload.len() - rest.len() };
            let (key, value, remaining) = split_record(rest).ok_or(malformed)?;
            self.set(key, value, is_global)?;
            rest = remaining;
        }
        self.join_xattrs()
    }

    fn set(&mut self, key: &[u8], value: &[u8], is_global: bool) -> Result<(), Refusal> {
        let is_own = matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
        if is_global && is_own {
            return Err(Refusal::PaxGlobal { key: Escaped::new(key) });
        }
        let id =
            |value: &[u8]| decimal(value).and_then(|id| u32::try_from(id).ok()).filter(|id| *id <= MAX_ID);
        let size = |value: &[u8]| decimal(value).filter(|size| i64::try_from(*size).is_ok());
        match key {
            b"path" => self.path = parse(key, value, |value| Some(value.to_vec()))?,
            b"linkpath" => self.linkpath = parse(key, value, |value| Some(value.to_vec()))?,
            b"size" => self.size = parse(key, value, size)?,
            b"uid" => self.uid = parse(key, value, id)?,
            b"gid" => self.gid = parse(key, value, id)?,
            b"mtime" => self.mtime = parse(key, value, time)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if self.accepts_xattr(name)? {
                        self.xattrs.push(Xattr { name: name.into(), value: value.into() });
                    }
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let invalid = || Refusal::PaxValue { key: Escaped::new(key), value: Escaped::new(value) };
                    let value = libarchive::base64(value).ok_or_else(invalid)?;
                    let name = libarchive::percent(name);
                    if self.accepts_xattr(&name)? {
                        self.encoded_xattrs.push(Xattr { name: name.into(), value: value.into() });
                    }
                } else if key == b"SUN.holesdata" {
                    // The data are those of a sparse file, whose map is in a form of its own.
                    return Err(SparseFault::Version.into());
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(name, value)?;
                }
            }
        }
        Ok(())
    }

    /// Says whether an attribute can be kept; one that is left out is counted.
    fn accepts_xattr(&mut self, name: &[u8]) -> Result<bool, Refusal> {
        if name.is_empty() || name.len() > 255 {
            return Err(Refusal::XattrName { got: name.len() });
        }
        if name.contains(&0) {
            return Err(Refusal::Nul { what: "name of an extended attribute", value: Escaped::new(name) });
        }
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            return Err(Refusal::OverlayXattr { name: Escaped::new(name) });
        }
        let is_supported = is_supported(name);
        self.ignored_xattrs += u64::from(!is_supported);
        Ok(is_supported)
    }

    /// Brings both forms of extended attributes together.
    fn join_xattrs(&mut self) -> Result<(), Refusal> {
        keep_last(&mut self.xattrs);
        keep_last(&mut self.encoded_xattrs);
        for encoded in std::mem::take(&mut self.encoded_xattrs) {
            match self.xattrs.binary_search_by(|xattr| xattr.name.cmp(&encoded.name)) {
                Ok(at) if self.xattrs[at].value != encoded.value => {
                    return Err(Refusal::XattrsDiffer { name: Escaped::new(&encoded.name) });
                }
                Ok(_) => {}
                // At the end, lest many of them are moved again and again; sorted below.
                Err(_) => self.encoded_xattrs.push(encoded),
            }
        }
        self.xattrs.append(&mut self.encoded_xattrs);
        self.xattrs.sort_unstable();
        Ok(())
    }
}

/// Sorts attributes by name and keeps the last one of each name.
fn keep_last(xattrs: &mut Vec<Xattr>) {
    // The sort is stable, so that the last of equal names is the one given last.
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|later, kept| {
        let is_equal = later.name == kept.name;
        if is_equal {
            std::mem::swap(later, kept);
        }
        is_equal
    });
}

/// Says whether Linux file systems store attributes of this namespace. Archives made on other systems hold others,
/// and runtimes skip them where the kernel answers that it knows no such thing.
fn is_supported(name: &[u8]) -> bool {
    let has_name = |namespace: &[u8]| name.len() > namespace.len() && name.starts_with(namespace);
    [&b"user."[..], b"security.", b"trusted."].into_iter().any(has_name)
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

/// Parses a value; nothing takes the record back.
fn parse<T>(key: &[u8], value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    let invalid = || Refusal::PaxValue { key: Escaped::new(key), value: Escaped::new(value) };
    parse(value).map(Some).ok_or_else(invalid)
}

/// Splits `LENGTH KEY=VALUE\n` off; the length counts itself and the line feed.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}
