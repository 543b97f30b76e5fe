//! Writes the archive that holds an image: plain ustar, the same bytes for the same members.
//!
//! Source: POSIX.1-2017, `pax`, "ustar Interchange Format". Lengths from 8 GiB are written in base 256 as GNU tar does, which
//! all readers of images know.

use std::io::{self, Write};

const BLOCK: u64 = 512;
/// The first length that eleven octal digits can't say.
const OCTAL_END: u64 = 1 << 33;

/// An archive in the making. Members belong to root and have no time.
pub(crate) struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds a directory.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.out.write_all(&header(b'5', name, 0o755, 0))
    }

    /// Adds a file of exactly `size` bytes, which `fill` writes.
    pub fn file<E: From<io::Error>>(
        &mut self,
        name: &str,
        size: u64,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        self.out.write_all(&header(b'0', name, 0o644, size))?;
        let mut counted = Exactly { out: &mut self.out, left: size };
        fill(&mut counted)?;
        if counted.left > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let padding = size.next_multiple_of(BLOCK) - size;
        self.out.write_all(&[0; BLOCK as usize][..padding as usize])?;
        Ok(())
    }

    /// Adds the mark of the archive's end.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Takes so many bytes and no more.
struct Exactly<'w, W> {
    out: &'w mut W,
    left: u64,
}

impl<W: Write> Write for Exactly<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Makes a header; names are at most 100 bytes long, as all that are made here.
fn header(flag: u8, name: &str, mode: u32, size: u64) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    debug_assert!(name.len() <= 100, "{name}");
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < OCTAL_END {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[flag]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_reads_it() {
        let mut writer = TarWriter::new(Vec::new());
        writer.directory("blobs/").unwrap();
        for (name, bytes) in [("empty", &b""[..]), ("blobs/x", &[7; 513])] {
            let fill = |out: &mut dyn Write| out.write_all(bytes);
            writer.file::<io::Error>(name, bytes.len() as u64, fill).unwrap();
        }
        let archive = writer.finish().unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let members: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                let header = entry.header();
                let fields = (header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap());
                (entry.path().unwrap().display().to_string(), fields, bytes)
            })
            .collect();
        let expected = [
            ("blobs/".to_owned(), (0o755, 0, 0), vec![]),
            ("empty".to_owned(), (0o644, 0, 0), vec![]),
            ("blobs/x".to_owned(), (0o644, 0, 0), vec![7; 513]),
        ];
        assert_eq!(members, expected);
    }

    #[test]
    fn lengths_of_every_size_are_written() {
        for size in [0, 1, OCTAL_END - 1, OCTAL_END, 1 << 62] {
            let block = header(b'0', "x", 0o644, size);
            assert_eq!(tar::Header::from_byte_slice(&block).entry_size().unwrap(), size);
        }
    }

    #[test]
    fn a_member_has_the_length_that_was_said() {
        for (size, bytes) in [(3, &b"four"[..]), (5, b"four")] {
            let mut writer = TarWriter::new(Vec::new());
            assert!(writer.file::<io::Error>("x", size, |out| out.write_all(bytes)).is_err(), "{size}");
        }
    }
}
