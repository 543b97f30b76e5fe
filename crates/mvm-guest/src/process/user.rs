//! Who a process runs as, from the root's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are those of container engines: a part that is a number is looked up by number and need not be
//! listed; a group that is named alone counts; without one, the user's own group and all groups that list it.

use mvm_wire::FailureKind;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};

/// The largest user or group number that images may name.
const MAX_ID: i64 = (1 << 31) - 1;
/// The largest user or group file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The numbers that a process runs under, and where its user is at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, ascending.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// A user that can't be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("user {name:?} is not in the image's /etc/passwd")]
    NoUser { name: String },
    #[error("group {name:?} is not in the image's /etc/group")]
    NoGroup { name: String },
    #[error("{what} number {got} is out of range, expected 0 to {MAX_ID}")]
    Range { what: &'static str, got: String },
    #[error("reading the image's {path} failed")]
    Read {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

impl UserError {
    /// Returns the class of failure that a requester is told.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::NoUser { .. } | Self::NoGroup { .. } | Self::Range { .. } => FailureKind::NoSuchUser,
            Self::Read { .. } => FailureKind::Invalid,
        }
    }
}

/// Resolves `spec` (empty, `user`, `uid`, and each with `:group` or `:gid`) in the root that is `/`.
pub(crate) fn resolve_in_root(spec: &str) -> Result<User, UserError> {
    resolve(spec, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// Reads a file that may be anything; one that isn't there is empty.
fn read(path: &'static str) -> Result<Vec<u8>, UserError> {
    let error = |source| UserError::Read { path, source };
    // Without waiting for whoever would open the other end, where somebody made it a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()).map(File::from) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(error(errno.into())),
    };
    if !file.metadata().map_err(error)?.is_file() {
        return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(error)?;
    if content.len() as u64 > MAX_FILE {
        return Err(error(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {MAX_FILE} bytes"),
        )));
    }
    Ok(content)
}

/// Resolves `spec` in the contents of a passwd(5) and a group(5) file. Lines that don't parse are passed over.
pub(crate) fn resolve(spec: &str, passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
    let (name, group_name) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted = if name.is_empty() { Id::Number(0) } else { Id::parse("user", name)? };

    let account = accounts(passwd).find(|account| match &wanted {
        Id::Number(uid) => account.uid == *uid,
        Id::Name(name) => account.name == name.as_bytes(),
    });
    let mut user = match (&account, &wanted) {
        (Some(account), _) => User {
            uid: account.uid,
            gid: account.gid,
            groups: Vec::new(),
            home: String::from_utf8_lossy(account.home).into_owned(),
        },
        (None, Id::Number(uid)) => User { uid: *uid, gid: 0, groups: Vec::new(), home: String::new() },
        (None, Id::Name(name)) => return Err(UserError::NoUser { name: name.clone() }),
    };
    if user.home.is_empty() || user.home.contains('\0') {
        user.home = "/".to_owned();
    }
    if !group_name.is_empty() {
        user.gid = match Id::parse("group", group_name)? {
            Id::Number(gid) => gid,
            Id::Name(name) => {
                let found = groups(group).find(|group| group.name == name.as_bytes());
                found.ok_or(UserError::NoGroup { name })?.gid
            }
        };
    } else if let Some(account) = account {
        let listed = groups(group).filter(|group| group.lists(account.name));
        user.groups = listed.map(|group| group.gid).collect();
        user.groups.sort_unstable();
        user.groups.dedup();
    }
    Ok(user)
}

/// What a part of a user specification names.
#[derive(Debug)]
enum Id {
    Number(u32),
    Name(String),
}

impl Id {
    fn parse(what: &'static str, text: &str) -> Result<Self, UserError> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        let range = || UserError::Range { what, got: text.to_owned() };
        let number: i64 = text.parse().map_err(|_| range())?;
        if !(0..=MAX_ID).contains(&number) {
            return Err(range());
        }
        u32::try_from(number).map(Self::Number).map_err(|_| range())
    }
}

struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    fn lists(&self, user: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|member| member.trim_ascii() == user)
    }
}

/// The lines of a passwd(5) file: name, password, uid, gid, comment, home, shell.
fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Account { name, uid, gid, home })
    })
}

/// The lines of a group(5) file: name, password, gid, members.
fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.starts_with(b"#"))
}

fn number(field: &[u8]) -> Option<u32> {
    let number: u32 = std::str::from_utf8(field).ok()?.parse().ok()?;
    (i64::from(number) <= MAX_ID).then_some(number)
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
