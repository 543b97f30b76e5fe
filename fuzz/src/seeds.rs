//! Valid inputs to start from, made by our own code or kept beside the crates that they belong to.

pub mod archive;
pub mod documents;
pub mod kernel;
pub mod text;
pub mod trees;
pub mod wire;
