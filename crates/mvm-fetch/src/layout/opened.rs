//! An archive as a file that can be read at any place, whatever it came as.
//!
//! A compressed archive, or one that comes through a pipe, is first written to a file without a name, as a tar file.

use super::{LayoutError, open_regular};
use crate::CancelToken;
use crate::inflate::{Decoder, ExpansionLimit};
use mvm_ref::LayerCompression;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PIECE: usize = 256 << 10;
const MAGICS: [(&[u8], Packing); 4] = [
    (&[0x1f, 0x8b], Packing::Known(LayerCompression::Gzip)),
    (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Known(LayerCompression::Zstd)),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Unknown("xz")),
    (b"BZh", Packing::Unknown("bzip2")),
];

/// How bytes are compressed, as their beginning tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// In a way that mvm reads, or not at all.
    Known(LayerCompression),
    /// In a way that mvm doesn't read.
    Unknown(&'static str),
}

impl Packing {
    /// Length of the longest beginning that tells.
    pub(crate) const BEGINNING: usize = 6;

    pub(crate) fn of(beginning: &[u8]) -> Self {
        let found = MAGICS.iter().find(|(magic, _)| beginning.starts_with(magic));
        found.map_or(Self::Known(LayerCompression::None), |(_, packing)| *packing)
    }
}

/// Where archives are unpacked to, and how large they may become.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    pub(crate) directory: PathBuf,
    pub(crate) limit: u64,
    pub(crate) cancel: CancelToken,
}

/// An uncompressed archive.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) length: u64,
}

impl ArchiveFile {
    /// Opens a file.
    pub(crate) fn open(path: &Path, spool: &Spool) -> Result<Self, LayoutError> {
        let (file, length) = open_regular(path, true)?;
        let failed = |source| LayoutError::Read { path: path.to_owned(), source };
        let mut beginning = [0; Packing::BEGINNING];
        let got = file.read_at(&mut beginning, 0).map_err(failed)?;
        if Packing::of(&beginning[..got]) == Packing::Known(LayerCompression::None) {
            return Ok(Self { path: path.to_owned(), file: Arc::new(file), length });
        }
        Self::spool(path, file, spool)
    }

    /// Writes what a stream has to a file; `path` is what errors call it.
    pub(crate) fn spool(path: &Path, mut input: impl Read, spool: &Spool) -> Result<Self, LayoutError> {
        let failed = |source| LayoutError::Read { path: path.to_owned(), source };
        let mut piece = vec![0; PIECE];
        let mut beginning = 0;
        while beginning < Packing::BEGINNING {
            match read(&mut input, &mut piece[beginning..]).map_err(failed)? {
                0 => break,
                length => beginning += length,
            }
        }
        let compression = match Packing::of(&piece[..beginning]) {
            Packing::Known(compression) => compression,
            Packing::Unknown(compression) => {
                return Err(LayoutError::Compressed { path: path.to_owned(), compression });
            }
        };
        let corrupt = |source| LayoutError::Inflate { path: path.to_owned(), source };
        let mut decoder = Decoder::new(compression, ExpansionLimit::default());
        let mut spooled = Spooled::new(path, spool)?;
        let mut output = vec![0; PIECE];
        let mut length = beginning;
        while length > 0 {
            let mut rest = &piece[..length];
            loop {
                let made = decoder.run(&mut rest, &mut output).map_err(corrupt)?;
                spooled.write(&output[..made])?;
                if made < output.len() {
                    break;
                }
            }
            length = read(&mut input, &mut piece).map_err(failed)?;
        }
        decoder.finish().map_err(corrupt)?;
        Ok(Self { path: path.to_owned(), file: Arc::new(spooled.file), length: spooled.length })
    }
}

fn read(input: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A file without a name that is being written.
struct Spooled<'a> {
    path: &'a Path,
    spool: &'a Spool,
    file: File,
    length: u64,
}

impl<'a> Spooled<'a> {
    fn new(path: &'a Path, spool: &'a Spool) -> Result<Self, LayoutError> {
        let file = unnamed(&spool.directory)
            .map_err(|source| LayoutError::Spool { directory: spool.directory.clone(), source })?;
        Ok(Self { path, spool, file, length: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        if self.spool.cancel.is_cancelled() {
            return Err(LayoutError::Cancelled);
        }
        self.length += bytes.len() as u64;
        let limit = self.spool.limit;
        if self.length > limit {
            return Err(LayoutError::SpoolLimit { path: self.path.to_owned(), limit });
        }
        let directory = || self.spool.directory.clone();
        self.file.write_all(bytes).map_err(|source| LayoutError::Spool { directory: directory(), source })
    }
}

/// Makes a file that nobody else can open and that is gone with whoever holds it.
fn unnamed(directory: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // Not every file system has such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    for attempt in 0_u32.. {
        let path = directory.join(format!("archive-{}-{attempt}", std::process::id()));
        match rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file.into());
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}
