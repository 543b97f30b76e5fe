//! `mvmctl doctor`.

use crate::context::Context;
use std::process::ExitCode;

/// Say what this machine lacks, why it matters, and the command that mends it
#[derive(clap::Args)]
pub struct Args {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb. The exit code is 8 if something is missing that `run` can't do without.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let checks = context.doctor();
    let failed = checks.iter().any(|check| check.required && !check.ok);
    if args.json {
        context.printer.json(&checks)?;
    } else {
        for check in &checks {
            let mark = match (check.ok, check.required) {
                (true, _) => "ok     ",
                (false, true) => "MISSING",
                (false, false) => "absent ",
            };
            context.printer.line(format!("{mark}  {}: {}", check.name, check.found))?;
            if !check.ok {
                context.printer.line(format!("         why: {}", check.why))?;
                context.printer.line(format!("         do:  {}", check.remedy))?;
            }
        }
    }
    Ok(ExitCode::from(if failed { 8 } else { 0 }))
}
