//! The parts of 64-bit little-endian ELF files that kernels and modules need reading.
//!
//! Source: System V ABI, "Object Files" (ELF-64). Every offset comes from the file and is checked against its length.

/// Notes and tables larger than this are refused; a kernel has a handful of program headers.
const MAX_ENTRIES: u16 = 4096;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const X86_64: u16 = 62;

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the entry point of a PVH boot (Xen's `public/elfnote.h`).
const PVH_ENTRY_NOTE: u32 = 18;

/// Says why bytes are not an ELF file that can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElfError {
    /// The file does not start as a 64-bit little-endian ELF file for x86-64.
    #[error("not a 64-bit x86 ELF file")]
    Header,
    /// A table or section lies outside the file.
    #[error("ELF {part} at byte {offset} lies outside the file of {size} bytes")]
    OutOfBounds {
        /// What was looked for.
        part: &'static str,
        /// Where it should be.
        offset: u64,
        /// The file's size in bytes.
        size: usize,
    },
    /// A table has more entries than is sensible.
    #[error("ELF {part} has {count} entries; expected at most {MAX_ENTRIES}")]
    TooMany {
        /// Which table.
        part: &'static str,
        /// How many entries it claims.
        count: u16,
    },
}

/// An ELF file's bytes, with a checked header.
#[derive(Clone, Copy)]
pub(super) struct Elf<'a>(&'a [u8]);

/// What booting a kernel image needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelLayout {
    /// The end of the highest loaded segment, as a physical address.
    pub load_end: u64,
    /// Whether there is a PVH entry point.
    pub pvh: bool,
}

impl<'a> Elf<'a> {
    /// Wraps `bytes` after checking the file header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ElfError> {
        let ident = bytes.starts_with(b"\x7fELF\x02\x01");
        let elf = Self(bytes);
        if ident && bytes.len() >= 64 && elf.u16(18, "header")? == X86_64 {
            Ok(elf)
        } else {
            Err(ElfError::Header)
        }
    }

    /// Reads the segments of a kernel image.
    pub fn kernel_layout(self) -> Result<KernelLayout, ElfError> {
        let (table, count) = (self.u64(32, "header")?, self.u16(56, "header")?);
        let mut layout = KernelLayout { load_end: 0, pvh: false };
        for header in self.table("program header", table, u64::from(self.u16(54, "header")?), count)? {
            match self.u32(header, "program header")? {
                PT_LOAD => {
                    let start = self.u64(header + 24, "program header")?;
                    let size = self.u64(header + 40, "program header")?;
                    layout.load_end = layout.load_end.max(start.saturating_add(size));
                }
                PT_NOTE => {
                    let offset = self.u64(header + 8, "program header")?;
                    let size = self.u64(header + 32, "program header")?;
                    layout.pvh |= has_pvh_note(self.slice("note", offset, size)?);
                }
                _ => {}
            }
        }
        Ok(layout)
    }

    /// Returns the bytes of the first section called `name`.
    pub fn section(self, name: &str) -> Result<Option<&'a [u8]>, ElfError> {
        let part = "section header";
        let (table, count) = (self.u64(40, "header")?, self.u16(60, "header")?);
        let headers = self.table(part, table, u64::from(self.u16(58, "header")?), count)?;
        let Some(names) = headers.get(usize::from(self.u16(62, "header")?)) else { return Ok(None) };
        let names = self.slice("section names", self.u64(names + 24, part)?, self.u64(names + 32, part)?)?;
        for header in headers {
            let start = self.u32(header, part)? as usize;
            let found = names.get(start..).and_then(|rest| rest.split(|byte| *byte == 0).next());
            if found == Some(name.as_bytes()) {
                return self
                    .slice("section", self.u64(header + 24, part)?, self.u64(header + 32, part)?)
                    .map(Some);
            }
        }
        Ok(None)
    }

    /// Returns the offset of each entry of a table, which is within the file, so that fields can be added to it.
    fn table(self, part: &'static str, start: u64, size: u64, count: u16) -> Result<Vec<u64>, ElfError> {
        if count > MAX_ENTRIES {
            return Err(ElfError::TooMany { part, count });
        }
        let out = ElfError::OutOfBounds { part, offset: start, size: self.0.len() };
        let offset = |index: u64| start.checked_add(index.checked_mul(size)?);
        let within = |offset: &u64| *offset < self.0.len() as u64;
        let offsets = (0..u64::from(count)).map(|index| offset(index).filter(within));
        offsets.collect::<Option<Vec<u64>>>().ok_or(out)
    }

    fn slice(self, part: &'static str, offset: u64, size: u64) -> Result<&'a [u8], ElfError> {
        let range = || {
            let start = usize::try_from(offset).ok()?;
            self.0.get(start..start.checked_add(usize::try_from(size).ok()?)?)
        };
        range().ok_or(ElfError::OutOfBounds { part, offset, size: self.0.len() })
    }

    fn bytes<const N: usize>(self, offset: u64, part: &'static str) -> Result<[u8; N], ElfError> {
        let mut value = [0; N];
        value.copy_from_slice(self.slice(part, offset, N as u64)?);
        Ok(value)
    }

    fn u16(self, offset: u64, part: &'static str) -> Result<u16, ElfError> {
        self.bytes(offset, part).map(u16::from_le_bytes)
    }

    fn u32(self, offset: u64, part: &'static str) -> Result<u32, ElfError> {
        self.bytes(offset, part).map(u32::from_le_bytes)
    }

    fn u64(self, offset: u64, part: &'static str) -> Result<u64, ElfError> {
        self.bytes(offset, part).map(u64::from_le_bytes)
    }
}

/// Walks notes (name size, description size, type, then both texts padded to 4 bytes).
fn has_pvh_note(mut notes: &[u8]) -> bool {
    while let Some((header, rest)) = notes.split_first_chunk::<12>() {
        let field =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (name_size, description_size) = (field(0) as usize, field(4) as usize);
        if field(8) == PVH_ENTRY_NOTE && rest.get(..name_size) == Some(b"Xen\0") {
            return true;
        }
        let padded = name_size.next_multiple_of(4).checked_add(description_size.next_multiple_of(4));
        let Some(next) = padded.and_then(|size| rest.get(size..)) else { return false };
        notes = next;
    }
    false
}
