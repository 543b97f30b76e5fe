use super::*;
use mvm_wire::document::{HashAlgorithm, Schema};
use mvm_wire::{Filesystem, Hex, Overlay, Process, Root, Verity};

/// Returns the names and contents of an archive's entries, in order.
fn entries(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut entries = Vec::new();
    while !archive.is_empty() {
        assert_eq!(&archive[..6], b"070701");
        let field = |index: usize| {
            let digits = std::str::from_utf8(&archive[6 + 8 * index..14 + 8 * index]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let (size, name_size) = (field(6), field(11));
        let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
        let start = (110 + name_size).next_multiple_of(4);
        entries.push((name, archive[start..start + size].to_vec()));
        archive = &archive[(start + size).next_multiple_of(4)..];
    }
    entries
}

fn entry(name: &str, content: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), content.to_vec())
}

fn document() -> GuestDocument {
    GuestDocument {
        schema: Schema::V1,
        hostname: "web".to_owned(),
        roots: vec![Root {
            name: "root".to_owned(),
            disk: "root".to_owned(),
            filesystem: Filesystem::Erofs,
            verity: Verity {
                root_hash: Hex::new([0x33; 32]),
                salt: Hex::new([0x44; 32]),
                data_blocks: 3,
                hash_start_block: 3,
                algorithm: HashAlgorithm::Sha256,
                block_size: 4096,
            },
            overlay: Overlay::Disk { serial: "scratch".to_owned() },
        }],
        processes: vec![Process {
            name: "main".to_owned(),
            root: "root".to_owned(),
            argv: vec!["/bin/true".to_owned()],
            env: vec![],
            working_dir: "/".to_owned(),
            user: String::new(),
            stop_signal: 15,
            terminal: false,
        }],
        services: vec![],
        health_checks: vec![],
        users: vec![],
        service_group: None,
        writable_store: None,
        mounts: vec![],
        secrets: vec![],
        interface: None,
    }
}

#[test]
fn archives_hold_what_the_guest_looks_for() {
    let module = |name: &str, bytes: &[u8]| Module { name: name.to_owned(), bytes: bytes.to_vec() };
    let list = [module("virtio_ring", b"one"), module("virtio", b"two!")];
    let archive = [base(b"program"), modules(&list), document_archive(&document()).unwrap()].concat();
    let expected = [
        entry("dev", b""),
        entry("dev/console", b""),
        entry("init", b"program"),
        entry("TRAILER!!!", b""),
        entry("lib", b""),
        entry("lib/modules", b""),
        entry("lib/modules/mvm", b""),
        entry("lib/modules/mvm/virtio_ring.ko", b"one"),
        entry("lib/modules/mvm/virtio.ko", b"two!"),
        entry("lib/modules/mvm.order", b"/lib/modules/mvm/virtio_ring.ko\n/lib/modules/mvm/virtio.ko\n"),
        entry("TRAILER!!!", b""),
        entry("mvm", b""),
        entry("mvm/guest.json", &document().to_bytes().unwrap()),
        entry("TRAILER!!!", b""),
    ];
    assert_eq!(entries(&archive), expected);
}

#[test]
fn an_invalid_document_is_refused() {
    let mut document = document();
    document.processes.clear();
    assert!(matches!(document_archive(&document), Err(DocumentError::Count { what: "processes", .. })));
}

#[test]
fn modules_follow_the_base() {
    let modules = vec![Module { name: "ext4".to_owned(), bytes: vec![7; 4097] }];
    let (base, modules) = (base(b"agent"), super::modules(&modules));
    assert_eq!(after_base(&base), Some(&[][..]));
    assert_eq!(after_base(&[base.clone(), modules.clone()].concat()), Some(modules.as_slice()));
    for cut in 0..base.len() {
        assert_eq!(after_base(&base[..cut]), None, "{cut}");
    }
    for hostile in
        ["", "070701", &format!("070701{}", "F".repeat(104)), &format!("070701{}", "+".repeat(104))]
    {
        assert_eq!(after_base(hostile.as_bytes()), None, "{hostile}");
    }
}
