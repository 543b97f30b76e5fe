//! `mvmctl build`.

use crate::commands::flake_options::{FlakeOptions, tell};
use crate::commands::policy::Asked;
use crate::context::Context;
use crate::printer::Printer;
use clap::Subcommand;
use mvm_engine::{BuildOutcome, BuildRequest, Built, Engine, EngineError, Progress, Step, utc_time};
use mvm_ref::{FlakeReference, Reference};
use serde_json::json;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

/// Build a flake in the builder VM and make an image of it
///
/// Nix runs in the builder (`mvmctl builder init` makes it), never on this machine. What git tracks goes in, with changes
/// that are not committed; elsewhere all but what .gitignore names. The image is called flake:DIR, and by the names of
/// --tag. Where neither files, lock, library nor builder have changed, nothing is started. Exits with 9 where the flake does
/// not evaluate, 10 where a derivation does not build, 11 where the builder has too little disk or memory.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Flake: a directory, path:DIR or git+file:DIR, with #NAME for another package than default
    #[arg(long, value_name = "REF", default_value = ".")]
    flake: FlakeReference,
    /// The same as --flake
    #[arg(value_name = "REF", conflicts_with = "flake")]
    given: Option<FlakeReference>,
    /// Name for the image (may be repeated)
    #[arg(long, short, value_name = "NAME")]
    tag: Vec<Reference>,
    /// Give the builder no network
    #[arg(long)]
    offline: bool,
    /// Print what happens as JSON, one event a line, and at the end what was built
    #[arg(long)]
    json: bool,
    /// Build again whenever files of the flake change, until ctrl-c
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    policy: Asked,
    #[command(flatten)]
    options: FlakeOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Print the whole log of a build
    Log {
        /// Build, or the beginning of its name [default: the last one]
        id: Option<String>,
    },
    /// List the builds whose logs are kept
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
}

/// How often files that are watched are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Bytes of a log that are held at a time.
const BUFFER: usize = 64 << 10;

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(Command::Log { id }) => return log(context, id.as_deref()),
        Some(Command::Ls { json }) => return ls(context, json),
        None => {}
    }
    let request = args.options.request(
        args.given.as_ref().unwrap_or(&args.flake),
        args.offline,
        args.policy.resolve()?,
    )?;
    let request = BuildRequest { names: args.tag, ..request };
    let engine = context.engine()?;
    if args.watch {
        return watch(context, engine, request, args.json);
    }
    let built = build(context, engine, &request, args.json)?;
    report(context, &built, args.json)?;
    Ok(ExitCode::SUCCESS)
}

fn build(
    context: &Context,
    engine: &Engine,
    request: &BuildRequest,
    json: bool,
) -> Result<Built, EngineError> {
    let cancel = context.signals.cancel();
    if json {
        return engine.build(request, &Events(context.printer), cancel);
    }
    let progress = context.progress();
    let built = engine.build(request, &progress, cancel);
    progress.finish();
    built
}

fn report(context: &Context, built: &Built, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(context.printer.line(json!({"event": "built", "built": built}))?);
    }
    tell(context, built);
    Ok(context.printer.line(built.image.manifest)?)
}

/// Builds whenever something changes; what doesn't build is told, and waited for.
fn watch(context: &Context, engine: &Engine, request: BuildRequest, json: bool) -> anyhow::Result<ExitCode> {
    let cancel = context.signals.cancel();
    // What was built last, by the files as they were before they were read.
    let mut seen = None;
    let mut request = request;
    loop {
        let now = match engine.flake_fingerprint(&request) {
            Ok(now) => Some(now),
            // Nothing to wait for if it was never there.
            Err(error) if seen.is_none() => return Err(error.into()),
            Err(_) => None,
        };
        if now.is_some() && now != seen {
            match build(context, engine, &request, json) {
                Ok(built) => report(context, &built, json)?,
                Err(EngineError::Interrupted) => return Err(EngineError::Interrupted.into()),
                // Files that are half written are no reason to end, a builder that isn't there is.
                Err(error) if !matches!(error, EngineError::Build(_)) => return Err(error.into()),
                Err(error) => context.printer.always(format_args!("mvmctl: {}", mvm_engine::chain(&error))),
            }
            seen = now;
            // These were asked for once.
            request =
                BuildRequest { update_lock: false, update_inputs: Vec::new(), rebuild: false, ..request };
            context.printer.words("waiting for changes; ctrl-c ends");
        }
        if cancel.requested() {
            return Err(EngineError::Interrupted.into());
        }
        std::thread::sleep(LOOK);
    }
}

fn log(context: &Context, id: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut log = context.engine_to_look()?.build_log(id)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match log.read(&mut buffer) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(count) => context.printer.data(&buffer[..count])?,
            // Of a build that is under way, or was killed.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                context.printer.words("note: the log has no end: its build goes on, or was killed");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn ls(context: &Context, json: bool) -> anyhow::Result<ExitCode> {
    let records = context.engine_to_look()?.build_records()?;
    if json {
        context.printer.json(&records)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |record: &mvm_engine::BuildRecord| {
        let outcome = match &record.outcome {
            BuildOutcome::Built { manifest } => manifest.short().to_string(),
            BuildOutcome::Failed { .. } => "failed".to_owned(),
        };
        let seconds = record.ended_at.saturating_sub(record.started_at);
        vec![
            record.id.clone(),
            utc_time(record.started_at).unwrap_or_default(),
            format!("{seconds} s"),
            record.derivations.to_string(),
            outcome,
            record.flake.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = records.iter().rev().map(row).collect();
    context.printer.table(&["BUILD", "STARTED", "TOOK", "DERIVATIONS", "IMAGE", "FLAKE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the steps of a build as JSON, one a line.
struct Events(Printer);

impl Progress for Events {
    fn step(&self, step: Step) {
        let event = match step {
            Step::BuilderStarting => json!({"event": "builder-starting"}),
            Step::Building { derivation } => json!({"event": "building", "derivation": derivation}),
            Step::BuildLine { of, text } => json!({"event": "line", "derivation": of, "text": text}),
            Step::BuildCounted(counts) => json!({
                "event": "counts",
                "done": counts.done,
                "expected": counts.expected,
                "running": counts.running,
                "failed": counts.failed,
                "downloaded": counts.downloaded,
            }),
            Step::Closure { paths, missing, size } => {
                json!({"event": "closure", "paths": paths, "missing": missing, "size": size})
            }
            Step::Assembling => json!({"event": "assembling"}),
            Step::Assembled { root_hash, size } => {
                json!({"event": "assembled", "root_hash": root_hash, "size": size})
            }
            Step::Notice(text) => json!({"event": "notice", "text": text}),
            _ => return,
        };
        // A closed stdout is told by what is printed at the end.
        drop(self.0.line(event));
    }
}
