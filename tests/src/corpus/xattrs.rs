//! Extended attributes: capabilities, access control lists, labels, and what overlayfs would obey.

use super::tar::{Entry, Tar};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

/// `cap_net_raw` permitted and effective, version 2 (`struct vfs_cap_data`).
const CAPABILITY_2: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The same for the root of a user namespace, version 3 (`struct vfs_ns_cap_data`).
const CAPABILITY_3: [u8; 24] =
    [1, 0, 0, 3, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0];

/// `user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r--` (`struct posix_acl_xattr_header`).
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 7, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff,
    0xff, 0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
];

pub(super) fn cases() -> Vec<Case> {
    [legal(), forms(), libarchive(), overlay(), refused()].into_iter().flatten().collect()
}

fn legal() -> Vec<Case> {
    vec![
        oddity("file-capability", "what ping has instead of set-id", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("ping", "x").mode(0o755).xattr("security.capability", CAPABILITY_2)),
            )
        })
        .accepted(|| Tree::new().file("ping", "x").mode(0o755).xattr("security.capability", CAPABILITY_2)),
        oddity("file-capability-of-a-namespace", "version 3, for the root of a user namespace", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("ping", "x").mode(0o755).xattr("security.capability", CAPABILITY_3)),
            )
        })
        .accepted(|| Tree::new().file("ping", "x").mode(0o755).xattr("security.capability", CAPABILITY_3)),
        oddity("access-control-lists", "of a file, and the default of a directory", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("f", "x").mode(0o674).xattr("system.posix_acl_access", ACL))
                    .with(Entry::dir("d").xattr("system.posix_acl_default", ACL)),
            )
        })
        .accepted(|| {
            Tree::new()
                .file("f", "x")
                .mode(0o674)
                .xattr("system.posix_acl_access", ACL)
                .dir("d")
                .xattr("system.posix_acl_default", ACL)
        }),
        oddity("user-and-trusted", "attributes of programs, and of root's programs", |i| {
            i.layer(
                Tar::new()
                    .with(
                        Entry::file("f", "x")
                            .xattr("user.mime_type", "text/plain")
                            .xattr("trusted.md5sum", [0, 255]),
                    )
                    .with(Entry::dir("d").xattr("user.a", "1")),
            )
        })
        .accepted(|| {
            Tree::new()
                .file("f", "x")
                .xattr("user.mime_type", "text/plain")
                .xattr("trusted.md5sum", [0, 255])
                .dir("d")
                .xattr("user.a", "1")
        }),
        oddity("on-the-root", "the root has attributes too", |i| {
            i.layer(Tar::new().with(Entry::dir("./").xattr("user.a", "1")).file("f", "x"))
        })
        .accepted(|| Tree::new().dir("").xattr("user.a", "1").file("f", "x")),
        oddity("on-a-link", "a link takes attributes of trusted programs", |i| {
            i.layer(Tar::new().with(Entry::symlink("l", "x").xattr("trusted.a", "1")))
        })
        .accepted(|| Tree::new().symlink("l", "x").xattr("trusted.a", "1")),
        oddity("label-of-selinux", "as Docker's layers have it", |i| {
            let label = b"system_u:object_r:bin_t:s0\0";
            i.layer(Tar::new().with(Entry::file("f", "x").xattr("security.selinux", label)))
        })
        .accepted(|| Tree::new().file("f", "x").xattr("security.selinux", b"system_u:object_r:bin_t:s0\0"))
        .umoci(Peer::Differs("it leaves labels to the host")),
        oddity("shared-by-many", "the same attribute a thousand times", |i| {
            let entry = |n: u32| Entry::file(format!("f{n}"), "").xattr("user.shared", "the same everywhere");
            i.layer(Tar::new().all((0..1000).map(entry)))
        })
        .accepted(|| {
            (0..1000).fold(Tree::new(), |tree, n| {
                tree.file(format!("f{n}"), "").xattr("user.shared", "the same everywhere")
            })
        }),
    ]
}

fn forms() -> Vec<Case> {
    vec![
        oddity("odd-values", "NULs, line feeds and equals signs in values", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("f", "x").xattr("user.a", b"\0\n=\xff=\n\0").xattr("user.b", "=")),
            )
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a", b"\0\n=\xff=\n\0").xattr("user.b", "=")),
        oddity("given-twice", "the last value counts", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").xattr("user.a", "1").xattr("user.a", "2")))
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a", "2")),
        oddity("empty", "an attribute whose value has no bytes, after one that has", |i| {
            i.layer(
                Tar::new().with(
                    Entry::file("f", "x").xattr("user.a", "1").xattr("user.a", "").xattr("user.b", "2"),
                ),
            )
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a", "").xattr("user.b", "2"))
        .umoci(Peer::Differs(
            "it takes the attribute back, as POSIX has it for records; containerd and Docker set it",
        )),
        oddity("of-other-systems", "Linux has no place for these namespaces", |i| {
            let entry = Entry::file("f", "x").xattr("com.apple.quarantine", "0081").xattr("user.a", "1");
            i.layer(Tar::new().with(entry.xattr("system.nfs4_acl", "x")))
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a", "1")),
        oddity("name-of-255-bytes", "the longest name that Linux takes", |i| {
            let name = format!("user.{}", "n".repeat(250));
            i.layer(Tar::new().with(Entry::file("f", "x").xattr(&name, "1")))
        })
        .accepted(|| Tree::new().file("f", "x").xattr(&format!("user.{}", "n".repeat(250)), "1")),
        oddity("many-on-one-file", "a hundred attributes, small enough for any file system", |i| {
            let entry =
                (0..100).fold(Entry::file("f", "x"), |entry, n| entry.xattr(&format!("user.{n}"), "v"));
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| {
            (0..100).fold(Tree::new().file("f", "x"), |tree, n| tree.xattr(&format!("user.{n}"), "v"))
        }),
        oddity("sixty-kilobytes", "one value as long as Linux takes, nearly", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").xattr("user.a", vec![b'v'; 60_000])))
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a", vec![b'v'; 60_000]))
        .umoci(Peer::NotAsked("the host's file system takes less than 4 KiB")),
    ]
}

fn libarchive() -> Vec<Case> {
    const GO: Peer =
        Peer::Differs("it doesn't know libarchive's records; bsdtar writes them beside the others");
    vec![
        oddity("libarchive", "bsdtar's records: the name with percent signs, the value in Base64", |i| {
            let entry = Entry::file("f", "x").pax("LIBARCHIVE.xattr.user.a%20b", "AAH/");
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a b", [0, 1, 255]))
        .umoci(GO)
        .bsdtar(Peer::Same),
        oddity("libarchive-and-schily", "both forms of one attribute, as bsdtar writes them", |i| {
            let entry =
                Entry::file("f", "x").xattr("user.a", "text").pax("LIBARCHIVE.xattr.user.a", "dGV4dA");
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| Tree::new().file("f", "x").xattr("user.a", "text"))
        .bsdtar(Peer::Same),
        oddity(
            "lists-as-text",
            "star's access control lists name users of the machine that wrote them",
            |i| {
                let entry = Entry::file("f", "x")
                    .pax("SCHILY.acl.access", "user::rw-,user:joe:rwx,group::r--,mask::rwx,other::r--");
                i.layer(Tar::new().with(entry.pax("RHT.security.selinux", "system_u:object_r:bin_t:s0\0")))
            },
        )
        .accepted(|| Tree::new().file("f", "x")),
        hostile("libarchive-against-schily", "readers disagree on which of two values counts", |i| {
            let entry = Entry::file("f", "x").xattr("user.a", "one").pax("LIBARCHIVE.xattr.user.a", "dHdv");
            i.layer(Tar::new().with(entry))
        })
        .refused(Kind::XattrsDiffer, "user.a")
        .umoci(Peer::Differs("it doesn't know libarchive's records")),
        hostile("libarchive-without-base64", "a value in no known form", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("LIBARCHIVE.xattr.user.a", "?*")))
        })
        .refused(Kind::PaxValue, "LIBARCHIVE.xattr.user.a")
        .umoci(Peer::Differs("it doesn't know libarchive's records")),
        hostile("libarchive-overlay", "overlayfs's attributes by another way", |i| {
            i.layer(Tar::new().with(Entry::dir("d").pax("LIBARCHIVE.xattr.trusted%2eoverlay.opaque", "eQ")))
        })
        .refused(Kind::OverlayXattr, "trusted.overlay.opaque")
        .umoci(Peer::Differs("it doesn't know libarchive's records")),
    ]
}

fn overlay() -> Vec<Case> {
    const HOST: Peer = Peer::Differs("it sets them, and a container on overlayfs obeys");
    let smuggled = |name, attribute: &'static str, value: &'static str| {
        hostile(name, "overlayfs obeys such attributes where a layer becomes its directory", move |i| {
            i.layer(Tar::new().with(Entry::dir("d").xattr(attribute, value)))
        })
        .refused(Kind::OverlayXattr, attribute)
        .umoci(HOST)
    };
    vec![
        smuggled("trusted-opaque", "trusted.overlay.opaque", "y"),
        smuggled("trusted-redirect", "trusted.overlay.redirect", "/tmp/mvm-corpus-canary"),
        smuggled("trusted-metacopy", "trusted.overlay.metacopy", "x"),
        smuggled("trusted-origin", "trusted.overlay.origin", "x"),
        smuggled("trusted-whiteout", "trusted.overlay.whiteout", "y"),
        smuggled("trusted-nested", "trusted.overlay.overlay.opaque", "y"),
        smuggled("user-opaque", "user.overlay.opaque", "y"),
        smuggled("user-redirect", "user.overlay.redirect", "/tmp/mvm-corpus-canary"),
        smuggled("user-whiteout", "user.overlay.whiteout", "y"),
        hostile("overlay-in-a-global-header", "the same for all entries that follow", |i| {
            i.layer(Tar::new().with(Entry::global(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])).dir("d"))
        })
        .refused(Kind::OverlayXattr, "trusted.overlay.opaque"),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        hostile("name-of-256-bytes", "one byte more than Linux takes", |i| {
            let name = format!("user.{}", "n".repeat(251));
            i.layer(Tar::new().with(Entry::file("f", "x").xattr(&name, "1")))
        })
        .refused(Kind::XattrName, "entry 0"),
        hostile("no-name", "an attribute without a name", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").xattr("", "1")))
        })
        .refused(Kind::XattrName, "entry 0"),
        hostile("over-64-kib", "more on one entry than is allowed", |i| {
            let entry =
                Entry::file("f", "x").xattr("user.a", vec![b'v'; 33_000]).xattr("user.b", vec![b'w'; 33_000]);
            i.layer(Tar::new().with(entry))
        })
        .refused(Kind::OverLimit, "bytes of extended attributes"),
        hostile("ten-thousand-on-one-file", "more names than fit", |i| {
            let entry =
                (0..10_000).fold(Entry::file("f", "x"), |entry, n| entry.xattr(&format!("user.{n}"), "v"));
            i.layer(Tar::new().with(entry))
        })
        .refused(Kind::OverLimit, "bytes of extended attributes"),
    ]
}
