//! Files of rules, on text in memory.

use super::{Mirrors, file};
use mvm_ref::Reference;
use std::path::Path;

/// Returns where a file says to look for an image, or why it can't be used.
pub fn places(text: &str, image: &Reference) -> Result<Vec<Reference>, String> {
    let entries = file::parse(Path::new("file"), text, &drop).map_err(|error| error.to_string())?;
    let by_prefix = entries.into_iter().map(|entry| (entry.prefix.clone(), entry)).collect();
    let mirrors = Mirrors { by_prefix };
    drop(mirrors.insecure());
    mirrors.places(image).map_err(|error| error.to_string())
}
