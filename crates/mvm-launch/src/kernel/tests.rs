use super::config::{Config, ConfigError, OptionState};
use super::elf::{Elf, ElfError};
use super::image::{ImageError, boot_image};
use super::inflate::{Compression, InflateError};
use super::modules::{ModuleError, ModuleTree};
use super::requirements::{Selection, select};
use super::*;
use std::fs;
use std::path::Path;

/// Everything that a guest needs, built in, with the given lines changed.
fn config(changes: &[(&str, &str)]) -> Config {
    let mut text = String::from("#\n# Linux/x86 6.1.192 Kernel Configuration\n#\n");
    let all = [
        "64BIT",
        "BLK_DEV_INITRD",
        "BINFMT_ELF",
        "BINFMT_SCRIPT",
        "DEVTMPFS",
        "PROC_FS",
        "SYSFS",
        "TMPFS",
        "UNIX98_PTYS",
        "SERIAL_8250_CONSOLE",
        "EROFS_FS_XATTR",
        "VIRTIO_CONSOLE",
        "VIRTIO_BLK",
        "CRYPTO_SHA256",
        "BLK_DEV_DM",
        "DM_VERITY",
        "EROFS_FS",
        "OVERLAY_FS",
        "EXT4_FS",
        "VIRTIO_MMIO",
        "VIRTIO_MMIO_CMDLINE_DEVICES",
        "VIRTIO_PCI",
        "ACPI",
        "CRYPTO_CRC32C",
    ];
    for option in all {
        let value = changes.iter().find(|(name, _)| *name == option).map_or("y", |(_, value)| value);
        match value {
            "" => text.push_str(&format!("# CONFIG_{option} is not set\n")),
            value => text.push_str(&format!("CONFIG_{option}={value}\n")),
        }
    }
    Config::parse(text.as_bytes()).unwrap()
}

#[test]
fn configurations_are_parsed_and_refused() {
    let text = b"# Linux/x86 6.1.192 Kernel Configuration\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"y\"\nCONFIG_HZ=250\n";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.version(), Some("6.1.192"));
    let states: Vec<OptionState> = ["A", "B", "C", "D", "HZ"].map(|name| config.state(name)).into();
    use OptionState::{Absent, BuiltIn, Module};
    assert_eq!(states, [BuiltIn, Module, Absent, Absent, Absent]);
    assert_eq!(Config::parse(b"<html>").unwrap_err(), ConfigError::Empty);
    assert_eq!(Config::parse(b"CONFIG_A=y\n\xff").unwrap_err(), ConfigError::NotText { offset: 11 });
    assert_eq!(Config::parse(&vec![b'\n'; 5 << 20]).unwrap_err(), ConfigError::TooLarge { size: 5 << 20 });
}

#[test]
fn the_machine_follows_from_the_configuration() {
    let cases = [
        (vec![], BootMachine::Microvm, vec![]),
        (vec![("VIRTIO_MMIO_CMDLINE_DEVICES", "")], BootMachine::MicrovmAcpi, vec![]),
        (vec![("VIRTIO_MMIO", "m")], BootMachine::MicrovmAcpi, vec!["virtio_mmio"]),
        (vec![("VIRTIO_MMIO", ""), ("VIRTIO_PCI", "m")], BootMachine::Q35, vec!["virtio_pci"]),
        (vec![("VIRTIO_MMIO", "")], BootMachine::Q35, vec![]),
        (
            vec![("EXT4_FS", "m"), ("CRYPTO_CRC32C", "m"), ("VIRTIO_BLK", "m")],
            BootMachine::Microvm,
            vec!["crc32c_generic", "virtio_blk", "ext4"],
        ),
    ];
    for (changes, machine, modules) in cases {
        let expected = Selection { machine, modules, signed_only: false };
        assert_eq!(select(&config(&changes)).unwrap(), expected, "{changes:?}");
    }
}

#[test]
fn every_missing_option_is_named_at_once() {
    let changes = [
        ("EROFS_FS", ""),
        ("DM_VERITY", ""),
        ("DEVTMPFS", "m"),
        ("VIRTIO_MMIO", ""),
        ("VIRTIO_PCI", ""),
        ("ACPI", ""),
    ];
    assert_eq!(
        select(&config(&changes)).unwrap_err().to_string(),
        "CONFIG_VIRTIO_PCI (devices), CONFIG_ACPI (several processors), CONFIG_DEVTMPFS (device nodes), CONFIG_DM_VERITY (verified roots), \
         CONFIG_EROFS_FS (the root)"
    );
}

/// An ELF file with one loaded segment, a note and a `.modinfo` section.
fn elf(note_type: u32, modinfo: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for field in [4, 8, note_type] {
        note.extend_from_slice(&u32::to_le_bytes(field));
    }
    note.extend_from_slice(b"Xen\0\0\0\0\x01\0\0\0\0");
    let names = b"\0.modinfo\0";
    let (programs, note_at) = (64, 64 + 2 * 56);
    let modinfo_at = note_at + note.len();
    let names_at = modinfo_at + modinfo.len();
    let sections = (names_at + names.len()).next_multiple_of(8);

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(sections + 3 * 64, 0);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(32, &(programs as u64).to_le_bytes());
    put(40, &(sections as u64).to_le_bytes());
    for (at, value) in [(54, 56u16), (56, 2), (58, 64), (60, 3), (62, 2)] {
        put(at, &value.to_le_bytes());
    }
    put(programs, &1u32.to_le_bytes());
    put(programs + 24, &0x100_0000u64.to_le_bytes());
    put(programs + 40, &0x20_0000u64.to_le_bytes());
    put(programs + 56, &4u32.to_le_bytes());
    put(programs + 56 + 8, &(note_at as u64).to_le_bytes());
    put(programs + 56 + 32, &(note.len() as u64).to_le_bytes());
    put(note_at, &note);
    put(modinfo_at, modinfo);
    put(names_at, names);
    put(sections + 64, &1u32.to_le_bytes());
    put(sections + 64 + 24, &(modinfo_at as u64).to_le_bytes());
    put(sections + 64 + 32, &(modinfo.len() as u64).to_le_bytes());
    put(sections + 128 + 24, &(names_at as u64).to_le_bytes());
    put(sections + 128 + 32, &(names.len() as u64).to_le_bytes());
    file
}

fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
    file[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
    file[0x260..0x264].copy_from_slice(&0x30_0000u32.to_le_bytes());
    file.extend_from_slice(payload);
    file.extend_from_slice(&[0; 4]);
    file
}

/// LZ4's legacy frame with one block of literals.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(bytes);
    [&[0x02, 0x21, 0x4c, 0x18][..], &(packed.len() as u32).to_le_bytes(), &packed].concat()
}

#[test]
fn images_become_elf_where_they_can() {
    let kernel = elf(18, b"");
    let zstd = bzimage(&zstd::bulk::compress(&kernel, 1).unwrap());
    for file in [kernel.clone(), bzimage(&lz4(&kernel)), zstd] {
        let image = boot_image(file).unwrap();
        assert_eq!((image.format, image.load_end), (KernelFormat::Elf, 0x120_0000));
        assert!(image.bytes == kernel);
    }
    let gzip = bzimage(&[0x1f, 0x8b, 8, 0]);
    let without_pvh = bzimage(&lz4(&elf(17, b"")));
    for file in [gzip, without_pvh] {
        let image = boot_image(file.clone()).unwrap();
        assert_eq!((image.format, image.load_end), (KernelFormat::Bzimage, 0x130_0000));
        assert!(image.bytes == file);
    }
}

#[test]
fn images_that_cannot_boot_are_refused() {
    let mut old = bzimage(b"");
    old[0x206] = 7;
    let mut cut = bzimage(&lz4(&elf(18, b"")));
    cut.truncate(cut.len() - 5);
    let mut corrupt = bzimage(&lz4(&elf(18, b"")));
    corrupt[1028..1032].copy_from_slice(&u32::MAX.to_le_bytes());
    let cases: [(Vec<u8>, &str); 6] = [
        (Vec::new(), "not a kernel image: neither an ELF file nor an x86 bzImage"),
        (b"MZ".repeat(1000), "not a kernel image: neither an ELF file nor an x86 bzImage"),
        (old, "kernel image has boot protocol 0x0207; expected at least 0x0208"),
        (cut, "kernel image is truncated: payload_length ends at byte "),
        (corrupt, "cannot unpack the kernel image"),
        (elf(17, b""), "kernel image has no PVH entry point (CONFIG_PVH)"),
    ];
    for (file, message) in cases {
        let error = boot_image(file).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn hostile_elf_and_images_neither_panic_nor_run_away() {
    let kernel = elf(18, b"depends=a,b\0");
    for at in 0..kernel.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut file = kernel.clone();
            file[at] = value;
            if let Ok(elf) = Elf::new(&file) {
                drop((elf.kernel_layout(), elf.section(".modinfo")));
            }
        }
        if let Ok(elf) = Elf::new(&kernel[..at]) {
            drop((elf.kernel_layout(), elf.section(".modinfo")));
        }
    }
    for (table, part) in [(32, "program header"), (40, "section header")] {
        let mut file = kernel.clone();
        file[table..table + 8].copy_from_slice(&(u64::MAX - 8).to_le_bytes());
        let elf = Elf::new(&file).unwrap();
        let error = if table == 32 { elf.kernel_layout().err() } else { elf.section(".modinfo").err() };
        let out = ElfError::OutOfBounds { part, offset: u64::MAX - 8, size: file.len() };
        assert_eq!(error, Some(out));
    }
    assert_eq!(Elf::new(b"\x7fELF").err(), Some(ElfError::Header));
    let bomb = lz4(&vec![0; 4 << 20]);
    let error = Compression::of(&bomb).unwrap().inflate(&bomb, 1 << 20).unwrap_err();
    assert!(matches!(error, InflateError::TooLarge { format: "lz4", limit: 0x10_0000 }));
    let error = boot_image(bzimage(&lz4(b"no ELF"))).unwrap_err();
    assert!(matches!(error, ImageError::Elf(ElfError::Header)));
}

#[test]
fn compressed_data_is_unpacked_with_a_limit() {
    let plain = vec![7; 100_000];
    let packed = zstd::bulk::compress(&plain, 3).unwrap();
    assert!(Compression::of(&packed).unwrap().inflate(&packed, 100_000).unwrap() == plain);
    let error = Compression::of(&packed).unwrap().inflate(&packed, 99_999).unwrap_err();
    assert!(matches!(error, InflateError::TooLarge { format: "zstd", limit: 99_999 }));
    let error = Compression::of(&packed).unwrap().inflate(&packed[..10], 100_000).unwrap_err();
    assert!(matches!(error, InflateError::Corrupt { format: "zstd", .. }));
    assert_eq!(Compression::of(b"plain"), None);
}

fn write(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn modules_come_after_their_dependencies() {
    let directory = tempfile::tempdir().unwrap();
    let signed = |mut bytes: Vec<u8>| {
        bytes.extend_from_slice(b"SIGNATURE");
        bytes.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        bytes.extend_from_slice(b"~Module signature appended~\n");
        bytes
    };
    let mmio = elf(0, b"license=GPL\0depends=virtio,virtio-ring\0");
    let virtio = elf(0, b"depends=virtio_ring\0");
    let (ring, cycle) = (elf(0, b"depends=\0"), elf(0, b"depends=other\0"));
    write(
        directory.path(),
        &[
            ("kernel/a/virtio_mmio.ko", signed(mmio.clone())),
            ("kernel/b/virtio.ko.zst", zstd::bulk::compress(&virtio, 1).unwrap()),
            ("kernel/b/virtio-ring.ko", ring.clone()),
            ("kernel/b/cycle.ko", cycle.clone()),
            ("kernel/b/other.ko", elf(0, b"depends=cycle\0")),
            ("kernel/b/orphan.ko", elf(0, b"depends=absent\0")),
            ("kernel/b/old.ko.gz", vec![0x1f, 0x8b]),
            ("kernel/b/text.ko", b"no module".to_vec()),
            ("modules.order", Vec::new()),
        ],
    );
    let tree = ModuleTree::open(directory.path()).unwrap();
    let module = |name: &str, bytes: &Vec<u8>| Module { name: name.to_owned(), bytes: bytes.clone() };
    let ordered = [module("virtio_ring", &ring), module("virtio", &virtio), module("virtio_mmio", &mmio)];
    assert_eq!(tree.collect(&["virtio_mmio", "virtio_ring"], false).unwrap(), ordered);
    assert_eq!(tree.collect(&["virtio_mmio"], true).unwrap()[2].bytes, signed(mmio));
    assert_eq!(tree.collect(&["cycle"], false).unwrap().len(), 2);
    let text = |names: &[&str]| tree.collect(names, false).unwrap_err().to_string();
    let place = directory.path().display();
    assert_eq!(text(&["orphan"]), format!("module absent is not in {place} (needed by orphan)"));
    assert_eq!(text(&["nothing"]), format!("module nothing is not in {place}"));
    let compressed =
        format!("module {place}/kernel/b/old.ko.gz is compressed by gz; expected none, xz or zstd");
    assert_eq!(text(&["old"]), compressed);
    assert_eq!(text(&["text"]), format!("cannot read module {place}/kernel/b/text.ko"));
    let error = ModuleTree::open(&directory.path().join("none")).unwrap_err();
    assert!(matches!(error, ModuleError::Read { .. }));
}

#[test]
fn a_package_is_imported_whole() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = elf(18, b"");
    let mut text = String::new();
    for option in [
        "64BIT",
        "BLK_DEV_INITRD",
        "BINFMT_ELF",
        "BINFMT_SCRIPT",
        "DEVTMPFS",
        "PROC_FS",
        "SYSFS",
        "TMPFS",
        "UNIX98_PTYS",
        "SERIAL_8250_CONSOLE",
        "EROFS_FS_XATTR",
        "VIRTIO_CONSOLE",
        "VIRTIO_BLK",
        "CRYPTO_SHA256",
        "BLK_DEV_DM",
        "DM_VERITY",
        "EROFS_FS",
        "EXT4_FS",
        "VIRTIO_MMIO",
        "ACPI",
    ] {
        text.push_str(&format!("CONFIG_{option}=y\n"));
    }
    let built_in = format!("# Linux/x86 6.1.5 Kernel Configuration\n{text}CONFIG_OVERLAY_FS=y\n");
    let modular = format!("{text}CONFIG_OVERLAY_FS=m\n");
    let refuse = |version: Option<&str>| import_package(directory.path(), version).unwrap_err().to_string();
    let place = directory.path().display();
    let expected = "expected boot/vmlinuz-VERSION or lib/modules/VERSION/vmlinuz";
    assert_eq!(refuse(None), format!("no kernel in {place}: {expected}"));

    write(directory.path(), &[("boot/vmlinuz-6.1-a", bzimage(&lz4(&kernel)))]);
    assert_eq!(refuse(None), format!("kernel 6.1-a has no configuration in {place}"));
    write(directory.path(), &[("boot/config-6.1-a", modular.clone().into_bytes())]);
    assert_eq!(refuse(None), format!("kernel 6.1-a has no modules in {place}"));
    let overlay = elf(0, b"depends=\0");
    write(directory.path(), &[("lib/modules/6.1-a/kernel/fs/overlay.ko", overlay.clone())]);
    let imported = import_package(directory.path(), None).unwrap();
    let info = KernelInfo {
        schema: KernelSchema::V1,
        version: "6.1-a".to_owned(),
        format: KernelFormat::Elf,
        machine: BootMachine::MicrovmAcpi,
        load_end: 0x120_0000,
        modules: vec!["overlay".to_owned()],
    };
    assert_eq!(imported.info, info);
    assert_eq!(imported.modules, [Module { name: "overlay".to_owned(), bytes: overlay }]);
    assert!(imported.image == kernel);
    let json = serde_json::to_string(&info).unwrap();
    let golden = r#"{"schema":"mvm.kernel.v1","version":"6.1-a","format":"elf","machine":"microvm-acpi","load_end":18874368,"modules":["overlay"]}"#;
    assert_eq!(json, golden);
    assert_eq!(serde_json::from_str::<KernelInfo>(golden).unwrap(), info);

    write(directory.path(), &[("usr/lib/modules/6.2-b/vmlinuz", kernel.clone())]);
    assert_eq!(refuse(None), format!("{place} holds several kernels; choose one of 6.1-a, 6.2-b"));
    assert_eq!(refuse(Some("6.2-b")), format!("kernel 6.2-b has no configuration in {place}"));

    let elf = import_elf(kernel.clone(), built_in.as_bytes()).unwrap();
    assert_eq!((elf.info.version.as_str(), elf.modules.len()), ("6.1.5", 0));
    let error = import_elf(kernel, modular.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel of unknown version needs modules (overlay), but was given without any"
    );
}
