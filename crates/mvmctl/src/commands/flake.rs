//! `mvmctl flake …`.

use crate::commands::flake_options::FlakeInputs;
use crate::commands::policy::Asked;
use crate::context::Context;
use crate::error::Misuse;
use anyhow::Context as _;
use clap::Subcommand;
use mvm_engine::BuildRequest;
use mvm_ref::FlakeReference;
use std::path::PathBuf;
use std::process::ExitCode;

/// Look at flakes, or begin one
#[derive(Subcommand)]
pub enum Command {
    /// List the packages of a flake
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Evaluate all packages of a flake for this machine, and build nothing
    Check {
        #[command(flatten)]
        which: Which,
    },
    /// Begin a flake: static, python or services
    Init {
        /// Directory for it
        #[arg(long, value_name = "DIR", default_value = ".")]
        directory: PathBuf,
        /// Template [default: static]
        template: Option<String>,
    },
}

/// The flake that is meant.
#[derive(clap::Args)]
pub struct Which {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Give the builder no network
    #[arg(long)]
    offline: bool,
    /// Flake: a directory, path:DIR or git+file:DIR
    #[arg(value_name = "REF", default_value = ".")]
    flake: FlakeReference,
    #[command(flatten)]
    policy: Asked,
    #[command(flatten)]
    inputs: FlakeInputs,
}

impl Which {
    fn request(&self) -> anyhow::Result<BuildRequest> {
        if let Some(attribute) = self.flake.attribute() {
            return Err(
                Misuse(format!("#{attribute} is one package, and this is about all; leave it out")).into()
            );
        }
        self.inputs.request(self.flake.clone(), self.offline, self.policy.resolve()?)
    }
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Show { which } => show(context, &which),
        Command::Check { which } => check(context, &which),
        Command::Init { directory, template } => init(context, directory, template.as_deref()),
    }
}

fn show(context: &Context, which: &Which) -> anyhow::Result<ExitCode> {
    let request = which.request()?;
    let progress = context.progress();
    let outputs = context.engine()?.show_flake(&request, &progress, context.signals.cancel());
    progress.finish();
    let outputs = outputs?;
    if which.json {
        context.printer.json(&outputs)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |(system, name): (&String, &String)| vec![system.clone(), name.clone()];
    let rows: Vec<Vec<String>> = outputs
        .packages
        .iter()
        .flat_map(|(system, names)| names.iter().map(move |name| (system, name)))
        .map(row)
        .collect();
    context.printer.table(&["SYSTEM", "PACKAGE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn check(context: &Context, which: &Which) -> anyhow::Result<ExitCode> {
    let request = which.request()?;
    let progress = context.progress();
    let derivations = context.engine()?.check_flake(&request, &progress, context.signals.cancel());
    progress.finish();
    let derivations = derivations?;
    if which.json {
        context.printer.json(&derivations)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> =
        derivations.iter().map(|(name, path)| vec![name.clone(), path.clone()]).collect();
    context.printer.table(&["PACKAGE", "DERIVATION"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn init(context: &Context, directory: PathBuf, template: Option<&str>) -> anyhow::Result<ExitCode> {
    let directory =
        std::path::absolute(&directory).with_context(|| format!("resolve {}", directory.display()))?;
    let written = mvm_engine::init_flake(&context.settings().flake_library, &directory, template)?;
    for path in written {
        context.printer.line(path.display())?;
    }
    context.printer.words("mvmctl up --flake . builds and starts it");
    Ok(ExitCode::SUCCESS)
}
