//! What a guest mounts beside its root, and its network interface.

use super::{DocumentError, Filesystem, SERIAL, Verity, count, is_serial, services::is_path, unique};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Something mounted in a root, `nosuid` and `nodev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the root, made if it isn't there; a symlink on its way stays inside the root.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MountSource {
    /// The ext4 file system on a disk.
    Volume {
        /// The disk's virtio serial.
        serial: String,
    },
    /// What the root has there, and over it what is written, which goes to the ext4 file system on a disk.
    Overlay {
        /// The disk's virtio serial.
        serial: String,
    },
    /// A directory of the host, by virtiofs.
    HostDirectory {
        /// The device's tag.
        tag: String,
    },
    /// Memory.
    Tmpfs {
        /// Most it may take, in MiB.
        size_mib: u32,
    },
    /// The image on a disk, verified as it is read, and read-only.
    Image {
        /// The disk's virtio serial.
        serial: String,
        /// What the image is.
        filesystem: Filesystem,
        /// How the image is verified.
        verity: Verity,
    },
}

/// The guest's network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name in the guest.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Where everything else goes; absent, nothing beyond its own link is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// The resolvers, for `/etc/resolv.conf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
    /// Names for `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostEntry>,
    /// The largest packet in bytes; absent for the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// An address with its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network's part.
    pub prefix: u8,
}

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// The address.
    pub address: IpAddr,
    /// The name.
    pub name: String,
}

pub(super) fn validate<'a>(
    document: &'a super::GuestDocument,
    serials: &mut BTreeSet<&'a str>,
) -> Result<(), DocumentError> {
    count("mounts", document.mounts.len(), 0, 64)?;
    count("secrets", document.secrets.len(), 0, 64)?;
    let mut targets = BTreeSet::new();
    for Mount { target, source, read_only } in &document.mounts {
        let error =
            |field, expected, got| DocumentError::Field { field, owner: target.clone(), expected, got };
        unique(&mut targets, "mounts", target)?;
        if !is_path(target) || target == "/" {
            return Err(error("target", "an absolute path below / without NUL", format!("{target:?}")));
        }
        if let MountSource::Volume { serial }
        | MountSource::Overlay { serial }
        | MountSource::Image { serial, .. } = source
        {
            if !is_serial(serial) {
                return Err(error("serial", SERIAL, format!("{serial:?}")));
            }
            unique(serials, "disks", serial)?;
        }
        match source {
            // 36 bytes are what the device's configuration has for it (virtio 1.2 section 5.11.4).
            MountSource::HostDirectory { tag } if tag.is_empty() || tag.len() > 36 || tag.contains('\0') => {
                return Err(error("tag", "1 to 36 bytes without NUL", format!("{tag:?}")));
            }
            MountSource::Tmpfs { size_mib: 0 } => {
                return Err(error("size", "at least 1 MiB", "0".to_owned()));
            }
            MountSource::Image { verity, .. } => {
                verity.validate(target)?;
                if !read_only {
                    return Err(error("image", "mounted read-only", "mounted to be written".to_owned()));
                }
            }
            MountSource::Overlay { .. } if *read_only => {
                return Err(error("overlay", "mounted to be written", "mounted read-only".to_owned()));
            }
            MountSource::Volume { .. }
            | MountSource::Overlay { .. }
            | MountSource::HostDirectory { .. }
            | MountSource::Tmpfs { .. } => {}
        }
    }
    let mut names = BTreeSet::new();
    for name in &document.secrets {
        unique(&mut names, "secrets", name)?;
        if name.is_empty() || name.len() > 63 || name.starts_with('.') || name.contains(['/', '\0']) {
            let expected = "a file name of 1 to 63 bytes that begins with no dot";
            let got = format!("{name:?}");
            return Err(DocumentError::Field { field: "secret", owner: name.clone(), expected, got });
        }
    }
    let Some(interface) = &document.interface else { return Ok(()) };
    let error = |field, expected, got| {
        let owner = interface.name.clone();
        Err(DocumentError::Field { field, owner, expected, got })
    };
    // IFNAMSIZ with its NUL.
    let plain = |b: u8| b.is_ascii_alphanumeric();
    if !(1..16).contains(&interface.name.len()) || !interface.name.bytes().all(plain) {
        return error("name", "1 to 15 letters and digits", format!("{:?}", interface.name));
    }
    count("addresses", interface.addresses.len(), 1, 16)?;
    count("gateways", interface.gateways.len(), 0, 2)?;
    count("resolvers", interface.resolvers.len(), 0, 8)?;
    count("hosts", interface.hosts.len(), 0, 4096)?;
    for Address { address, prefix } in &interface.addresses {
        if *prefix > if address.is_ipv4() { 32 } else { 128 } {
            return error("prefix", "at most the address's bits", prefix.to_string());
        }
    }
    if let Some(entry) = interface.hosts.iter().find(|entry| {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !(1..=253).contains(&entry.name.len()) || !entry.name.bytes().all(sound)
    }) {
        return error("hosts", "names of letters, digits, '-', '_' and '.'", format!("{:?}", entry.name));
    }
    match interface.mtu {
        Some(mtu) if !(576..=65_535).contains(&mtu) => error("mtu", "576 to 65535", mtu.to_string()),
        Some(_) | None => Ok(()),
    }
}
