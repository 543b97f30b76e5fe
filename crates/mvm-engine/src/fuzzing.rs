//! What fuzz targets reach and no other caller: parsers of what comes from outside, on bytes in memory.

use mvm_ref::Descriptor;
use std::path::Path;

/// Reads the manifest of a plan's bundle; nothing where it is refused.
pub fn bundle_parts(manifest: &[u8]) -> Option<Vec<Descriptor>> {
    crate::plan_bundle::read_manifest(Path::new("bundle"), manifest).ok()
}

/// Reads git's index, with names of objects of either length; nothing where it is refused.
pub fn git_index(bytes: &[u8]) -> Vec<Vec<u8>> {
    let read = |hash| crate::flake::fuzzing::git_index(bytes, hash);
    [20, 32].into_iter().filter_map(read).flatten().collect()
}

/// Reads what Nix says while it builds, in pieces of some length, and returns the lines for a log.
pub fn build_log(bytes: &[u8], piece: usize) -> Vec<String> {
    crate::flake::fuzzing::build_log(bytes, piece)
}

/// Reads a lock file, and returns it as it would be written; nothing where it is refused.
pub fn flake_lock(bytes: &[u8]) -> Option<Vec<u8>> {
    crate::flake::fuzzing::lock(bytes)
}
