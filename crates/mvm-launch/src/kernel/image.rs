//! Kernel image files: the compressed form of the x86 boot protocol, and the ELF image inside it.
//!
//! Source: the kernel's `Documentation/arch/x86/boot.rst` (field offsets of the setup header).

use super::KernelFormat;
use super::elf::{Elf, ElfError};
use super::inflate::{Compression, InflateError};

/// The largest kernel image that is unpacked; distributions' have about 60 MiB.
const MAX_IMAGE: usize = 256 << 20;

/// The first protocol version whose header says where the payload is.
const PAYLOAD_VERSION: u16 = 0x0208;

/// Says why a file is not a kernel image that can be booted.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is neither ELF nor in the x86 boot protocol's format.
    #[error("not a kernel image: neither an ELF file nor an x86 bzImage")]
    Unknown,
    /// A field of the setup header points outside the file.
    #[error("kernel image is truncated: {field} ends at byte {end} of {size}")]
    Truncated {
        /// The field's name in the boot protocol.
        field: &'static str,
        /// Where it says that its object ends.
        end: u64,
        /// The file's size in bytes.
        size: usize,
    },
    /// The boot protocol is too old to say where the compressed kernel is.
    #[error("kernel image has boot protocol {version:#06x}; expected at least {PAYLOAD_VERSION:#06x}")]
    Protocol {
        /// The version found.
        version: u16,
    },
    /// The ELF image has no PVH entry point.
    #[error("kernel image has no PVH entry point (CONFIG_PVH)")]
    NoPvh,
    /// The payload cannot be unpacked.
    #[error("cannot unpack the kernel image")]
    Payload(#[from] InflateError),
    /// The ELF image is malformed.
    #[error("cannot read the kernel's ELF image")]
    Elf(#[from] ElfError),
}

/// A kernel image in the form in which it will be booted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BootImage {
    pub bytes: Vec<u8>,
    pub format: KernelFormat,
    pub load_end: u64,
}

/// Turns an image file into the form that boots fastest: the ELF image with its PVH entry where there is one
/// (unpacking it once here is unpacking it never again under emulation), else the file as it is.
///
/// An ELF image starts without the random base address that the kernel's own unpacker would choose.
pub(super) fn boot_image(file: Vec<u8>) -> Result<BootImage, ImageError> {
    if file.starts_with(b"\x7fELF") {
        return from_elf(file)?.ok_or(ImageError::NoPvh);
    }
    let header = SetupHeader::parse(&file)?;
    if let Some(compression) = Compression::of(header.payload) {
        // The build appends the unpacked size, which is no part of the stream.
        let stream = &header.payload[..header.payload.len().saturating_sub(4)];
        if let Some(image) = from_elf(compression.inflate(stream, MAX_IMAGE)?)? {
            return Ok(image);
        }
    }
    let load_end = header.load_end;
    Ok(BootImage { bytes: file, format: KernelFormat::Bzimage, load_end })
}

/// Returns nothing for an ELF image that only the kernel's own unpacker can start.
fn from_elf(bytes: Vec<u8>) -> Result<Option<BootImage>, ImageError> {
    let layout = Elf::new(&bytes)?.kernel_layout()?;
    Ok(layout.pvh.then_some(BootImage { bytes, format: KernelFormat::Elf, load_end: layout.load_end }))
}

struct SetupHeader<'a> {
    payload: &'a [u8],
    load_end: u64,
}

impl<'a> SetupHeader<'a> {
    fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        if file.get(0x202..0x206) != Some(b"HdrS") || file.len() < 0x268 {
            return Err(ImageError::Unknown);
        }
        let u32_at =
            |at: usize| u64::from(u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]));
        let version = u16::from_le_bytes([file[0x206], file[0x207]]);
        if version < PAYLOAD_VERSION {
            return Err(ImageError::Protocol { version });
        }
        // Zero setup sectors means four, for historical reasons; the boot sector comes before them.
        let setup_sectors = if file[0x1f1] == 0 { 4 } else { u64::from(file[0x1f1]) };
        let start = (setup_sectors + 1) * 512 + u32_at(0x248);
        let end = start + u32_at(0x24c);
        let payload = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let payload = payload.and_then(|(start, end)| file.get(start..end)).ok_or(ImageError::Truncated {
            field: "payload_length",
            end,
            size: file.len(),
        })?;
        let (preferred_address, init_size) = (u32_at(0x258) | u32_at(0x25c) << 32, u32_at(0x260));
        Ok(Self { payload, load_end: preferred_address.saturating_add(init_size) })
    }
}
