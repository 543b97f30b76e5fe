//! Segments and images in files, for [`erofs::assemble`](crate::erofs::assemble).

use crate::BLOCK;
use crate::erofs::{ImageOutput, Segments};
use crate::verity::DIGEST_LEN;
use mvm_tree::Tail;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are copied at a time where the kernel can't copy.
const COPY_BUFFER: usize = 1 << 20;

/// Bytes of tails that are read ahead where they are asked for in order.
const WINDOW: usize = 64 << 10;

/// How far tails that follow each other may be apart and still count as in order.
const NEAR: u64 = 16 << 10;

/// The files of one segment that assembling reads besides its data.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFiles<'f> {
    /// Last bytes of files.
    pub tails: &'f File,
    /// Digests of the blocks.
    pub leaves: &'f File,
}

/// Segments in files; the position in the list is the segment's number.
#[derive(Debug)]
pub struct FileSegments<'f> {
    files: Vec<SegmentFiles<'f>>,
    window: Window,
}

/// A part of one segment's tails, and where the last one that was asked for ended.
#[derive(Debug, Default)]
struct Window {
    segment: u32,
    offset: u64,
    bytes: Vec<u8>,
    last_end: u64,
}

impl<'f> FileSegments<'f> {
    /// Takes the files of all segments, lowest layer first.
    pub fn new(files: Vec<SegmentFiles<'f>>) -> Self {
        Self { files, window: Window::default() }
    }
}

impl Segments for FileSegments<'_> {
    fn tail(&mut self, segment: u32, tail: Tail, into: &mut Vec<u8>) -> io::Result<()> {
        let file = of(&self.files, segment)?.tails;
        let len = usize::from(tail.len);
        let in_order = self.window.follows(segment, tail);
        if let Some(bytes) = self.window.get(segment, tail.offset, len) {
            into.extend_from_slice(bytes);
            return Ok(());
        }
        if in_order {
            self.window.fill(file, tail.offset)?;
            let bytes = self.window.get(segment, tail.offset, len).ok_or(io::ErrorKind::UnexpectedEof)?;
            into.extend_from_slice(bytes);
            return Ok(());
        }
        let start = into.len();
        into.resize(start + len, 0);
        file.read_exact_at(&mut into[start..], tail.offset)
    }

    fn leaves(&mut self, segment: u32, first: u64, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let file = of(&self.files, segment)?.leaves;
        let start = into.len();
        into.resize(start + count as usize * DIGEST_LEN, 0);
        file.read_exact_at(&mut into[start..], first * DIGEST_LEN as u64)
    }
}

impl Window {
    fn get(&self, segment: u32, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(len)?);
        bytes.filter(|_| segment == self.segment)
    }

    /// Tells whether a tail comes soon after the last one, and makes it the last one.
    fn follows(&mut self, segment: u32, tail: Tail) -> bool {
        if segment != self.segment {
            self.segment = segment;
            self.bytes.clear();
        }
        let follows = tail.offset.checked_sub(self.last_end).is_some_and(|apart| apart < NEAR);
        self.last_end = tail.offset.saturating_add(u64::from(tail.len));
        follows
    }

    /// Reads ahead from `offset`.
    fn fill(&mut self, file: &File, offset: u64) -> io::Result<()> {
        self.offset = offset;
        self.bytes.resize(WINDOW, 0);
        let mut filled = 0;
        while filled < WINDOW {
            match file.read_at(&mut self.bytes[filled..], self.offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

/// An image file being made, and the data of its segments; the position in the list is the segment's number.
#[derive(Debug)]
pub struct FileOutput<'f> {
    image: &'f File,
    data: Vec<&'f File>,
    data_start: u64,
    adopted: Option<u32>,
}

impl<'f> FileOutput<'f> {
    /// Takes an empty image file, open for writing, and the data files of all segments, lowest layer first, whose
    /// first blocks are at `data_start` bytes.
    pub fn new(image: &'f File, data: Vec<&'f File>, data_start: u64) -> Self {
        Self { image, data, data_start, adopted: None }
    }

    /// Says that the image file is the data file of this segment, with all its blocks where they belong:
    /// [`erofs::begins_with`](crate::erofs::begins_with) says for which segment that is so.
    pub fn adopt(mut self, segment: u32) -> Self {
        self.adopted = Some(segment);
        self
    }
}

impl ImageOutput for FileOutput<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.image.write_all_at(bytes, offset)
    }

    fn copy_blocks(
        &mut self,
        segment: u32,
        segment_block: u64,
        count: u64,
        image_block: u64,
    ) -> io::Result<()> {
        let [from, to, len] =
            [segment_block, image_block, count].map(|blocks| blocks.checked_mul(BLOCK as u64));
        let from = from.and_then(|from| from.checked_add(self.data_start));
        let (Some(from), Some(to), Some(len)) = (from, to, len) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if self.adopted == Some(segment) {
            // Moving blocks within the file would destroy what is still to be read.
            return if from == to { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) };
        }
        copy_range(of(&self.data, segment)?, from, self.image, to, len)
    }
}

fn of<T>(files: &[T], segment: u32) -> io::Result<&T> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no segment with number {segment}"));
    files.get(segment as usize).ok_or_else(missing)
}

/// Copies bytes between files inside the kernel, sharing blocks where the file system can; through memory where
/// the kernel refuses. Fails with [`io::ErrorKind::UnexpectedEof`] where `from` ends before.
pub fn copy_range(
    from: &File,
    mut from_offset: u64,
    to: &File,
    mut to_offset: u64,
    len: u64,
) -> io::Result<()> {
    let mut left = len;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), now) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            // The kernel has moved both offsets.
            Ok(count) => left -= count as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) if can_copy_otherwise(error) => {
                return copy_through_memory(from, from_offset, to, to_offset, left);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Tells whether an error of the in-kernel copy says that it isn't possible here, and not that copying failed.
fn can_copy_otherwise(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::XDEV, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::PERM].contains(&error)
}

fn copy_through_memory(
    from: &File,
    mut from_offset: u64,
    to: &File,
    mut to_offset: u64,
    mut left: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER.min(usize::try_from(left).unwrap_or(COPY_BUFFER))];
    while left > 0 {
        let now = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        from.read_exact_at(&mut buffer[..now], from_offset)?;
        to.write_all_at(&buffer[..now], to_offset)?;
        from_offset += now as u64;
        to_offset += now as u64;
        left -= now as u64;
    }
    Ok(())
}
