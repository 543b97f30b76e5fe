//! The users and groups that the root gets: lines in its `/etc/passwd` and `/etc/group`, and home directories.
//!
//! What the root has by that name it keeps, with its number, which the image's files were made for. Equal numbers of
//! different names are no matter, as they are none to passwd(5). `/etc/shadow` is not touched: nobody gets a password.

use mvm_wire::GuestDocument;
use mvm_wire::document::services::{Group, User};
use rustix::fs::{
    Gid, Mode, OFlags, ResolveFlags, Uid, fchown, mkdirat, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The largest user or group file that is added to, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Where a new file is written before it takes its name.
const NEW: &str = ".mvm-new";

/// A user or group that the root can't get.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    #[error("opening the root failed")]
    Root(#[source] io::Error),
    #[error("{act} the image's /etc/{file} failed")]
    File {
        act: &'static str,
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("making {home:?}, the home of user {user:?}, failed")]
    Home {
        home: String,
        user: String,
        #[source]
        source: io::Error,
    },
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Adds the document's users and groups to the root at `root`, and makes the homes of those that it added.
pub(crate) fn add(root: &Path, document: &GuestDocument) -> Result<(), UsersError> {
    let (users, groups) = wanted(document);
    if users.is_empty() && groups.is_empty() {
        return Ok(());
    }
    let root =
        rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(|errno| UsersError::Root(errno.into()))?;
    let etc = openat2(&root, "etc", DIRECTORY, Mode::empty(), INSIDE)
        .map_err(|errno| UsersError::Root(errno.into()))?;
    let change = |file: &'static str, change: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let error = |act| move |source| UsersError::File { act, file, source };
        let old = read(root.as_fd(), file).map_err(error("reading"))?;
        match change(&old) {
            Some(new) => replace(etc.as_fd(), file, &new).map(|()| old).map_err(error("writing")),
            None => Ok(old),
        }
    };
    let members: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    let service_group = document.service_group.as_ref().map(|group| group.name.as_str());
    change("group", &|old| with_groups(old, &groups, service_group, &members))?;
    let before = change("passwd", &|old| with_users(old, &users))?;
    for user in users.iter().filter(|user| line_of(&before, &user.name).is_none()) {
        make_home(root.as_fd(), user).map_err(|source| UsersError::Home {
            home: user.home.clone(),
            user: user.name.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Returns the users and groups that a document asks for: its own, the service group, and a user of that group's name
/// where a service runs as one that isn't described.
fn wanted(document: &GuestDocument) -> (Vec<User>, Vec<Group>) {
    let mut users = document.users.clone();
    let mut groups: Vec<Group> = document.service_group.iter().cloned().collect();
    if let Some(group) = &document.service_group {
        let named = document
            .services
            .iter()
            .any(|service| service.process.user.split(':').next() == Some(group.name.as_str()));
        if named && users.iter().all(|user| user.name != group.name) {
            users.push(User {
                name: group.name.clone(),
                uid: group.gid,
                group: group.clone(),
                home: "/".to_owned(),
            });
        }
    }
    for user in &users {
        if groups.iter().all(|group| group.name != user.group.name) {
            groups.push(user.group.clone());
        }
    }
    (users, groups)
}

/// Returns a passwd(5) file with lines for the users that it lacks, unless it lacks none.
fn with_users(old: &[u8], users: &[User]) -> Option<Vec<u8>> {
    let mut added = String::new();
    for User { name, uid, group, home } in users.iter().filter(|user| line_of(old, &user.name).is_none()) {
        added.push_str(&format!("{name}:x:{uid}:{}::{home}:/bin/sh\n", group.gid));
    }
    (!added.is_empty()).then(|| [&*ended(old), added.as_bytes()].concat())
}

/// Returns a group(5) file with lines for the groups that it lacks, and `members` in the group that is to have them,
/// unless all of that is so.
fn with_groups(old: &[u8], groups: &[Group], of: Option<&str>, members: &[&str]) -> Option<Vec<u8>> {
    let mut new = Vec::new();
    for line in old.split_inclusive(|byte| *byte == b'\n') {
        match of.filter(|name| line_name(line) == name.as_bytes()) {
            Some(_) => new.extend(with_members(line, members)),
            None => new.extend(line),
        }
    }
    for Group { name, gid } in groups.iter().filter(|group| line_of(old, &group.name).is_none()) {
        new = ended(&new).into_owned();
        let line = format!("{name}:x:{gid}:\n");
        let members = if of == Some(name) { members } else { &[] };
        new.extend(with_members(line.as_bytes(), members));
    }
    (new != old).then_some(new)
}

/// Returns a line of a group(5) file with more members.
fn with_members(line: &[u8], members: &[&str]) -> Vec<u8> {
    let text = line.trim_ascii_end();
    let mut fields: Vec<&[u8]> = text.splitn(4, |byte| *byte == b':').collect();
    // A line that is none is left alone.
    let &[_, _, _, listed] = fields.as_slice() else { return line.to_vec() };
    let mut names: Vec<&[u8]> = listed.split(|byte| *byte == b',').filter(|name| !name.is_empty()).collect();
    for member in members {
        if !names.iter().any(|name| name.trim_ascii() == member.as_bytes()) {
            names.push(member.as_bytes());
        }
    }
    let names = names.join(&b","[..]);
    fields[3] = &names;
    let mut line = fields.join(&b":"[..]);
    line.push(b'\n');
    line
}

/// Returns the line of the user or group with a name.
fn line_of<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    file.split(|byte| *byte == b'\n').find(|line| line_name(line) == name.as_bytes())
}

fn line_name(line: &[u8]) -> &[u8] {
    line.trim_ascii().split(|byte| *byte == b':').next().unwrap_or_default()
}

/// Returns a file whose last line is ended.
fn ended(file: &[u8]) -> Cow<'_, [u8]> {
    match file.last() {
        None | Some(b'\n') => Cow::Borrowed(file),
        Some(_) => Cow::Owned([file, b"\n"].concat()),
    }
}

/// Reads a file that may be a link to another place in the root; one that isn't there is empty.
fn read(root: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("etc/{name}");
    let file = match openat2(root, path.as_str(), flags, Mode::empty(), INSIDE).map(File::from) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FILE} bytes")));
    }
    Ok(content)
}

/// Puts a file with new content in the place of another, or of a link to another.
fn replace(etc: BorrowedFd<'_>, name: &str, content: &[u8]) -> io::Result<()> {
    match unlinkat(etc, NEW, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(openat(etc, NEW, flags, Mode::from_raw_mode(0o644))?).write_all(content)?;
    Ok(renameat(etc, NEW, etc, name)?)
}

/// Makes a home that isn't there, and gives it to its user.
fn make_home(root: BorrowedFd<'_>, user: &User) -> io::Result<()> {
    let mut directory: OwnedFd = openat(root, ".", DIRECTORY, Mode::empty())?;
    let mut path = String::from(".");
    let mut made = false;
    for part in user.home.split('/').filter(|part| !matches!(*part, "" | "." | "..")) {
        path = format!("{path}/{part}");
        let opened = openat2(root, path.as_str(), DIRECTORY, Mode::empty(), INSIDE);
        made = matches!(opened, Err(Errno::NOENT));
        directory = match opened {
            Err(Errno::NOENT) => {
                mkdirat(&directory, part, Mode::from_raw_mode(0o755))?;
                openat(&directory, part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?
            }
            opened => opened?,
        };
    }
    if made {
        fchown(&directory, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.group.gid)))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
