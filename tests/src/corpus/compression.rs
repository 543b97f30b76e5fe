//! Streams around the archive: members, frames, headers, ends.

use std::io;

use super::image::{self, Image, TAR, TAR_GZIP, TAR_ZSTD};
use super::tar::Tar;
use super::{Case, Kind, Peer, Tree, compress, gzip, hostile, oddity, zstd};

pub(super) fn cases() -> Vec<Case> {
    [gzips(), zstds(), mistaken(), refused_gzips(), refused_zstds()].into_iter().flatten().collect()
}

fn archive() -> Vec<u8> {
    Tar::new().file("a", "text").file("b", vec![b'x'; 3000]).finish()
}

fn tree() -> Tree {
    Tree::new().file("a", "text").file("b", vec![b'x'; 3000])
}

/// Adds a layer of the archive, stored as these bytes.
fn stored(i: &mut Image, bytes: &[u8], media_type: &str) -> io::Result<()> {
    i.stored(bytes, media_type, &image::digest(&archive()))
}

fn gzips() -> Vec<Case> {
    vec![
        oddity("one-member", "what most layers are", |i| stored(i, &gzip(&archive()), TAR_GZIP))
            .accepted(tree),
        oddity("many-members", "estargz and pigz cut a stream into members", |i| {
            let members: Vec<u8> = archive().chunks(700).flat_map(gzip).collect();
            stored(i, &members, TAR_GZIP)
        })
        .accepted(tree),
        oddity("empty-members", "members of no bytes, at both ends and between", |i| {
            let empty = gzip(b"");
            let (first, last) = (gzip(&archive()[..1000]), gzip(&archive()[1000..]));
            stored(i, &[&empty[..], &first, &empty, &empty, &last, &empty].concat(), TAR_GZIP)
        })
        .accepted(tree),
        oddity("header-with-everything", "extra field, file name, comment and checksum of the header", |i| {
            stored(i, &compress::with_gzip_header(&gzip(&archive())), TAR_GZIP)
        })
        .accepted(tree)
        .umoci(Peer::Differs("its reader stumbles over the checksum of the header; gzip doesn't")),
        oddity("not-compressed-inside", "deflate's stored blocks", |i| {
            stored(i, &compress::gzip_stored(&archive()), TAR_GZIP)
        })
        .accepted(tree),
        oddity("zeros-after-gzip", "padding to a tape's block", |i| {
            stored(i, &[gzip(&archive()), vec![0; 1000]].concat(), TAR_GZIP)
        })
        .accepted(tree)
        .umoci(Peer::Differs("Go's reader takes them for a damaged member; gzip passes over them")),
        oddity("gzip-of-nothing", "a layer without changes, as some builders write it", |i| {
            i.stored(&gzip(b""), TAR_GZIP, &image::digest(b""))
        })
        .accepted(Tree::new),
        oddity("no-bytes-as-gzip", "a layer of no bytes has no changes, whatever its type", |i| {
            i.stored(b"", TAR_GZIP, &image::digest(b""))
        })
        .accepted(Tree::new)
        .umoci(Peer::Differs("it finds no gzip header")),
        oddity("gzip-of-a-kilobyte-of-zeros", "a layer without changes, as Docker writes it", |i| {
            i.stored(&gzip(&[0; 1024]), TAR_GZIP, &image::digest(&[0; 1024]))
        })
        .accepted(Tree::new),
    ]
}

fn zstds() -> Vec<Case> {
    const OLD: Peer = Peer::NotAsked("the version that Debian has knows no Zstandard");
    vec![
        oddity("one-frame", "what buildah and BuildKit write on request", |i| {
            stored(i, &zstd(&archive())?, TAR_ZSTD)
        })
        .accepted(tree)
        .umoci(OLD),
        oddity("many-frames", "zstd:chunked cuts a stream into frames", |i| {
            let frames = archive().chunks(700).map(zstd).collect::<io::Result<Vec<_>>>()?;
            stored(i, &frames.concat(), TAR_ZSTD)
        })
        .accepted(tree)
        .umoci(OLD),
        oddity("skippable-frames", "zstd:chunked keeps its table of contents in them", |i| {
            let skip = compress::skippable(b"table of contents");
            let (first, last) = (zstd(&archive()[..1000])?, zstd(&archive()[1000..])?);
            stored(i, &[&skip[..], &first, &skip, &last, &skip, &skip].concat(), TAR_ZSTD)
        })
        .accepted(tree)
        .umoci(OLD),
        oddity("zstd-of-nothing", "a layer without changes", |i| {
            i.stored(&zstd(b"")?, TAR_ZSTD, &image::digest(b""))
        })
        .accepted(Tree::new)
        .umoci(OLD),
        oddity("window-of-eight-megabytes", "the largest that every reader gives", |i| {
            stored(i, &compress::zstd_raw(&archive(), 23), TAR_ZSTD)
        })
        .accepted(tree)
        .umoci(OLD),
    ]
}

/// Streams of another kind than their type says, which containerd and skopeo take for what they are.
fn mistaken() -> Vec<Case> {
    const TYPE: Peer = Peer::Differs("it believes the media type, which is often wrong");
    vec![
        oddity("zstd-that-is-gzip", "the diff ID decides, whatever the type says", |i| {
            stored(i, &gzip(&archive()), TAR_ZSTD)
        })
        .accepted(tree)
        .umoci(Peer::NotAsked("the version that Debian has knows no Zstandard")),
        oddity("gzip-that-is-zstd", "the diff ID decides, whatever the type says", |i| {
            stored(i, &zstd(&archive())?, TAR_GZIP)
        })
        .accepted(tree)
        .umoci(TYPE),
        oddity("gzip-that-is-not-compressed", "an archive announced as gzip", |i| {
            stored(i, &archive(), TAR_GZIP)
        })
        .accepted(tree)
        .umoci(TYPE),
        oddity("archive-that-is-gzip", "a gzip stream announced as an archive", |i| {
            stored(i, &gzip(&archive()), TAR)
        })
        .accepted(tree)
        .umoci(TYPE),
    ]
}

fn refused_gzips() -> Vec<Case> {
    vec![
        hostile(
            "garbage-after-gzip",
            "who stops at the stream's end hashes less than who reads the file",
            |i| stored(i, &[&gzip(&archive())[..], b"garbage"].concat(), TAR_GZIP),
        )
        .refused(Kind::TrailingData, "gzip stream"),
        hostile("another-archive-after-zeros", "what comes after padding is seen by some", |i| {
            stored(i, &[gzip(&archive()), vec![0; 512], gzip(&archive())].concat(), TAR_GZIP)
        })
        .refused(Kind::TrailingData, "gzip stream"),
        hostile("gzip-cut-off", "half of a stream", |i| {
            let packed = gzip(&archive());
            stored(i, &packed[..packed.len() / 2], TAR_GZIP)
        })
        .refused(Kind::StreamTruncated, "gzip stream"),
        hostile("gzip-without-checksum", "the last eight bytes are missing", |i| {
            let packed = gzip(&archive());
            stored(i, &packed[..packed.len() - 8], TAR_GZIP)
        })
        .refused(Kind::StreamTruncated, "gzip stream")
        .umoci(Peer::Differs("it reads no further than the archive")),
        hostile("gzip-with-another-checksum", "content that is not what was packed", |i| {
            let mut packed = gzip(&archive());
            let at = packed.len() - 6;
            packed[at] ^= 1;
            stored(i, &packed, TAR_GZIP)
        })
        .refused(Kind::Corrupt, "gzip stream"),
        hostile("gzip-with-another-length", "the length at its end is a lie", |i| {
            let mut packed = gzip(&archive());
            let at = packed.len() - 1;
            packed[at] ^= 1;
            stored(i, &packed, TAR_GZIP)
        })
        .refused(Kind::Corrupt, "gzip stream"),
        hostile("gzip-damaged", "a flipped bit in the middle", |i| {
            let mut packed = gzip(&archive());
            let at = packed.len() / 2;
            packed[at] ^= 0x10;
            stored(i, &packed, TAR_GZIP)
        })
        .refused(Kind::Corrupt, "gzip stream"),
        hostile("xz-as-a-layer", "2014-9357: a format for which somebody runs a program", |i| {
            let bytes = [&b"\xfd7zXZ\0"[..], &[0; 600]].concat();
            i.stored(&bytes, TAR_GZIP, &image::digest(&bytes))
        })
        .refused(Kind::Magic, "xz"),
        hostile("bzip2-as-a-layer", "another such format", |i| {
            let bytes = [&b"BZh91AY&SY"[..], &[0; 600]].concat();
            i.stored(&bytes, TAR, &image::digest(&bytes))
        })
        .refused(Kind::Magic, "bzip2"),
        hostile("text-as-a-layer", "an error page where a layer should be", |i| {
            i.stored(b"<html>Please log in</html>", TAR_GZIP, &image::digest(b"<html>Please log in</html>"))
        })
        .refused(Kind::Truncated, "entry 0"),
        hostile("text-as-an-archive", "the same as a layer that isn't compressed", |i| {
            i.bytes(b"<html>Please log in</html>".repeat(40))
        })
        .refused(Kind::Number, "checksum"),
    ]
}

fn refused_zstds() -> Vec<Case> {
    const OLD: Peer = Peer::NotAsked("the version that Debian has knows no Zstandard");
    let cases = vec![
        hostile("zstd-cut-off", "half of a stream", |i| {
            let packed = zstd(&archive())?;
            stored(i, &packed[..packed.len() / 2], TAR_ZSTD)
        })
        .refused(Kind::StreamTruncated, "zstd stream"),
        hostile("zstd-with-another-checksum", "content that is not what was packed", |i| {
            let mut packed = zstd(&archive())?;
            let at = packed.len() - 1;
            packed[at] ^= 1;
            stored(i, &packed, TAR_ZSTD)
        })
        .refused(Kind::Corrupt, "zstd stream"),
        hostile("garbage-after-zstd", "bytes that are no frame", |i| {
            stored(i, &[&zstd(&archive())?[..], b"garbage"].concat(), TAR_ZSTD)
        })
        .refused(Kind::Corrupt, "zstd stream"),
        hostile("window-of-two-gigabytes", "memory for as much as the frame says", |i| {
            stored(i, &compress::zstd_raw(&archive(), 31), TAR_ZSTD)
        })
        .refused(Kind::Window, "128 MiB"),
        hostile("skippable-frame-without-end", "a frame to skip that is longer than the stream", |i| {
            let mut skip = compress::skippable(b"x");
            skip[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            stored(i, &[&skip[..], &zstd(&archive())?].concat(), TAR_ZSTD)
        })
        .refused(Kind::StreamTruncated, "zstd stream"),
    ];
    cases.into_iter().map(|case| case.umoci(OLD)).collect()
}
