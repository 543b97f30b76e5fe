//! The unpack policy: each of its rules and limits, set to something else than its default.

use super::tar::{Entry, Tar, field};
use super::{Case, Kind, Peer, Tree, gzip, hostile, image, oddity};

const NONE: Peer = Peer::NotAsked("it has no such policy");

pub(super) fn cases() -> Vec<Case> {
    [rules(), allowed(), limits(), across_layers()]
        .into_iter()
        .flatten()
        .map(|case| case.umoci(NONE))
        .collect()
}

fn rules() -> Vec<Case> {
    vec![
        hostile("whiteouts-refused", "an image that should only add", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            i.layer(Tar::new().file(".wh.a", ""))
        })
        .refused(Kind::NoWhiteouts, "layer 2")
        .arguments(&["--unpack", "whiteouts=refuse"]),
        hostile("opaque-whiteouts-refused", "the same for whole directories", |i| {
            i.layer(Tar::new().file("d/.wh..wh..opq", ""))
        })
        .refused(Kind::NoWhiteouts, "layer 1")
        .arguments(&["--unpack", "whiteouts=refuse"]),
        hostile("absolute-links-refused", "a link that says where the root is", |i| {
            i.layer(Tar::new().symlink("a", "b").symlink("c", "/d"))
        })
        .refused(Kind::NoAbsoluteLinks, "c")
        .arguments(&["--unpack", "absolute-symlinks=refuse"]),
        hostile("hard-links-refused", "files with one name each", |i| {
            i.layer(Tar::new().file("a", "x").link("b", "a"))
        })
        .refused(Kind::NoHardLinks, "b")
        .arguments(&["--unpack", "hardlinks=refuse"]),
        hostile("hard-links-across-layers-refused", "no layer gives another's file a name", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            i.layer(Tar::new().link("b", "a"))
        })
        .refused(Kind::NoHardLinksAcross, "b")
        .arguments(&["--unpack", "hardlinks=same-layer"]),
        hostile("set-user-id-refused", "no program that runs as another user", |i| {
            i.layer(Tar::new().with(Entry::file("su", "x").mode(0o4755)))
        })
        .refused(Kind::NoSetId, "su")
        .arguments(&["--unpack", "set-id=refuse"]),
        hostile("set-group-id-refused", "nor as another group", |i| {
            i.layer(Tar::new().with(Entry::file("mail", "x").mode(0o2755)))
        })
        .refused(Kind::NoSetId, "mail")
        .arguments(&["--unpack", "set-id=refuse"]),
        hostile("capabilities-refused", "no program that may more than its user", |i| {
            let capability = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
            i.layer(Tar::new().with(Entry::file("ping", "x").xattr("security.capability", capability)))
        })
        .refused(Kind::NoCapabilities, "ping")
        .arguments(&["--unpack", "file-capabilities=refuse"]),
        hostile("devices-refused", "not even the usual ones", |i| {
            i.layer(Tar::new().with(Entry::device(b'3', "null", 1, 3)))
        })
        .refused(Kind::Device, "character device 1:3")
        .arguments(&["--unpack", "devices=refuse"]),
    ]
}

fn allowed() -> Vec<Case> {
    vec![
        oddity("any-device", "a disk and the machine's memory, for who wants them", |i| {
            i.layer(Tar::new().with(Entry::device(b'4', "sda", 8, 0)).with(Entry::device(b'3', "mem", 1, 1)))
        })
        .accepted(|| Tree::new().block("sda", 8, 0).character("mem", 1, 1))
        .arguments(&["--unpack", "devices=any"]),
        oddity("relative-links-stay", "only absolute ones are refused", |i| {
            i.layer(Tar::new().symlink("a", "../../b").symlink("c", "./d"))
        })
        .accepted(|| Tree::new().symlink("a", "../../b").symlink("c", "./d"))
        .arguments(&["--unpack", "absolute-symlinks=refuse"]),
        oddity("hard-links-within-a-layer", "those within a layer stay", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            i.layer(Tar::new().file("b", "y").link("c", "b"))
        })
        .accepted(|| Tree::new().file("a", "x").file("b", "y").link("c", "b"))
        .arguments(&["--unpack", "hardlinks=same-layer"]),
        oddity(
            "set-group-id-of-directories",
            "on a directory the bit hands the group down, and runs nothing",
            |i| i.layer(Tar::new().with(Entry::dir("d").mode(0o2775)).with(Entry::dir("t").mode(0o1777))),
        )
        .accepted(|| Tree::new().dir("d").mode(0o2775).dir("t").mode(0o1777))
        .arguments(&["--unpack", "set-id=refuse"]),
        oddity("as-much-as-is-allowed", "each limit is met and none exceeded", |i| {
            i.layer(Tar::new().file("0123456789", "0123456789").with(Entry::file("b", "").owner(100, 100)))
        })
        .accepted(|| Tree::new().file("0123456789", "0123456789").file("b", "").owner(100, 100))
        .arguments(&[
            "--unpack",
            "entries=2",
            "--unpack",
            "layers=1",
            "--unpack",
            "name=10",
            "--unpack",
            "max-uid=100",
            "--unpack",
            "unpacked=10",
            "--unpack",
            "apparent=10",
        ]),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        hostile("ids-over-a-limit", "an owner past those of the image", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").owner(0, 65_536)))
        })
        .refused(Kind::OverLimit, "a: gid: 65536, at most 65535")
        .arguments(&["--unpack", "max-uid=65535"]),
        hostile("entries-over-a-limit", "one entry more", |i| {
            i.layer(Tar::new().all((0..11).map(|n| Entry::file(format!("f{n}"), ""))))
        })
        .refused(Kind::OverLimit, "entry 10 at byte 5120: entries: 11, at most 10")
        .arguments(&["--unpack", "entries=10"]),
        hostile("unpacked-over-a-limit", "one byte more", |i| {
            i.layer(Tar::new().file("a", [b'x'; 1000]).file("b", [b'y'; 25]))
        })
        .refused(Kind::OverLimit, "b: bytes of file data: 1025, at most 1024")
        .arguments(&["--unpack", "unpacked=1KiB"]),
        hostile("apparent-over-a-limit", "a hole of more than a mebibyte", |i| {
            let at = field::GNU_SPARSE.start;
            let entry =
                Entry::new(b'S', "a").magic(super::tar::GNU).octal(field::GNU_REAL_SIZE, (1 << 20) + 1);
            i.layer(Tar::new().with(entry.octal(at..at + 12, (1 << 20) + 1).octal(at + 12..at + 24, 0)))
        })
        .refused(Kind::OverLimit, "a: bytes of files, with holes: 1048577, at most 1048576")
        .arguments(&["--unpack", "apparent=1MiB"]),
        hostile("name-over-a-limit", "a name of seventeen bytes", |i| {
            i.layer(Tar::new().file("n".repeat(17), ""))
        })
        .refused(Kind::OverLimit, "bytes of a name: 17, at most 16")
        .arguments(&["--unpack", "name=16"]),
        hostile("path-over-a-limit", "a path of 64 bytes, where 64 have room for 63 and their end", |i| {
            i.layer(Tar::new().file("a/".repeat(31) + "ff", ""))
        })
        .refused(Kind::OverLimit, "bytes of a path: 64, at most 63")
        .arguments(&["--unpack", "path=64"]),
        hostile("attributes-over-a-limit", "a name of six bytes and a value of eleven", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").xattr("user.a", "01234567890")))
        })
        .refused(Kind::OverLimit, "bytes of extended attributes: 17, at most 16")
        .arguments(&["--unpack", "xattrs=16"]),
        hostile("links-over-a-limit", "three links on the way to a file", |i| {
            let links = Tar::new().dir("d").symlink("a", "d").symlink("b", "a").symlink("c", "b");
            i.layer(links.file("c/f", "x"))
        })
        .refused(Kind::TooManySymlinks, "c/f")
        .arguments(&["--unpack", "symlink-depth=2"]),
        hostile("ratio-over-a-limit", "a hundred to one past a mebibyte", |i| {
            let archive = Tar::new().file("a", vec![0; 4 << 20]).finish();
            i.stored(&gzip(&archive), image::TAR_GZIP, &image::digest(&archive))
        })
        .refused(Kind::Bomb, "over 100 to 1")
        .arguments(&["--unpack", "ratio=100", "--unpack", "ratio-from=1MiB"]),
    ]
}

fn across_layers() -> Vec<Case> {
    vec![
        hostile("layers-over-a-limit", "one layer more", |i| {
            (0..3).try_for_each(|n| i.layer(Tar::new().file(format!("f{n}"), "x")))
        })
        .refused(Kind::OverLimit, "layers: 3, at most 2")
        .arguments(&["--unpack", "layers=2"]),
        hostile("entries-of-all-layers", "each layer keeps the limit, all of them don't", |i| {
            let layer = |n: u32| Tar::new().all((0..6).map(move |f| Entry::file(format!("f{n}-{f}"), "")));
            i.layer(layer(0))?;
            i.layer(layer(1))
        })
        .refused(Kind::OverLimit, "entries: 11, at most 10")
        .arguments(&["--unpack", "entries=10"]),
        hostile("bytes-of-all-layers", "the same for what is unpacked", |i| {
            i.layer(Tar::new().file("a", [b'x'; 600]))?;
            i.layer(Tar::new().file("b", [b'y'; 600]))
        })
        .refused(Kind::OverLimit, "bytes of file data: 1200, at most 1024")
        .arguments(&["--unpack", "unpacked=1KiB"]),
    ]
}
