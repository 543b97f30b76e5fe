//! What the packages' scripts would have made, as one layer: users, names, certificates, links.

use super::DebianRelease;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// Directories, with their modes.
const DIRECTORIES: [(&str, u32); 17] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/nix", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("nix", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
/// Programs of busybox that a person in the builder's shell expects, where no package has them.
const APPLETS: [&str; 60] = [
    "ash", "awk", "base64", "basename", "cat", "chmod", "chown", "cmp", "cp", "cut", "date", "dd", "df",
    "diff", "dirname", "dmesg", "du", "echo", "env", "expr", "false", "find", "free", "fstrim", "grep",
    "gunzip", "gzip", "head", "id", "kill", "less", "ln", "ls", "mkdir", "mktemp", "mount", "mv", "ps",
    "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort", "stat", "sync",
    "tail", "tar", "tee", "touch", "tr", "true", "uname", "vi", "wc", "xargs",
];

/// What is known of the packages' files when all were read.
#[derive(Debug, Default)]
pub(super) struct Base {
    seen: BTreeSet<String>,
    authorities: BTreeMap<String, Vec<u8>>,
}

impl Base {
    /// Takes note of a path that a package has.
    pub fn see(&mut self, path: String) {
        self.seen.insert(path);
    }

    /// Takes the certificate of an authority.
    pub fn add_authority(&mut self, path: &str, text: Vec<u8>) {
        self.authorities.insert(path.to_owned(), text);
    }

    /// Writes the layer.
    pub fn write(&self, release: DebianRelease, out: &mut dyn Write) -> io::Result<()> {
        let mut layer = Builder::new(out);
        for (path, mode) in DIRECTORIES {
            if !self.seen.contains(path) {
                let mut header = header(EntryType::Directory, mode);
                layer.append_data(&mut header, path, io::empty())?;
            }
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            link(&mut layer, name, &format!("usr/{name}"))?;
        }
        for applet in APPLETS {
            let path = format!("usr/bin/{applet}");
            if !self.seen.contains(&path) && !self.seen.contains(&format!("usr/sbin/{applet}")) {
                link(&mut layer, &path, "busybox")?;
            }
        }
        if !self.seen.contains("usr/bin/bash") {
            link(&mut layer, "usr/bin/bash", "bash-static")?;
        }
        let authorities = self.authorities.values().map(Vec::as_slice).collect::<Vec<_>>().concat();
        for (path, content) in [
            ("etc/group", GROUP.as_bytes()),
            ("etc/nix/nix.conf", settings(release).as_bytes()),
            ("etc/nsswitch.conf", NSSWITCH.as_bytes()),
            ("etc/passwd", PASSWD.as_bytes()),
            ("etc/ssl/certs/ca-certificates.crt", &authorities[..]),
        ] {
            let mut header = header(EntryType::Regular, 0o644);
            header.set_size(content.len() as u64);
            layer.append_data(&mut header, path, content)?;
        }
        layer.finish()
    }
}

/// Returns what Nix has to be told for this release's sake: what `/bin/sh` is in the sandbox, where it doesn't know.
fn settings(release: DebianRelease) -> &'static str {
    match release {
        // Built with /usr/bin/bash-static.
        DebianRelease::Trixie => "",
        DebianRelease::Bookworm => "extra-sandbox-paths = /bin/sh=/usr/bin/busybox\n",
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn link(layer: &mut Builder<&mut dyn Write>, path: &str, target: &str) -> io::Result<()> {
    layer.append_link(&mut header(EntryType::Symlink, 0o777), path, target)
}
