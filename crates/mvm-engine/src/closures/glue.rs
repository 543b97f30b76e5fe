//! What a root needs beside the store: accounts, names, links to shell and `env`, and directories to mount on.
//!
//! The same guest gives the same bytes. Lines for accounts are those that the guest would add at boot, so that a root that is
//! read-only has them too.

use super::manifest::CERTIFICATES;
use super::writable_store::{SETTINGS, WritableStore};
use mvm_ref::GuestDefinition;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// The number of the service group, and of the user of its name.
pub(super) const SERVICE_ID: u32 = 900;

/// Directories and their modes, parents first.
const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("mnt/config", 0o755),
    ("mnt/data", 0o755),
    ("mnt/secrets", 0o755),
    ("nix", 0o755),
    ("nix/store", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/empty", 0o555),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

const NSSWITCH: &str =
    "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\n";

/// Writes the layer of a guest.
pub(super) fn write(
    guest: &GuestDefinition,
    store: Option<&WritableStore>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut layer = Layer(Builder::new(out));
    for (path, mode) in DIRECTORIES {
        layer.directory(path, *mode, (0, 0))?;
    }
    let mut there: BTreeSet<String> = DIRECTORIES.iter().map(|(path, _)| (*path).to_owned()).collect();
    for user in guest.users.values() {
        layer.home(&user.home, (user.uid, user.gid.unwrap_or(user.uid)), &mut there)?;
    }
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {}\n", guest.hostname);
    for (path, text) in [
        ("etc/group", groups(guest)),
        ("etc/hostname", format!("{}\n", guest.hostname)),
        ("etc/hosts", hosts),
        ("etc/nsswitch.conf", NSSWITCH.to_owned()),
        ("etc/os-release", format!("NAME=mvm\nID=mvm\nPRETTY_NAME=\"mvm guest {}\"\n", guest.name)),
        ("etc/passwd", users(guest)),
        // The guest's network fills it.
        ("etc/resolv.conf", String::new()),
    ] {
        layer.file(path, &text)?;
    }
    let links = [
        ("bin/sh", guest.shell.as_deref()),
        ("usr/bin/env", guest.env.as_deref()),
        (&CERTIFICATES[1..], guest.ca_bundle.as_deref()),
        ("var/run", Some("/run")),
    ];
    for (path, target) in links.into_iter().filter_map(|(path, target)| Some((path, target?))) {
        layer.link(path, target)?;
    }
    if let Some(store) = store {
        for path in ["etc/nix", "nix/var", "nix/var/nix", "nix/var/nix/gcroots"] {
            layer.directory(path, 0o755, (0, 0))?;
        }
        layer.file("etc/nix/nix.conf", SETTINGS)?;
        layer.file("nix-path-registration", &store.registration)?;
        layer.link("nix/var/nix/gcroots/mvm-guest", &store.output.to_string())?;
    }
    layer.0.into_inner()?.flush()
}

/// Leaves out what would end a text in double quotes.
fn users(guest: &GuestDefinition) -> String {
    let shell = "/bin/sh";
    let group = &guest.service_group;
    let mut text = format!("root:x:0:0::/root:{shell}\n");
    if !guest.users.contains_key(group) {
        text.push_str(&format!("{group}:x:{SERVICE_ID}:{SERVICE_ID}::/:{shell}\n"));
    }
    for (name, user) in &guest.users {
        let (uid, gid, home) = (user.uid, user.gid.unwrap_or(user.uid), &user.home);
        text.push_str(&format!("{name}:x:{uid}:{gid}::{home}:{shell}\n"));
    }
    text.push_str("nobody:x:65534:65534::/var/empty:/bin/false\n");
    text
}

fn groups(guest: &GuestDefinition) -> String {
    // Every user is in the service group too, so that it may read the guest's secrets.
    let members: Vec<&str> = guest.users.keys().map(String::as_str).collect();
    let mut text = format!("root:x:0:\n{}:x:{SERVICE_ID}:{}\n", guest.service_group, members.join(","));
    let mut groups = BTreeMap::new();
    for user in guest.users.values().filter(|user| user.group != guest.service_group) {
        groups.entry(&user.group).or_insert(user.gid.unwrap_or(user.uid));
    }
    for (name, gid) in groups {
        text.push_str(&format!("{name}:x:{gid}:\n"));
    }
    text.push_str("nogroup:x:65534:\n");
    text
}

/// An archive in which everything was last changed in the first second of 1970, as in a Nix store.
struct Layer<W: Write>(Builder<W>);

impl<W: Write> Layer<W> {
    fn directory(&mut self, path: &str, mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
        let mut header = header(EntryType::Directory, mode, 0);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        self.0.append_data(&mut header, path, io::empty())
    }

    /// Makes a user's home and what it lies in. A directory that is there is nobody's home, and the store is no place for one.
    fn home(&mut self, home: &str, owner: (u32, u32), there: &mut BTreeSet<String>) -> io::Result<()> {
        let names: Vec<&str> = home.split('/').filter(|name| !name.is_empty()).collect();
        if names.first() == Some(&"nix") || names.iter().any(|name| matches!(*name, "." | "..")) {
            return Ok(());
        }
        for depth in 1..=names.len() {
            let path = names[..depth].join("/");
            let (mode, owner) = if depth == names.len() { (0o700, owner) } else { (0o755, (0, 0)) };
            if !there.contains(&path) {
                self.directory(&path, mode, owner)?;
                there.insert(path);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
        self.0.append_data(&mut header, path, text.as_bytes())
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header
}
