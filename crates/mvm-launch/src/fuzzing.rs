//! What fuzz targets reach and no other caller: parsers of a kernel's files, on bytes in memory.

pub use crate::kernel::fuzzing::{boot_image, inflate, modinfo};
