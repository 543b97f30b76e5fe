//! Writes the seeds of all fuzz targets into a directory, one below it for each target; `corpus` where none is named.

use std::path::PathBuf;
use std::{env, fs, io};

use mvm_ref::Digest;

fn main() -> io::Result<()> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    let root = env::args_os().nth(1).map_or_else(|| PathBuf::from(corpus), PathBuf::from);
    for target in mvm_fuzz::TARGETS {
        let directory = root.join(target.label);
        fs::create_dir_all(&directory)?;
        for seed in (target.seeds)() {
            fs::write(directory.join(format!("seed-{}", Digest::of(&seed).short())), seed)?;
        }
    }
    Ok(())
}
