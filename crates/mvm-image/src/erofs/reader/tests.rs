use super::*;
use crate::BLOCK;
use crate::erofs::format::{
    CHUNKED, EXTENDED_LEN, ExtendedInode, FLAT_INLINE, FLAT_PLAIN, NULL_ADDRESS, mode,
};

const BLOCKS: usize = 8;
const META: usize = 4;

/// An image under construction: 8 blocks, inodes from block 4, nothing but a root directory.
struct Image(Vec<u8>);

impl Image {
    fn new() -> Self {
        let mut image = Self(vec![0; BLOCKS * BLOCK]);
        image.superblock(|_| ());
        image.inode(1, root(27), &directory(&[(b".", 1), (b"..", 1)]));
        image
    }

    fn superblock(&mut self, edit: impl FnOnce(&mut Superblock)) {
        let mut superblock = Superblock {
            incompatible: INCOMPAT_CHUNKED,
            root_nid: 1,
            inodes: 1,
            blocks: BLOCKS as u32,
            meta_block: META as u32,
            xattr_block: 2,
        };
        edit(&mut superblock);
        self.0[..BLOCK].copy_from_slice(&superblock.encode());
    }

    fn inode(&mut self, nid: usize, inode: ExtendedInode, body: &[u8]) {
        let at = META * BLOCK + nid * 32;
        self.0[at..at + EXTENDED_LEN].copy_from_slice(&inode.encode());
        self.0[at + EXTENDED_LEN..at + EXTENDED_LEN + body.len()].copy_from_slice(body);
    }

    fn error(&self) -> String {
        let walk = || {
            for entry in Reader::open(&self.0)?.walk() {
                let (path, _) = entry?;
                Reader::open(&self.0)?.lookup(&path)?;
            }
            Ok::<_, ReadError>(())
        };
        walk().unwrap_err().to_string()
    }
}

fn root(size: u64) -> ExtendedInode {
    ExtendedInode {
        layout: FLAT_INLINE,
        xattr_count: 0,
        mode: mode::DIRECTORY | 0o755,
        size,
        place: NULL_ADDRESS,
        number: 1,
        uid: 0,
        gid: 0,
        mtime: 0,
        mtime_nanos: 0,
        links: 2,
    }
}

fn directory(entries: &[(&[u8], u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut name = entries.len() * 12;
    for (text, nid) in entries {
        bytes.extend_from_slice(&nid.to_le_bytes());
        bytes.extend_from_slice(&(name as u16).to_le_bytes());
        bytes.extend_from_slice(&[if text.starts_with(b"f") { 1 } else { 2 }, 0]);
        name += text.len();
    }
    entries.iter().for_each(|(text, _)| bytes.extend_from_slice(text));
    bytes
}

#[test]
fn a_minimal_image_is_walked() {
    let image = Image::new();
    let reader = Reader::open(&image.0).unwrap();
    let paths: Vec<_> = reader.walk().map(|entry| entry.unwrap().0).collect();
    assert_eq!(paths, [b""]);
    assert_eq!(reader.lookup(b"a/b").unwrap(), None);
    assert_eq!(reader.read_file(b"x", 10).unwrap(), None);
    let error = reader.read_file(b"", 10).unwrap_err();
    assert_eq!(error.to_string(), "\"\" is not a regular file");
}

#[test]
fn superblocks_are_checked() {
    type Edit = fn(&mut Vec<u8>);
    let cases: [(Edit, &str); 6] = [
        (|image| image.truncate(100), "cannot read the image at byte 0"),
        (|image| image[1024] ^= 1, "not an EROFS image: the magic number is 0xe0f5e1e3"),
        (|image| image[1100] ^= 1, "the superblock has checksum "),
        (|image| image[0] ^= 1, "the superblock differs from those of this image format at byte 0"),
        (|image| image.truncate(5 * BLOCK), "the image has 20480 bytes, its superblock says 32768"),
        (
            |image| {
                image[1024 + 80] |= 8;
                image[1028..1032].fill(0);
                let sum = checksum(image.first_chunk().unwrap());
                image[1028..1032].copy_from_slice(&sum.to_le_bytes());
            },
            "the superblock differs from those of this image format at byte 1104",
        ),
    ];
    for (edit, message) in cases {
        let mut image = Image::new();
        edit(&mut image.0);
        let got = image.error();
        assert!(got.starts_with(message), "{got}");
    }
}

#[test]
fn directories_are_checked() {
    let fault = |what: &str| format!("directory inode 1 is malformed in block 0 ({what})");
    type Entries<'a> = &'a [(&'a [u8], u64)];
    let cases: [(Entries<'_>, String); 9] = [
        (&[(b".", 1)], fault("there is no `.` or no `..`")),
        (&[(b".", 1), (b"..", 2)], fault("`.` or `..` is another directory")),
        (&[(b"..", 1), (b".", 1)], fault("names are not in order")),
        (&[(b".", 1), (b"..", 1), (b"a", 9), (b"a", 9)], fault("names are not in order")),
        (&[(b".", 1), (b"..", 1), (b"a/b", 9)], fault("a name is no file name")),
        (&[(b".", 1), (b"..", 1), (b"a\0b", 9)], fault("bytes follow the last name")),
        (&[(b".", 1), (b"..", 1), (b"", 9)], fault("a name is no file name")),
        (&[(b".", 1), (b"..", 1), (b"loop", 1)], "directory inode 1 is found twice, the second time as \"loop\"".into()),
        (
            &[(b".", 1), (b"..", 1), (b"d", u64::MAX)],
            "inode 18446744073709551615 refers to 64 bytes at byte 18446744073709551615, outside of the image".into(),
        ),
    ];
    for (entries, message) in cases {
        let mut image = Image::new();
        let bytes = directory(entries);
        image.inode(1, root(bytes.len() as u64), &bytes);
        assert_eq!(image.error(), message, "{entries:?}");
    }
    let mut image = Image::new();
    for (at, byte, what) in [
        (8, 0, "the first name is at an impossible place"),
        (8, 13, "the first name is at an impossible place"),
        (8, 252, "the first name is at an impossible place"),
        (20, 90, "a name is at an impossible place"),
        (20, 3, "a name is at an impossible place"),
    ] {
        let mut bytes = directory(&[(b".", 1), (b"..", 1)]);
        bytes[at] = byte;
        image.inode(1, root(27), &bytes);
        assert_eq!(image.error(), fault(what), "{at} {byte}");
    }
    image.inode(1, root(5), &[]);
    assert_eq!(image.error(), fault("the block is too short for an entry"));
}

#[test]
fn inodes_are_checked() {
    let inode = |mode, layout, size, place| ExtendedInode { mode, layout, size, place, ..root(0) };
    let outside = |len: u64, offset: u64| {
        format!("inode 8 refers to {len} bytes at byte {offset}, outside of the image")
    };
    let unknown = |inode: ExtendedInode| {
        let ExtendedInode { mode, layout, size, .. } = inode;
        format!("inode 8 has an unknown format, type {mode:#o}, layout {layout}, size {size}")
    };
    let file = mode::REGULAR;
    let mut cases = vec![
        (inode(file, FLAT_PLAIN, 4097, 7), outside(4097, 28672)),
        (inode(file, FLAT_PLAIN, u64::MAX, 1), outside(u64::MAX, 4096)),
        (inode(file, FLAT_INLINE, 8192 + 5, 7), outside(8192, 28672)),
        (inode(file, CHUNKED, 1 << 40, 0), outside(1 << 30, 16704)),
    ];
    for bad in [
        inode(0, FLAT_PLAIN, 0, 0),
        inode(file, 1, 5, 1),
        inode(file, FLAT_INLINE, 4096, 1),
        inode(file, CHUNKED, 4096, 0x20),
        inode(mode::DIRECTORY, FLAT_PLAIN, 0, 0),
        inode(mode::DIRECTORY, CHUNKED, 4096, 0),
        inode(mode::SYMLINK, FLAT_PLAIN, 4096, 1),
        inode(mode::SYMLINK, FLAT_PLAIN, 0, 1),
        inode(mode::FIFO, FLAT_PLAIN, 1, 1),
        inode(file, FLAT_INLINE, 4000, 1),
        ExtendedInode { mtime_nanos: 1_000_000_000, ..inode(file, FLAT_PLAIN, 0, 0) },
    ] {
        cases.push((bad, unknown(bad)));
    }
    for (bad, message) in cases {
        let mut image = Image::new();
        image.inode(8, bad, &[]);
        let error = Reader::open(&image.0).unwrap().inode(8).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let mut image = Image::new();
    image.inode(8, inode(file, CHUNKED, 8192, 0), &[7, 0, 0, 0, 8, 0, 0, 0]);
    let reader = Reader::open(&image.0).unwrap();
    let inode = reader.inode(8).unwrap();
    assert_eq!(reader.piece(&inode, 5).unwrap(), Piece { len: 4091, place: Some(7 * 4096 + 5) });
    assert_eq!(reader.piece(&inode, 4096).unwrap_err().to_string(), outside(4096, 32768));
}

#[test]
fn xattrs_are_checked() {
    let mut header = [0; 12];
    let cases: [(u16, u8, &[u8], &str); 6] = [
        (1, 1, b"", "too many are shared"),
        (2, 0, b"\x01\x01\x00\x00", "one is cut off"),
        (3, 0, b"\x01\x01\xff\x00a   ", "one is cut off"),
        (3, 0, b"\x01\x09\x00\x00a   ", "one has an unknown prefix"),
        (5, 0, b"\x01\x01\x00\x00a   \x01\x01\x00\x00a   ", "a name occurs twice"),
        (2, 1, b"\0\0\0\0", "one has an unknown prefix"),
    ];
    for (xattr_count, shared, body, what) in cases {
        let mut image = Image::new();
        header[4] = shared;
        image.inode(1, ExtendedInode { xattr_count, ..root(27) }, &[&header, body].concat());
        assert_eq!(image.error(), format!("inode 1 has malformed extended attributes ({what})"));
    }
    // One shared attribute of 65 KiB, used over and over, is too much.
    let mut image = Image::new();
    image.superblock(|superblock| superblock.xattr_block = 1);
    image.0[BLOCK..BLOCK + 4].copy_from_slice(&[0, 2, 0xff, 0x5f]);
    let body = [&[0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0], [0u8; 800].as_slice()].concat();
    image.inode(1, ExtendedInode { xattr_count: 201, ..root(27) }, &body);
    assert_eq!(image.error(), "inode 1 has malformed extended attributes (they are too long together)");
}

/// Changes of any one byte of the metadata end in an error or in a tree, never in a panic or a loop.
#[test]
fn any_flipped_byte_is_survived() {
    let mut image = Image::new();
    let entries = directory(&[(b".", 1), (b"..", 1), (b"d", 8), (b"f", 16)]);
    image.inode(1, root(entries.len() as u64), &entries);
    let entries = directory(&[(b".", 8), (b"..", 1), (b"f", 16)]);
    image.inode(8, root(entries.len() as u64), &entries);
    let xattrs = b"\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x01\x00av  ";
    let file = ExtendedInode {
        mode: mode::REGULAR,
        layout: CHUNKED,
        size: 9000,
        place: 0,
        xattr_count: 3,
        ..root(0)
    };
    let map = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0];
    image.inode(16, file, &[xattrs.as_slice(), &map].concat());
    let start = META * BLOCK;
    let mut walked = 0;
    for at in start..start + 800 {
        for value in [1, 0x80, 0xff] {
            image.0[at] ^= value;
            let reader = Reader::open(&image.0).unwrap();
            for entry in reader.walk() {
                let Ok((path, inode)) = entry else { break };
                walked += path.len();
                std::io::copy(&mut reader.data(&inode).take(1 << 20), &mut std::io::sink()).ok();
            }
            image.0[at] ^= value;
        }
    }
    assert!(walked > 5000);
}
