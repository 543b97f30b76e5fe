//! Kernels in small: headers and what must be in them.

/// ELF files, a bzImage with stored and compressed payloads, a configuration.
pub fn kernels() -> Vec<Vec<u8>> {
    let elf = elf();
    let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
    // One block of literals: a token, the rest of the length, the bytes.
    let mut block = vec![0xf0];
    let mut left = elf.len() - 15;
    while left >= 255 {
        block.push(255);
        left -= 255;
    }
    block.push(left as u8);
    block.extend_from_slice(&elf);
    lz4.extend_from_slice(&(block.len() as u32).to_le_bytes());
    lz4.extend_from_slice(&block);
    vec![
        bzimage(&lz4),
        bzimage(&[0x1f, 0x8b, 8, 0]),
        lz4,
        b"\xfd7zXZ\0".to_vec(),
        b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc".to_vec(),
        b"# Linux/x86 6.1.192 Kernel Configuration\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n".to_vec(),
        elf,
    ]
}

/// An ELF file with one loaded segment, a PVH note and a `.modinfo` section.
fn elf() -> Vec<u8> {
    let modinfo = b"depends=a,b\0license=GPL\0";
    let note =
        [&4u32.to_le_bytes()[..], &8u32.to_le_bytes(), &18u32.to_le_bytes(), b"Xen\0\0\0\0\x01\0\0\0\0"]
            .concat();
    let names = b"\0.modinfo\0";
    let (programs, note_at) = (64usize, 64 + 2 * 56);
    let modinfo_at = note_at + note.len();
    let names_at = modinfo_at + modinfo.len();
    let sections = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(sections + 3 * 64, 0);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    for (at, value) in [(32, programs), (40, sections)] {
        put(at, &(value as u64).to_le_bytes());
    }
    for (at, value) in [(54, 56u16), (56, 2), (58, 64), (60, 3), (62, 2)] {
        put(at, &value.to_le_bytes());
    }
    for (at, kind, offset, size) in [(programs, 1u32, 0, 64), (programs + 56, 4, note_at, note.len())] {
        put(at, &kind.to_le_bytes());
        for (field, value) in [(8, offset), (24, 0x100_0000), (32, size), (40, 0x20_0000)] {
            put(at + field, &(value as u64).to_le_bytes());
        }
    }
    for (number, name, offset, size) in [(1, 1u32, modinfo_at, modinfo.len()), (2, 0, names_at, names.len())]
    {
        let at = sections + number * 64;
        put(at, &name.to_le_bytes());
        put(at + 24, &(offset as u64).to_le_bytes());
        put(at + 32, &(size as u64).to_le_bytes());
    }
    put(note_at, &note);
    put(modinfo_at, modinfo);
    put(names_at, names);
    file
}

fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes());
    put(0x24c, &(payload.len() as u32 + 4).to_le_bytes());
    put(0x258, &0x100_0000u64.to_le_bytes());
    put(0x260, &0x30_0000u32.to_le_bytes());
    file.extend_from_slice(payload);
    file.extend_from_slice(&[0; 4]);
    file
}
