//! The file tree: layer entries, merge (whiteouts), unpack policy, and readers of tar.
//! Pure: nothing here opens a file.

mod entry;
mod limits;
mod sink;
mod tree;

pub use entry::{Attributes, Change, Content, Device, Extent, Kind, Tail, Timestamp, Xattr};
pub use limits::Limits;
pub use sink::LayerSink;
pub use tree::{Dirent, Inode, InodeId, Node, Tree};
