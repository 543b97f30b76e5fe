//! `mvmctl image …`: one module per verb.

mod inspect;
mod load;
mod ls;
mod pin;
mod provenance;
mod push;
mod rm;
mod save;
mod tag;
mod tree;
mod verify;
mod verify_signature;

use crate::context::Context;
use clap::Subcommand;
use std::process::ExitCode;

/// List, inspect, load, save, push, verify, pin and remove images
#[derive(Subcommand)]
pub enum Command {
    Ls(ls::Args),
    Inspect(inspect::Args),
    Tree(tree::Args),
    Verify(verify::Args),
    VerifySignature(verify_signature::Args),
    Provenance(provenance::Args),
    Load(load::Args),
    Tag(tag::Args),
    Rm(rm::Args),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
    Save(save::Args),
    Push(push::Args),
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls(args) => ls::run(context, args),
        Command::Inspect(args) => inspect::run(context, args),
        Command::Tree(args) => tree::run(context, args),
        Command::Verify(args) => verify::run(context, args),
        Command::VerifySignature(args) => verify_signature::run(context, args),
        Command::Provenance(args) => provenance::run(context, args),
        Command::Load(args) => load::run(context, args),
        Command::Tag(args) => tag::run(context, args),
        Command::Rm(args) => rm::run(context, args),
        Command::Pin(args) => pin::pin(context, args),
        Command::Unpin(args) => pin::unpin(context, args),
        Command::Save(args) => save::run(context, args),
        Command::Push(args) => push::run(context, args),
    }
}
