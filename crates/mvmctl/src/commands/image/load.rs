//! `mvmctl image load`.

use crate::commands::unpack::Unpack;
use crate::context::Context;
use crate::error::Misuse;
use mvm_engine::Bundle;
use mvm_ref::Platform;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bring the images of an archive into the store, under the names that they have there
///
/// Archives of docker save, podman save and skopeo are taken, in Docker's format or OCI's, as tar files or compressed with
/// gzip or zstd.
#[derive(clap::Args)]
pub struct Args {
    /// Archive, or directory of an OCI layout [default: stdin]
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Print what was loaded as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    unpack: Unpack,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let bundle = match args.input.filter(|path| path != Path::new("-")) {
        Some(path) => Bundle::Path(path),
        None => {
            anyhow::ensure!(
                !io::stdin().is_terminal(),
                Misuse("stdin is a terminal; name an archive with --input".to_owned())
            );
            Bundle::Stream(Box::new(io::stdin()))
        }
    };
    let platform = args.platform.unwrap_or_else(Platform::host);
    let progress = context.progress();
    let loaded = context.engine_unpacking(None, args.unpack)?.load(
        bundle,
        &platform,
        &progress,
        context.signals.cancel(),
    );
    progress.finish();
    let loaded = loaded?;
    if args.json {
        context.printer.json(&loaded)?;
        return Ok(ExitCode::SUCCESS);
    }
    for image in loaded {
        if image.names.is_empty() {
            context.printer.line(format!("Loaded image ID: {}", image.config))?;
        }
        for name in image.names {
            context.printer.line(format!("Loaded image: {}", name.familiar()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
