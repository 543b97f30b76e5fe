//! The guest document: what a guest mounts and what it can run.
//!
//! It is a pure function of the plan, travels as `/mvm/guest.json` in a cpio archive appended to the initramfs,
//! and is not secret.

pub mod mounts;
pub mod services;

use crate::hex::Hex;
use mounts::{Interface, Mount};
use serde::{Deserialize, Serialize};
use services::{Group, HealthCheck, Service, User};
use std::collections::BTreeSet;

/// Largest document in bytes.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// What a guest mounts and what it can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestDocument {
    /// The document's generation.
    pub schema: Schema,
    /// The guest's host name.
    pub hostname: String,
    /// The roots that processes run in; today one.
    pub roots: Vec<Root>,
    /// The processes that are started by request; the first is the main one, whose end ends the machine. None where
    /// there are only services.
    pub processes: Vec<Process>,
    /// What is kept running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// How the guest tells whether it is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// Users that the roots get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The group that services and the main process are in and that may read secrets; absent where there are neither
    /// services nor secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_group: Option<Group>,
    /// The program that loads the registration of the first root's store paths into the database of Nix, before anything is
    /// started; absent where no store is written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable_store: Option<String>,
    /// What is mounted in the first root, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The names of the files that [`crate::Request::Secret`] brings, all before anything is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The network interface; absent, there is the loopback only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// The generation of a guest document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// The first.
    #[serde(rename = "mvm.guest.v1")]
    V1,
}

/// A read-only image under a writable layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// What processes call it.
    pub name: String,
    /// The virtio serial of the disk that holds the image.
    pub disk: String,
    /// What the image is.
    pub filesystem: Filesystem,
    /// How the image is verified.
    pub verity: Verity,
    /// Where writes go.
    pub overlay: Overlay,
}

/// The file system of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// EROFS.
    Erofs,
    /// Squashfs 4.0.
    Squashfs,
    /// Ext4.
    Ext4,
}

impl Filesystem {
    /// Returns the kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::Ext4 => "ext4",
        }
    }
}

/// The dm-verity parameters of an image whose hash tree is on the same disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verity {
    /// The hash of the tree's root, 32 bytes.
    pub root_hash: Hex,
    /// The salt, up to 256 bytes.
    pub salt: Hex,
    /// Blocks of data, from the disk's start.
    pub data_blocks: u64,
    /// The block of the verity superblock; the tree starts at the next one.
    pub hash_start_block: u64,
    /// The hash function.
    pub algorithm: HashAlgorithm,
    /// Bytes in a block, of data as of hashes: 4096.
    pub block_size: u32,
}

/// A hash function of dm-verity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
}

impl HashAlgorithm {
    /// Returns the kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
        }
    }
}

/// Where writes to a root go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Overlay {
    /// To an ext4 file system on a disk of its own.
    Disk {
        /// The disk's virtio serial.
        serial: String,
    },
    /// To memory.
    Tmpfs {
        /// Most it may take, in MiB.
        size_mib: u32,
    },
    /// Nowhere: the root is read-only, but for `/run` and `/tmp`, which are memory.
    None {},
}

/// What to run, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// What requests call it.
    pub name: String,
    /// The root that it runs in.
    pub root: String,
    /// The program and its arguments; the program is looked up in `PATH` when it has no slash.
    pub argv: Vec<String>,
    /// `NAME=value`; of equal names the last counts.
    pub env: Vec<String>,
    /// Absolute; made if it isn't there. Empty stands for `/`.
    pub working_dir: String,
    /// Empty (root), `user`, `uid`, `user:group`, `uid:gid` or a mix; names are looked up in the root.
    pub user: String,
    /// The signal that asks it to end, 1 to 64.
    pub stop_signal: i32,
    /// Whether it runs on a terminal.
    pub terminal: bool,
}

/// A document or a part of one that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The document is too large.
    #[error("guest document has {got} bytes, {MAX_DOCUMENT} are allowed")]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// It is no JSON, or has unknown or missing fields.
    #[error("parsing the guest document failed")]
    Parse(#[source] serde_json::Error),
    /// A list has too few or too many entries.
    #[error("guest document has {got} {what}, expected {min} to {max}")]
    Count {
        /// What the list holds.
        what: &'static str,
        /// Fewest allowed.
        min: usize,
        /// Most allowed.
        max: usize,
        /// How many there are.
        got: usize,
    },
    /// A name is used twice.
    #[error("guest document has two {what} {name:?}")]
    Duplicate {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A process names a root that isn't there.
    #[error("process {process:?} names root {root:?}, which is not in the guest document")]
    NoSuchRoot {
        /// The process.
        process: String,
        /// The root.
        root: String,
    },
    /// A field's value can't be used.
    #[error("{field} of {owner:?} is {got}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// The name of what has the field.
        owner: String,
        /// What is allowed.
        expected: &'static str,
        /// The value.
        got: String,
    },
}

impl GuestDocument {
    /// Parses and validates a document.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLarge { got: bytes.len() });
        }
        let document: Self = serde_json::from_slice(bytes).map_err(DocumentError::Parse)?;
        document.validate()?;
        Ok(document)
    }

    /// Validates the document and returns its bytes, the same for equal documents.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        self.validate()?;
        let bytes = serde_json::to_vec(self).map_err(DocumentError::Parse)?;
        if bytes.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLarge { got: bytes.len() });
        }
        Ok(bytes)
    }

    /// Checks everything that the types don't say.
    pub fn validate(&self) -> Result<(), DocumentError> {
        check_hostname(&self.hostname)?;
        count("roots", self.roots.len(), 1, 16)?;
        count("processes", self.processes.len(), usize::from(self.services.is_empty()), 64)?;
        let mut names = BTreeSet::new();
        let mut serials = BTreeSet::new();
        for root in &self.roots {
            root.validate()?;
            unique(&mut names, "roots", &root.name)?;
            unique(&mut serials, "disks", &root.disk)?;
            if let Overlay::Disk { serial } = &root.overlay {
                unique(&mut serials, "disks", serial)?;
            }
        }
        let mut processes = BTreeSet::new();
        for process in &self.processes {
            self.check_process(process)?;
            unique(&mut processes, "processes", &process.name)?;
        }
        if let Some(program) = self.writable_store.as_ref().filter(|program| !services::is_path(program)) {
            let (field, owner) = ("writable store", "guest document".to_owned());
            let (expected, got) = ("an absolute path without NUL", format!("{program:?}"));
            return Err(DocumentError::Field { field, owner, expected, got });
        }
        mounts::validate(self, &mut serials)?;
        services::validate(self)
    }

    fn check_process(&self, process: &Process) -> Result<(), DocumentError> {
        process.validate()?;
        if self.roots.iter().all(|root| root.name != process.root) {
            let (process, root) = (process.name.clone(), process.root.clone());
            return Err(DocumentError::NoSuchRoot { process, root });
        }
        Ok(())
    }
}

impl Root {
    fn validate(&self) -> Result<(), DocumentError> {
        let field = |field, expected, got: String| {
            Err(DocumentError::Field { field, owner: self.name.clone(), expected, got })
        };
        check_name("name", &self.name)?;
        if !is_serial(&self.disk) {
            return field("disk", SERIAL, format!("{:?}", self.disk));
        }
        match &self.overlay {
            Overlay::Disk { serial } if !is_serial(serial) => {
                return field("overlay serial", SERIAL, format!("{serial:?}"));
            }
            Overlay::Tmpfs { size_mib: 0 } => return field("overlay size", "at least 1 MiB", "0".into()),
            Overlay::Disk { .. } | Overlay::Tmpfs { .. } | Overlay::None {} => {}
        }
        self.verity.validate(&self.name)
    }
}

impl Verity {
    /// Checks everything that the types don't say; `owner` is what it is of.
    fn validate(&self, owner: &str) -> Result<(), DocumentError> {
        let field = |field, expected, got: String| {
            Err(DocumentError::Field { field, owner: owner.to_owned(), expected, got })
        };
        if self.root_hash.as_bytes().len() != 32 {
            return field("root hash", "32 bytes", self.root_hash.to_string());
        }
        if self.salt.as_bytes().len() > 256 {
            return field("salt", "at most 256 bytes", self.salt.to_string());
        }
        if self.block_size != 4096 {
            return field("block size", "4096", self.block_size.to_string());
        }
        // 2^51 blocks are 2^63 bytes, the most that a file offset can name.
        if self.data_blocks == 0 || self.data_blocks >= 1 << 51 {
            return field("data blocks", "1 to 2^51 - 1", self.data_blocks.to_string());
        }
        if self.hash_start_block < self.data_blocks || self.hash_start_block >= 1 << 51 {
            return field("hash start block", "a block behind the data", self.hash_start_block.to_string());
        }
        Ok(())
    }
}

impl Process {
    /// Checks everything that the types don't say, except that the root exists.
    pub fn validate(&self) -> Result<(), DocumentError> {
        let field = |field, expected, got: String| {
            Err(DocumentError::Field { field, owner: self.name.clone(), expected, got })
        };
        check_name("name", &self.name)?;
        if self.argv.first().is_none_or(String::is_empty) {
            return field("argv", "a program", format!("{:?}", self.argv.first()));
        }
        if let Some(argument) = self.argv.iter().find(|argument| argument.contains('\0')) {
            return field("argv", "text without NUL", format!("{argument:?}"));
        }
        for entry in &self.env {
            if entry.contains('\0') || entry.find('=').is_none_or(|at| at == 0) {
                return field("env", "NAME=value without NUL", format!("{entry:?}"));
            }
        }
        let dir = &self.working_dir;
        if dir.contains('\0') || !(dir.is_empty() || dir.starts_with('/')) {
            return field("working directory", "an absolute path without NUL", format!("{dir:?}"));
        }
        if self.user.contains('\0') {
            return field("user", "text without NUL", format!("{:?}", self.user));
        }
        if !(1..=64).contains(&self.stop_signal) {
            return field("stop signal", "1 to 64", self.stop_signal.to_string());
        }
        Ok(())
    }
}

const SERIAL: &str = "1 to 20 letters, digits, '-', '_' or '.'";

/// Returns whether a virtio block device can carry the serial (20 bytes, virtio 1.2 section 5.2.6.1) and a
/// command line can name it.
fn is_serial(serial: &str) -> bool {
    (1..=20).contains(&serial.len())
        && serial.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn check_name(field: &'static str, name: &str) -> Result<(), DocumentError> {
    let sound = (1..=128).contains(&name.len()) && !name.contains(char::is_control);
    if sound {
        return Ok(());
    }
    let expected = "1 to 128 bytes of printable text";
    Err(DocumentError::Field { field, owner: name.to_owned(), expected, got: format!("{name:?}") })
}

/// A host name as RFC 1123 section 2.1 has it, within the kernel's 64 bytes.
fn check_hostname(hostname: &str) -> Result<(), DocumentError> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if hostname.len() <= 63 && hostname.split('.').all(label) {
        return Ok(());
    }
    let expected = "labels of letters, digits and inner '-' joined by '.', 63 bytes at most";
    let got = format!("{hostname:?}");
    Err(DocumentError::Field { field: "hostname", owner: "guest document".into(), expected, got })
}

fn count(what: &'static str, got: usize, min: usize, max: usize) -> Result<(), DocumentError> {
    if (min..=max).contains(&got) { Ok(()) } else { Err(DocumentError::Count { what, min, max, got }) }
}

fn unique<'a>(seen: &mut BTreeSet<&'a str>, what: &'static str, name: &'a str) -> Result<(), DocumentError> {
    if seen.insert(name) { Ok(()) } else { Err(DocumentError::Duplicate { what, name: name.to_owned() }) }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
