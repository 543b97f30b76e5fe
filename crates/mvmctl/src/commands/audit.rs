//! `mvmctl audit …`.

use crate::context::Context;
use clap::Subcommand;
use std::process::ExitCode;

/// Read and check the audit log
#[derive(Subcommand)]
pub enum Command {
    /// Print the last entries, one JSON object a line
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
        lines: usize,
    },
    /// Check that every entry carries the hash of the one before
    Verify,
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    match command {
        Command::Tail { lines } => context.printer.data(engine.audit_tail(lines)?)?,
        Command::Verify => {
            let summary = engine.audit_verify()?;
            context.printer.line(format!("ok: {} entries, head {}", summary.entries, summary.head))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
