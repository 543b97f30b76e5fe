//! dm-verity through the device-mapper's control device.
//!
//! Structures and numbers are those of `include/uapi/linux/dm-ioctl.h`, interface version 4; the target's
//! parameters those of the kernel's `Documentation/admin-guide/device-mapper/verity.rst`.
#![expect(unsafe_code, reason = "device-mapper is spoken to by ioctl only")]

use super::disks::Device;
use mvm_wire::Verity;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/mapper/control";
/// `sizeof(struct dm_ioctl)`.
const HEADER: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const TARGET: usize = 40;
const SECTOR: u64 = 512;
const GROUP: u8 = 0xfd;
const READ_ONLY: u32 = 1;

/// A device of device-mapper that can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DmError {
    #[error("opening {CONTROL} failed; does the kernel have device-mapper and dm-verity?")]
    Control(#[source] io::Error),
    #[error("{act} verity device {name:?} failed; does the kernel have dm-verity?")]
    Command {
        act: &'static str,
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("making device node {} failed", path.display())]
    Node {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes a read-only device that verifies what is read from `disk`, and a node for it at `node`.
///
/// `name` has fewer than 100 bytes, and no other device here has it.
pub(crate) fn open_verity(name: &str, disk: Device, verity: &Verity, node: &Path) -> Result<(), DmError> {
    let control = File::options().read(true).write(true).open(CONTROL).map_err(DmError::Control)?;
    let run = |act, command: Command| {
        command.run(&control).map_err(|source| DmError::Command { act, name: name.to_owned(), source })
    };
    let created = run("creating", Command::new(name, 3, 0))?;
    let sectors = verity.data_blocks * u64::from(verity.block_size) / SECTOR;
    run(
        "loading the table of",
        Command::new(name, 9, READ_ONLY).with_target(sectors, "verity", &parameters(disk, verity)),
    )?;
    // "Suspend" without the suspend flag resumes, which makes the loaded table live.
    run("starting", Command::new(name, 6, 0))?;

    let device = created.device();
    mknodat(CWD, node, FileType::BlockDevice, Mode::RUSR, makedev(device.major, device.minor))
        .map_err(|error| DmError::Node { path: node.to_owned(), source: error.into() })
}

/// Returns the parameters of a verity target: version, data device, hash device, block sizes, number of data
/// blocks, first block of the tree, algorithm, root hash, salt.
fn parameters(disk: Device, verity: &Verity) -> String {
    let Device { major, minor } = disk;
    let salt = if verity.salt.as_bytes().is_empty() { "-".to_owned() } else { verity.salt.to_string() };
    format!(
        "1 {major}:{minor} {major}:{minor} {size} {size} {blocks} {tree} {algorithm} {root} {salt}",
        size = verity.block_size,
        blocks = verity.data_blocks,
        tree = verity.hash_start_block + 1,
        algorithm = verity.algorithm.name(),
        root = verity.root_hash,
    )
}

/// A command and its reply: `struct dm_ioctl`, then the targets.
struct Command {
    number: u8,
    buffer: Vec<u8>,
}

impl Command {
    /// Makes a command on the device of a name.
    fn new(name: &str, number: u8, flags: u32) -> Self {
        let mut buffer = vec![0; HEADER];
        buffer[0..4].copy_from_slice(&4u32.to_ne_bytes());
        buffer[16..20].copy_from_slice(&(HEADER as u32).to_ne_bytes());
        buffer[28..32].copy_from_slice(&flags.to_ne_bytes());
        // 128 bytes, the last of which is NUL.
        let name = format!("mvm-{name}");
        let length = name.len().min(127);
        buffer[48..48 + length].copy_from_slice(&name.as_bytes()[..length]);
        Self { number, buffer }
    }

    fn with_target(mut self, sectors: u64, kind: &str, parameters: &str) -> Self {
        self.buffer[20..24].copy_from_slice(&1u32.to_ne_bytes());
        let mut target = [0; TARGET];
        target[8..16].copy_from_slice(&sectors.to_ne_bytes());
        target[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
        self.buffer.extend_from_slice(&target);
        self.buffer.extend_from_slice(parameters.as_bytes());
        self.buffer.push(0);
        self.buffer.resize(self.buffer.len().next_multiple_of(8), 0);
        self
    }

    fn run(mut self, control: &File) -> io::Result<Self> {
        let size = u32::try_from(self.buffer.len()).map_err(io::Error::other)?;
        self.buffer[12..16].copy_from_slice(&size.to_ne_bytes());
        // SAFETY: the kernel reads and writes at most the number of bytes that the buffer's field `data_size`
        // says, which is the buffer's length, and keeps no reference to it.
        unsafe { rustix::ioctl::ioctl(control, &mut self) }?;
        Ok(self)
    }

    /// Returns the device number in the reply, which is in the kernel's 64-bit encoding (`huge_encode_dev`).
    fn device(&self) -> Device {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.buffer[40..48]);
        let number = u64::from_ne_bytes(bytes);
        Device {
            major: ((number >> 8) & 0xfff) as u32,
            minor: ((number & 0xff) | ((number >> 12) & 0xfff_ff00)) as u32,
        }
    }
}

// SAFETY: the opcode is a device-mapper command, whose argument is a `struct dm_ioctl` with what follows it;
// the pointer is to a buffer that holds them and lives as long as the borrow. Nothing is read from the pointer.
unsafe impl Ioctl for &mut Command {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<[u8; HEADER]>(GROUP, self.number)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.buffer.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mvm_wire::Hex;
    use mvm_wire::document::HashAlgorithm;

    #[test]
    fn parameters_are_in_the_kernels_order() {
        let mut verity = Verity {
            root_hash: Hex::new([0xaa; 32]),
            salt: Hex::default(),
            data_blocks: 10,
            hash_start_block: 12,
            algorithm: HashAlgorithm::Sha256,
            block_size: 4096,
        };
        let disk = Device { major: 254, minor: 16 };
        let root = "aa".repeat(32);
        let expected = format!("1 254:16 254:16 4096 4096 10 13 sha256 {root}");
        assert_eq!(parameters(disk, &verity), format!("{expected} -"));
        verity.salt = Hex::new([1, 2]);
        assert_eq!(parameters(disk, &verity), format!("{expected} 0102"));
    }

    #[test]
    fn a_table_is_laid_out_as_the_kernel_reads_it() {
        let command = Command::new("root", 9, READ_ONLY).with_target(80, "verity", "1 a");
        assert_eq!(command.buffer.len(), HEADER + TARGET + 8);
        assert_eq!(command.buffer[HEADER + 8], 80);
        assert_eq!(&command.buffer[HEADER + 24..HEADER + 30], b"verity");
        assert_eq!(&command.buffer[HEADER + TARGET..], b"1 a\0\0\0\0\0");
    }

    #[test]
    fn device_numbers_are_decoded() {
        let mut command = Command::new("root", 3, 0);
        for (number, major, minor) in [(0xfe00u64, 254, 0), (0xfe10, 254, 16), (0x0010_fe01, 254, 0x101)] {
            command.buffer[40..48].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(command.device(), Device { major, minor });
        }
    }
}
