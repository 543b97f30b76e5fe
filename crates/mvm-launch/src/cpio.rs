//! A deterministic writer of cpio archives in the "new ASCII" format that the Linux kernel unpacks into its initramfs.
//!
//! Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`, magic `070701`. Every entry
//! belongs to root, has time 0 and a sequential inode number, so equal input gives equal bytes.

#[cfg(test)]
mod tests;

/// Says why an entry cannot be put into an archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CpioError {
    /// The name is empty, absolute, has a `.`, `..` or empty component, or contains a NUL byte.
    #[error("{0:?} is not a relative path that an initramfs can hold")]
    Name(String),
    /// The file is larger than the format's 32-bit size field can say.
    #[error("{name:?} has {size} bytes, more than the 4 GiB that cpio can hold")]
    Size {
        /// The entry's name.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// An archive under construction.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// Length of an entry's header: a magic of 6 bytes and 13 fields of 8.
const HEADER: usize = 6 + 13 * 8;

/// Returns where the first archive ends in what is several, written one after the other by [`Archive`].
pub fn first_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let header = bytes.get(at..at.checked_add(HEADER)?)?;
        if !header.starts_with(b"070701") {
            return None;
        }
        let field = |index: usize| {
            let digits = std::str::from_utf8(&header[6 + index * 8..][..8]).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (size, name_size) = (field(6)?, field(11)?);
        let name_end = at.checked_add(HEADER)?.checked_add(name_size)?;
        let name = bytes.get(at + HEADER..name_end)?;
        at = name_end.checked_next_multiple_of(4)?.checked_add(size)?.checked_next_multiple_of(4)?;
        if name.strip_suffix(&[0]) == Some(TRAILER.as_bytes()) {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

impl Archive {
    /// Starts an empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; parents must have been added before.
    pub fn directory(&mut self, name: &str, permissions: u32) -> Result<(), CpioError> {
        self.entry(name, DIRECTORY | permissions, (0, 0), &[])
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> Result<(), CpioError> {
        self.entry(name, REGULAR | permissions, (0, 0), content)
    }

    /// Adds a character device node.
    pub fn character_device(
        &mut self,
        name: &str,
        permissions: u32,
        device: (u32, u32),
    ) -> Result<(), CpioError> {
        self.entry(name, CHARACTER | permissions, device, &[])
    }

    /// Ends the archive and returns its bytes, padded so that another archive may follow at once.
    pub fn finish(mut self) -> Vec<u8> {
        self.write(TRAILER, 0, 0, (0, 0), &[], 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<(), CpioError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if name.contains('\0') || !name.split('/').all(plain) {
            return Err(CpioError::Name(name.to_owned()));
        }
        let size = u32::try_from(content.len())
            .map_err(|_| CpioError::Size { name: name.to_owned(), size: content.len() as u64 })?;
        self.entries += 1;
        self.write(name, self.entries, mode, device, content, size);
        Ok(())
    }

    fn write(&mut self, name: &str, inode: u32, mode: u32, device: (u32, u32), content: &[u8], size: u32) {
        let name_size = name.len() as u32 + 1;
        // Order: inode, mode, uid, gid, links, mtime, size, device, represented device, name size, checksum.
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
