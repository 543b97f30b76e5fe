//! Images against `fsck.erofs`, `veritysetup`, a kernel's mount, and our own reader.

mod flips;
mod places;
mod shapes;
mod support;
