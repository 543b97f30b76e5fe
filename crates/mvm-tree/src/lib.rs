//! The file tree: layer entries, merge (whiteouts), unpack policy, and readers of tar.
//! Pure: nothing here opens a file.

mod entry;
mod tree;

pub use entry::{Attributes, Change, Content, Device, Extent, Kind, Tail, Timestamp, Xattr};
pub use tree::{Dirent, Inode, InodeId, Node, Tree};
