//! The parsers of kernels and modules: ELF, bzImage, compressed data, configurations.

use mvm_launch::fuzzing::{boot_image, inflate, modinfo};
use mvm_launch::kernel::Config;

/// Most bytes that are unpacked of one input.
const LIMIT: usize = 1 << 20;

/// Gives the input to each parser.
pub fn body(data: &[u8]) {
    if let Some(image) = boot_image(data.to_vec()) {
        assert!(image == data || image.starts_with(b"\x7fELF"), "an image of neither kind");
    }
    let (section, end) = modinfo(data);
    assert!(section.is_none_or(|section| section.len() <= data.len()));
    assert_eq!(modinfo(data), (section, end));
    if let Some(bytes) = inflate(data, LIMIT) {
        assert!(bytes.len() <= LIMIT);
    }
    if let Ok(config) = Config::parse(data) {
        assert!(config.version().is_none_or(|version| version.len() <= data.len()));
    }
}
