//! `mvmctl launch`.

use crate::commands::mounts;
use crate::commands::network::Network;
use crate::commands::policy::read_plan;
use crate::commands::run::{self, Launch, Pull};
use crate::context::Context;
use crate::error::Misuse;
use crate::terminal;
use anyhow::Context as _;
use mvm_engine::{LaunchRequest, NamedSource, PlanView};
use mvm_ref::VmName;
use std::path::PathBuf;
use std::process::ExitCode;

/// Launch a signed plan, also one that was signed on another machine
///
/// It is judged as the plan of `run` is: keys that are trusted here, and the policy that holds here. Its image, if it is not
/// here, is pulled by its digest.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    launch: Launch,
    /// Name of the VM [default: the plan's, with an ending if a VM has that name]
    #[arg(long)]
    name: Option<VmName>,
    /// A secret that the plan names, and where it is read
    #[arg(long, value_name = "NAME=FILE|env:VAR|-")]
    secret: Vec<NamedSource>,
    /// When to ask the registry for the image that the plan names by its digest
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pull: Pull,
    #[command(flatten)]
    network: Network,
    /// Take in this bundle, as `plan import` does, and launch its plan
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    bundle: Option<PathBuf>,
    /// Signed plan; - for stdin
    #[arg(value_name = "PLAN", required_unless_present = "bundle")]
    plan: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let secrets = mounts::read(&args.secret)?;
    let request = LaunchRequest { secrets, ..args.launch.resolve(args.name)? };
    let engine = context.engine_over(args.network)?;
    let plan = match (&args.bundle, &args.plan) {
        (Some(bundle), _) => engine.import_plan(bundle, context.signals.cancel())?.envelope,
        (None, Some(plan)) => read_plan(plan)?,
        (None, None) => anyhow::bail!(Misuse("name a plan or a bundle".to_owned())),
    };
    let detached = request.detached;
    // What is wrong with a plan that can't be read is for the engine to say, and to record.
    if let Ok(view) = PlanView::read(&plan)
        && view.is_interactive()
        && !detached
    {
        terminal::require().context("the plan's command needs a terminal")?;
    }
    let progress = context.progress();
    let launched = engine.launch(&plan, request, args.pull.into(), &progress, context.signals.cancel());
    progress.finish();
    run::attend(context, launched?, (!detached).then_some(args.launch.leaving))
}
