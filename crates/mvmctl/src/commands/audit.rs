//! `mvmctl audit …`.

mod export;
mod moment;
mod show;
mod text;
mod verify;

use crate::context::Context;
use anyhow::Context as _;
use clap::Subcommand;
pub use moment::Moment;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use text::Users;

/// Read, check, sign and export the audit log
#[derive(Subcommand)]
pub enum Command {
    /// Print the last entries
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
        lines: usize,
        /// Go on with entries as they are written
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Print all that the log has about an entry's number, a VM, a plan or another digest
    Show {
        /// Number of an entry, name of a VM, or the beginning of a digest
        what: String,
        /// Print the entries as they stand, one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check that no entry was edited, reordered, put in or removed, as far as the evidence goes
    Verify {
        /// A witness to hold the log against, in place of the one of `audit witness`
        #[arg(long, value_name = "FILE")]
        witness: Option<PathBuf>,
        /// A public key (PEM) that checkpoints may be signed with, beside those of the store
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write entries of a span of time for other programs
    Export {
        /// Entries from then on: 2026-01-31, 2026-01-31T12:00:00Z, or a span before now: 90m, 24h, 7d
        #[arg(long, value_name = "TIME")]
        since: Option<Moment>,
        /// Entries before then
        #[arg(long, value_name = "TIME")]
        until: Option<Moment>,
        /// As JSON Lines, just as they stand in the log, or as CSV (RFC 4180)
        #[arg(long, value_enum, default_value = "jsonl")]
        format: export::Format,
    },
    /// Sign the log up to its end now, and give that to its witness
    Checkpoint {
        /// Give it to this witness as well
        #[arg(long, value_name = "FILE")]
        witness: Option<PathBuf>,
    },
    /// Go on in a new file; the one before keeps its place in the chain
    Rotate,
    /// Say where checkpoints are copied to, or have them copied to a file from now on
    Witness {
        /// The file, best on another machine's disk and where it can only be appended to
        file: Option<PathBuf>,
        /// Have them copied no more
        #[arg(long, conflicts_with = "file")]
        off: bool,
    },
}

/// How entries are printed.
#[derive(clap::Args)]
pub struct Form {
    /// Print the entries as they stand, one JSON object a line; so it is where stdout is no terminal
    #[arg(long)]
    json: bool,
    /// Print a line for people, also where stdout is no terminal
    #[arg(long, conflicts_with = "json")]
    text: bool,
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tail { lines, follow, form } => return tail(context, lines, follow, &form),
        Command::Show { what, json } => show::run(context, &what, json)?,
        Command::Verify { witness, key, json } => verify::run(context, witness, key, json)?,
        Command::Export { since, until, format } => return export::run(context, since, until, format),
        Command::Checkpoint { witness } => match context
            .engine_of_existing()?
            .audit_checkpoint(witness.as_deref())?
        {
            Some(signed) => {
                context.printer.line(format!("signed {} entries, head {}", signed.entries, signed.head))?;
            }
            None => context.printer.words("the audit log is empty; there is nothing to sign"),
        },
        Command::Rotate => match context.engine_of_existing()?.audit_rotate()? {
            Some(kept) => context.printer.line(kept.display())?,
            None => context.printer.words("nothing has been written since the last time"),
        },
        Command::Witness { file, off } => witness(context, file, off)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn witness(context: &Context, file: Option<PathBuf>, off: bool) -> anyhow::Result<()> {
    let engine = context.engine_of_existing()?;
    if file.is_none() && !off {
        let witness = engine.audit_settings()?.witness;
        let witness = witness.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        return Ok(context.printer.line(text::visible(&witness))?);
    }
    let file = file.map(std::path::absolute).transpose().context("resolve the witness")?;
    Ok(engine.audit_set_witness(file)?)
}

fn tail(context: &Context, count: usize, follow: bool, form: &Form) -> anyhow::Result<ExitCode> {
    let people = form.text || (!form.json && context.printer.shows_data());
    let users = Users::of_this_machine();
    let print = |lines: &[u8]| -> io::Result<()> {
        let mut out = context.printer.stream();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if people {
                out.line(&text::line(line, &users))?;
            } else if context.printer.shows_data() {
                out.line(&text::visible_json(line))?;
            } else {
                out.line(&String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)))?;
            }
        }
        out.finish()
    };
    if !follow {
        print(&context.engine_of_existing()?.audit_tail(count)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (lines, mut follower) = context.engine_of_existing()?.audit_follow(count)?;
    print(&lines)?;
    while !context.signals.cancel().requested() {
        if nobody_reads()? {
            return Ok(ExitCode::from(141));
        }
        print(&follower.poll()?)?;
    }
    Ok(ExitCode::from(130))
}

/// Waits a while, and says whether whoever read stdout has gone.
fn nobody_reads() -> io::Result<bool> {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let wait = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    match poll(&mut polled, Some(&wait)) {
        Ok(_) => Ok(polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
