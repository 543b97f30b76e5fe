//! The parsers of this module, on bytes in memory.

use super::elf::Elf;
use super::image;
use super::inflate::Compression;

/// Turns an image file into the form that is booted; nothing where it is refused.
pub fn boot_image(file: Vec<u8>) -> Option<Vec<u8>> {
    image::boot_image(file).ok().map(|image| image.bytes)
}

/// Returns the `.modinfo` section of an ELF file, and where its segments end; nothing for what is missing or refused.
pub fn modinfo(file: &[u8]) -> (Option<&[u8]>, Option<u64>) {
    let Ok(elf) = Elf::new(file) else { return (None, None) };
    let layout = elf.kernel_layout().ok();
    (elf.section(".modinfo").ok().flatten(), layout.map(|layout| layout.load_end))
}

/// Unpacks compressed bytes into at most `limit`; nothing where they are not compressed or refused.
pub fn inflate(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    Compression::of(bytes)?.inflate(bytes, limit).ok()
}
