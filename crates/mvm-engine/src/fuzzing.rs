//! What fuzz targets reach and no other caller: parsers of what comes from outside, on bytes in memory.

use mvm_ref::Descriptor;
use std::path::Path;

/// Reads the manifest of a plan's bundle; nothing where it is refused.
pub fn bundle_parts(manifest: &[u8]) -> Option<Vec<Descriptor>> {
    crate::plan_bundle::read_manifest(Path::new("bundle"), manifest).ok()
}
