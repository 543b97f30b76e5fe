//! What fuzz targets reach and no other caller: parsers of a kernel's files and of a guest's frames, on bytes in memory.

pub use crate::kernel::fuzzing::{boot_image, inflate, modinfo};
pub use crate::network::fuzzing::judge_frame;
