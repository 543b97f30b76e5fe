//! Permission bits, set-id, and devices.

use super::tar::{Entry, Tar, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [bits(), devices(), refused_devices()].into_iter().flatten().collect()
}

fn bits() -> Vec<Case> {
    vec![
        oddity("set-id-and-sticky", "sudo, mail spools and /tmp need them", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("suid", "x").mode(0o4755))
                    .with(Entry::file("sgid", "x").mode(0o2755))
                    .with(Entry::file("both", "x").mode(0o6711).owner(1, 2))
                    .with(Entry::dir("tmp").mode(0o1777))
                    .with(Entry::dir("staff").mode(0o2775)),
            )
        })
        .accepted(|| {
            Tree::new()
                .file("suid", "x")
                .mode(0o4755)
                .file("sgid", "x")
                .mode(0o2755)
                .file("both", "x")
                .mode(0o6711)
                .owner(1, 2)
                .dir("tmp")
                .mode(0o1777)
                .dir("staff")
                .mode(0o2775)
        })
        .bsdtar(Peer::Same),
        oddity("no-permission-at-all", "mode 0000 for a file and a directory with a child", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::dir("d").mode(0))
                    .file("d/f", "x")
                    .with(Entry::file("f", "secret").mode(0)),
            )
        })
        .accepted(|| Tree::new().dir("d").mode(0).file("d/f", "x").file("f", "secret").mode(0))
        .bsdtar(Peer::Same),
        oddity("all-bits", "mode 7777", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").mode(0o7777)).with(Entry::dir("d").mode(0o7777)))
        })
        .accepted(|| Tree::new().file("f", "x").mode(0o7777).dir("d").mode(0o7777))
        .bsdtar(Peer::Same),
        oddity("mode-with-type", "some writers copy all of `st_mode`", |i| {
            i.layer(
                Tar::new().with(Entry::file("f", "x").mode(0o100_600)).with(Entry::dir("d").mode(0o040_711)),
            )
        })
        .accepted(|| Tree::new().file("f", "x").mode(0o600).dir("d").mode(0o711)),
        oddity("mode-with-another-type", "type bits in the mode don't make a file a device", |i| {
            i.layer(
                Tar::new().with(Entry::file("f", "x").mode(0o020_644)).with(Entry::dir("d").mode(0o120_755)),
            )
        })
        .accepted(|| Tree::new().file("f", "x").dir("d")),
        oddity("blank-mode", "fields of spaces or NULs are zero", |i| {
            i.layer(
                Tar::new().with(Entry::file("f", "x").put(field::MODE, "       \0")).with(
                    Entry::file("g", "x").put(field::MODE, "").put(field::UID, "").put(field::MTIME, ""),
                ),
            )
        })
        .accepted(|| Tree::new().file("f", "x").mode(0).file("g", "x").mode(0).mtime(0, 0)),
        oddity("root-with-odd-mode", "ignite#240: the root belongs to somebody and is closed", |i| {
            i.layer(Tar::new().with(Entry::dir("./").mode(0o700).owner(1000, 1000).mtime(1)).file("a", "x"))
        })
        .accepted(|| Tree::new().dir("").mode(0o700).owner(1000, 1000).mtime(1, 0).file("a", "x")),
        oddity("root-with-mode-zero", "nobody may enter", |i| {
            i.layer(Tar::new().with(Entry::dir("./").mode(0)).file("a", "x"))
        })
        .accepted(|| Tree::new().dir("").mode(0).file("a", "x")),
        hostile("mode-is-not-a-number", "letters in the field", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").put(field::MODE, "rwxr-xr")))
        })
        .refused(Kind::Number, "f"),
    ]
}

fn devices() -> Vec<Case> {
    const USUAL: [(&str, u32, u32); 10] = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("console", 5, 1),
        ("ptmx", 5, 2),
        ("tun", 10, 200),
        ("fuse", 10, 229),
    ];
    vec![
        oddity("usual-devices", "debootstrap and others put a small /dev into images", |i| {
            let device = |(name, major, minor): (&str, u32, u32)| {
                Entry::device(b'3', format!("dev/{name}"), major.into(), minor.into()).mode(0o666)
            };
            i.layer(Tar::new().dir("dev").all(USUAL.map(device)))
        })
        .accepted(|| {
            USUAL.iter().fold(Tree::new().dir("dev"), |tree, (name, major, minor)| {
                tree.character(format!("dev/{name}"), *major, *minor).mode(0o666)
            })
        })
        .bsdtar(Peer::Same),
        oddity("device-by-another-name", "a device is known by its number", |i| {
            i.layer(Tar::new().with(Entry::device(b'3', "hole", 1, 3)))
        })
        .accepted(|| Tree::new().character("hole", 1, 3)),
        oddity("pipe", "a named pipe", |i| i.layer(Tar::new().with(Entry::new(b'6', "p").mode(0o622))))
            .accepted(|| Tree::new().fifo("p").mode(0o622))
            .bsdtar(Peer::Same),
        oddity("device-numbers-of-a-file", "only devices have numbers, whatever the fields hold", |i| {
            let odd = |entry: Entry| entry.put(field::MAJOR, "        ").put(field::MINOR, "");
            i.layer(Tar::new().with(odd(Entry::file("f", "x"))).with(odd(Entry::dir("d"))))
        })
        .accepted(|| Tree::new().file("f", "x").dir("d")),
    ]
}

fn refused_devices() -> Vec<Case> {
    const HOST: Peer = Peer::Differs("it makes any device, for a host that keeps the container from it");
    let device = |name, why, flag, major, minor, says| {
        hostile(name, why, move |i| i.layer(Tar::new().with(Entry::device(flag, "dev/x", major, minor))))
            .refused(Kind::Device, says)
            .umoci(HOST)
    };
    vec![
        device("disk", "the first disk of a machine", b'4', 8, 0, "block device 8:0"),
        device("memory", "/dev/mem", b'3', 1, 1, "character device 1:1"),
        device("kernel-log", "/dev/kmsg", b'3', 1, 11, "character device 1:11"),
        device("loop", "a loop device", b'4', 7, 0, "block device 7:0"),
        device("kvm", "/dev/kvm", b'3', 10, 232, "character device 10:232"),
        device("block-device-0-0", "no whiteout, and no device either", b'4', 0, 0, "block device 0:0"),
        device(
            "null-as-a-block-device",
            "the number of /dev/null, the wrong kind",
            b'4',
            1,
            3,
            "block device 1:3",
        ),
        hostile("device-number-too-large", "a number that Linux can't store", |i| {
            i.layer(Tar::new().with(Entry::device(b'3', "dev/x", 1 << 20, 3)))
        })
        .refused(Kind::Range, "dev/x")
        .umoci(Peer::Differs("it cuts the number off")),
        hostile("device-number-negative", "a number below zero", |i| {
            i.layer(Tar::new().with(Entry::device(b'3', "dev/x", 1, 3).base256(field::MINOR, -1)))
        })
        .refused(Kind::Range, "dev/x")
        .umoci(Peer::Differs("it cuts the number off")),
    ]
}
