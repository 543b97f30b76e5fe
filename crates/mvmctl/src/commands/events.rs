//! `mvmctl events`.

use crate::commands::audit::Moment;
use crate::context::Context;
use crate::printer::shown;
use mvm_engine::{Happening, VmEvent};
use mvm_ref::VmName;
use std::process::ExitCode;
use std::time::Duration;

/// Show what happened to VMs: started, ready, healthy, died …
///
/// The last 4 to 8 MiB of it are kept, for all VMs together. What services and health checks did is what the guests say
/// of themselves.
#[derive(clap::Args)]
pub struct Args {
    /// Show what happens from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Begin with what happened since: a date (2026-01-31), a time (2026-01-31T12:00:00Z) or a span before now (90m)
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only what happened to one VM
    #[arg(long, value_name = "NAME")]
    vm: Option<VmName>,
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
}

/// How often a reader that follows looks whether there is more.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut events = context.engine_to_look()?.event_log();
    if args.follow && args.since.is_none() {
        events.skip_to_end()?;
    }
    loop {
        while let Some(event) = events.next_event()? {
            let wanted = args.since.is_none_or(|since| event.time >= since.0)
                && args.vm.as_ref().is_none_or(|vm| *vm == event.vm);
            if wanted {
                context.printer.line(if args.json {
                    serde_json::to_string(&event)?
                } else {
                    text(&event)
                })?;
            }
        }
        if !args.follow || context.signals.cancel().requested() {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
}

fn text(event: &VmEvent) -> String {
    let what = match &event.what {
        Happening::Started { isolation } => format!("started, {isolation}"),
        Happening::Ready {} => "ready".to_owned(),
        Happening::Service { service, state, reason: None } => format!("service {service}: {state}"),
        Happening::Service { service, state, reason: Some(reason) } => {
            format!("service {service}: {state} ({reason})")
        }
        Happening::Health { check, health, .. } => format!("health check {check}: {health}"),
        Happening::Paused {} => "paused".to_owned(),
        Happening::Resumed {} => "resumed".to_owned(),
        Happening::Stopping {} => "stopping".to_owned(),
        Happening::Exited { exit_code: Some(code) } => format!("exited with {code}"),
        Happening::Exited { exit_code: None } => "stopped".to_owned(),
        Happening::Died { message } => format!("died: {message}"),
        Happening::Restarting { attempt, delay_ms } => {
            format!("restarting in {delay_ms} ms (attempt {attempt})")
        }
        Happening::Renamed { from } => format!("renamed, was {from}"),
        Happening::Removed {} => "removed".to_owned(),
        Happening::Updated { generation } => format!("updated, now generation {generation}"),
        Happening::Dropped { count } => format!("{count} events left out: there were too many"),
    };
    let line = format!("{}  {}  {what}", event.time, event.vm);
    // A guest chose some of it.
    shown(line.as_bytes())
}
