//! Tree and segments to file-system bytes (EROFS), the dm-verity hash tree, and readers of both.
