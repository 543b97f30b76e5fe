//! `mvmctl logout`.

use crate::context::Context;
use mvm_engine::KnownUser;
use mvm_ref::RegistryName;
use std::process::ExitCode;

/// Forget the credentials of a registry
#[derive(clap::Args)]
pub struct Args {
    /// Of all registries
    #[arg(long, conflicts_with = "registry")]
    all: bool,
    /// Registry, HOST[:PORT] [default: docker.io]
    registry: Option<RegistryName>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    if args.all {
        for registry in mvm_engine::logout_all(context.settings())? {
            context.printer.words(format!("logged out of {registry}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let registry = args.registry.unwrap_or_default();
    let left = mvm_engine::logout(context.settings(), &registry)?;
    context.printer.words(format!("logged out of {registry}"));
    if let Some(KnownUser { user, path }) = left {
        let path = path.display();
        context.printer.words(format!("note: {path} still has credentials of {registry}, of user {user}"));
    }
    Ok(ExitCode::SUCCESS)
}
