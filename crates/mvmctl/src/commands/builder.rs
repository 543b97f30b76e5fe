//! `mvmctl builder …`.

use crate::commands::network::Network;
use crate::commands::policy::Asked;
use crate::commands::run::parse_memory;
use crate::context::Context;
use crate::printer::{bytes, span};
use crate::terminal;
use clap::Subcommand;
use mvm_engine::{
    BuilderInputs, BuilderOrigin, BuilderRequest, BuilderSource, BuilderStatus, DebianRelease, Engine,
    ExecRequest, Size,
};
use mvm_ref::ImageSource;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Make, look at, collect and remove the builder: the VM with Nix that flakes are built in
#[derive(Subcommand)]
pub enum Command {
    /// Make the builder of this scope, or make it anew; what was built stays
    Init(Box<Init>),
    /// Show what the builder is, and whether it is in use
    Status {
        /// List the packages that it was made of
        #[arg(long)]
        packages: bool,
        /// Print it as JSON, with the packages
        #[arg(long)]
        json: bool,
    },
    /// Run a shell, or a command, in the builder
    Shell {
        /// Give the builder no network
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        policy: Asked,
        /// Command and its arguments [default: a shell]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Remove what was built from the builder's store, and give the space back
    ///
    /// Images that were made of it stay; the next build builds anew what it needs.
    Gc {
        /// Print what became free as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        policy: Asked,
    },
    /// Make the builder's store larger
    Grow {
        /// How large it is to be
        #[arg(long, value_name = "SIZE")]
        size: Size,
    },
    /// Remove the builder with all that it has built
    Rm,
}

/// What a builder is made of.
#[derive(clap::Args)]
pub struct Init {
    /// Make it of Debian's packages, which this machine's apt fetches and verifies; this is the default
    #[arg(long, conflicts_with = "image")]
    from_debian: bool,
    /// Release of Debian: trixie (Nix 2.26), or bookworm (Nix 2.8, which is too old for current nixpkgs) [default: trixie]
    #[arg(long, value_name = "NAME", conflicts_with = "image")]
    release: Option<DebianRelease>,
    /// Take an image that has Nix in it, such as docker.io/nixos/nix; the digest that it has now is kept to
    #[arg(long, value_name = "IMAGE")]
    image: Option<ImageSource>,
    /// Virtual CPUs of the builder [default: 1 under emulation, else up to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: Option<u32>,
    /// Memory of the builder, in MiB or with a unit (512m, 2g) [default: 2g]
    #[arg(long, short, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<u32>,
    /// How large its store is made; it takes only what is written to it [default: 20g]
    #[arg(long, value_name = "SIZE")]
    store_size: Option<Size>,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: Asked,
    #[command(flatten)]
    network: Network,
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(args) => init(context, *args)?,
        Command::Status { packages, json } => {
            let status = context.engine_to_look()?.builder_status()?;
            if json { context.printer.json(&status)? } else { show(context, &status, packages)? }
        }
        Command::Shell { offline, policy, command } => {
            return shell(context, offline, &policy, command);
        }
        Command::Gc { json, policy } => {
            let engine = context.engine_of_existing()?;
            let progress = context.progress();
            let policy = policy.resolve()?;
            // What Nix says of it is words, not data.
            let mut output = |_, text: &[u8]| drop(std::io::stderr().write_all(text));
            let collected = engine.collect_builder(&policy, &mut output, &progress, context.signals.cancel());
            progress.finish();
            let collected = collected?;
            if json {
                context.printer.json(&collected)?;
            } else {
                let freed = collected.before.saturating_sub(collected.after);
                context.printer.words(format_args!("freed {}", bytes(freed)));
            }
        }
        Command::Grow { size } => {
            let volume = context.engine_of_existing()?.grow_builder(size)?;
            context.printer.line(bytes(volume.size))?;
        }
        Command::Rm => {
            let freed = context.engine_of_existing()?.remove_builder()?;
            context.printer.words(format_args!("freed {}", bytes(freed)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn init(context: &Context, args: Init) -> anyhow::Result<()> {
    let progress = context.progress();
    let source = match args.image {
        Some(image) => BuilderSource::Image(image),
        None => BuilderSource::Debian(args.release.unwrap_or_default()),
    };
    let request = BuilderRequest {
        source,
        cpus: args.cpus,
        memory_mib: args.memory,
        store_size: args.store_size,
        policy: args.policy.resolve()?,
    };
    let engine = context.engine_over(args.network)?;
    let made = engine.make_builder(&request, &progress, context.signals.cancel());
    progress.finish();
    let made = made?;
    if args.json {
        return context.printer.json(&made);
    }
    Ok(context.printer.line(format_args!("{} with Nix {}", made.image, made.nix_version))?)
}

fn show(context: &Context, status: &BuilderStatus, packages: bool) -> anyhow::Result<()> {
    let line = |label: &str, words: String| context.printer.line(format_args!("{label:<11}{words}"));
    line("scope", context.settings().scope.to_string())?;
    let Some(record) = &status.record else {
        line("builder", "none; mvmctl builder init makes one".to_owned())?;
        return Ok(());
    };
    let (release, packages) = match &record.origin {
        BuilderOrigin::Debian { release, packages: all } => {
            (format!("Debian {release}, {} packages", all.len()), packages.then_some(all))
        }
        BuilderOrigin::Image { requested } => (format!("image {requested}"), None),
    };
    let absent = if status.image_present { "" } else { " (not in the store; init makes it anew)" };
    line("image", format!("{}{absent}", record.image))?;
    line("root hash", record.root_hash.to_string())?;
    line("made of", release)?;
    line("made", format!("{} ago", span(mvm_engine::unix_seconds() - record.made_at)))?;
    line("nix", record.nix_version.clone())?;
    let cpus =
        record.cpus.map_or_else(|| "1 under emulation, else up to 4".to_owned(), |cpus| cpus.to_string());
    line("cpus", cpus)?;
    line("memory", format!("{} MiB", record.memory_mib))?;
    if let Some(store) = &status.store {
        let (name, size, used) = (&store.name, bytes(store.size), bytes(store.used));
        line("store", format!("volume {name}, {size}, {used} on disk"))?;
    }
    line("vm", status.vm.to_string())?;
    line("in use by", status.holder.clone().unwrap_or_else(|| "nobody".to_owned()))?;
    let Some(packages) = packages else { return Ok(()) };
    let rows: Vec<Vec<String>> = packages
        .iter()
        .map(|package| {
            let digest = package.digest.to_string();
            vec![package.package.clone(), package.version.clone(), package.architecture.clone(), digest]
        })
        .collect();
    Ok(context.printer.table(&["PACKAGE", "VERSION", "ARCHITECTURE", "DIGEST"], &rows)?)
}

fn shell(context: &Context, offline: bool, policy: &Asked, command: Vec<String>) -> anyhow::Result<ExitCode> {
    let engine: &Engine = context.engine_of_existing()?;
    let progress = context.progress();
    let policy = policy.resolve()?;
    let inputs =
        BuilderInputs { source: None, online: !offline, purpose: "mvmctl builder shell", policy: &policy };
    let session = engine.open_builder(inputs, &progress, context.signals.cancel());
    progress.finish();
    let session = session?;
    let interactive = command.is_empty();
    let terminal = interactive && std::io::stdin().is_terminal();
    let request = ExecRequest {
        command: if interactive { vec!["/bin/sh".to_owned()] } else { command },
        env: Vec::new(),
        working_dir: Some("/root".to_owned()),
        user: None,
        terminal,
    };
    let (connection, process) = engine.exec(session.vm(), request)?;
    let streams = terminal::Streams { stdin: true, terminal, keys: Default::default() };
    let target = mvm_engine::Target::Exec(Box::new(process));
    let status = terminal::attach(connection, target, streams, &context.signals, context.printer)?;
    session.close()?;
    Ok(ExitCode::from(status))
}
