//! `mvmctl version`.

use crate::context::Context;
use serde::Serialize;
use std::process::ExitCode;

/// Print the versions of mvmctl and of what it makes
#[derive(clap::Args)]
pub struct Args {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Versions {
    mvmctl: &'static str,
    image_format: u32,
    wire: u32,
    guest: mvm_ref::Digest,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let versions = Versions {
        mvmctl: env!("CARGO_PKG_VERSION"),
        image_format: mvm_engine::IMAGE_FORMAT,
        wire: mvm_engine::WIRE_VERSION,
        guest: mvm_ref::Digest::of(crate::guest::BINARY),
    };
    if args.json {
        context.printer.json(&versions)?;
    } else {
        let Versions { mvmctl, image_format, wire, guest } = versions;
        context.printer.line(format!(
            "mvmctl {mvmctl}\nimage format {image_format}\nwire {wire}\nguest {}",
            guest.short()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
