//! The file tree: layer entries, merge (whiteouts), unpack policy, and readers of tar and of Nix archives.
//! Pure: nothing here opens a file.

mod dump;
mod entry;
mod escaped;
mod merge;
mod nar;
mod policy;
mod sink;
mod tar;
mod tree;

#[cfg(test)]
mod testing;

pub use dump::dump;
pub use entry::{Attributes, Change, Content, Device, Extent, Kind, Tail, Timestamp, Xattr};
pub use escaped::{Escaped, escape};
pub use merge::{Merge, MergeError};
pub use nar::{NarError, NarRefusal, NarSummary, read_nar};
pub use policy::{Breach, Budget, Devices, HardLinks, Knob, Rule, SettingError, UnpackPolicy};
pub use sink::LayerSink;
pub use tar::{LayerSummary, ReadError, Refusal, SparseFault, read_layer};
pub use tree::{Dirent, Inode, InodeId, Node, Tree, Walk};
