//! The option of verbs that take an image only if it is signed.

use mvm_engine::{Engine, ImageKey};
use std::path::PathBuf;

/// Who must have signed an image.
#[derive(clap::Args)]
pub struct VerifyKey {
    /// Take the image only if its registry has a cosign signature by this public key; with several, by each of them
    #[arg(long, value_name = "FILE")]
    verify_key: Vec<PathBuf>,
}

impl VerifyKey {
    /// Reads the keys.
    pub fn read(&self, engine: &Engine) -> anyhow::Result<Vec<ImageKey>> {
        read(engine, &self.verify_key)
    }
}

/// Reads keys from files.
pub fn read(engine: &Engine, files: &[PathBuf]) -> anyhow::Result<Vec<ImageKey>> {
    Ok(files.iter().map(|file| engine.read_image_key(file)).collect::<Result<_, _>>()?)
}
