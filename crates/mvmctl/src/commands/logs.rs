//! `mvmctl logs`.

use crate::commands::audit::Moment;
use crate::context::Context;
use crate::printer::shown;
use mvm_engine::{LogLine, Origin, OutputStream, VmLogs};
use mvm_ref::VmName;
use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Print what a VM's command and services wrote
///
/// The main command's output goes where it would have gone, stdout and stderr apart; services have their names before
/// their lines. On a terminal, control characters are shown and not obeyed; elsewhere all bytes are as they came. The
/// last 20 to 30 MiB of each are kept, over restarts of the VM too.
#[derive(clap::Args)]
pub struct Args {
    /// Go on with what comes, until the VM ends
    #[arg(long, short)]
    follow: bool,
    /// Leave out what came before: a date (2026-01-31), a time (2026-01-31T12:00:00Z) or a span before now (90m)
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Begin with the last N lines
    #[arg(long, short = 'n', value_name = "N|all", default_value = "all")]
    tail: Tail,
    /// Only what one service wrote; `main` is the main command
    #[arg(long, short, value_name = "NAME")]
    service: Option<String>,
    /// Put before each line when the host got it
    #[arg(long, short)]
    timestamps: bool,
    /// Print what the guest's kernel wrote to its console since the VM started, instead
    #[arg(long, conflicts_with_all = ["follow", "since", "tail", "service", "timestamps"])]
    console: bool,
    /// The VM
    name: VmName,
}

/// How many lines to begin with.
#[derive(Clone, Copy)]
struct Tail(Option<usize>);

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(None)),
            text => {
                text.parse().map(|count| Self(Some(count))).map_err(|_| "expected a number or all".to_owned())
            }
        }
    }
}

/// How often a reader that follows looks whether there is more.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    if args.console {
        let text = engine.console(&args.name)?;
        let text = if context.printer.shows_data() { harmless(&text).into_bytes() } else { text };
        context.printer.data(text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut logs = engine.logs(&args.name, args.service.as_deref())?;
    let named = args.service.is_none() && logs.has_services()?;
    let mut out = Out::new(context, named, args.timestamps);
    for line in begin(&args, &mut logs)? {
        out.put(&line)?;
    }
    out.flush()?;
    while args.follow && !context.signals.cancel().requested() {
        // In this order: what was written before the end is read after it was seen.
        let over = logs.is_over()?;
        while let Some(line) = logs.next_line()? {
            if wanted(&args, &line) {
                out.put(&line)?;
            }
            if context.signals.cancel().requested() {
                break;
            }
        }
        out.flush()?;
        if over {
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: &Args, line: &LogLine) -> bool {
    args.since.is_none_or(|since| line.time >= since.0)
}

/// Reads what there is and keeps the end of it that is wanted.
fn begin(args: &Args, logs: &mut VmLogs) -> anyhow::Result<VecDeque<LogLine>> {
    let mut kept: VecDeque<(bool, LogLine)> = VecDeque::new();
    let mut open: BTreeMap<Origin, bool> = BTreeMap::new();
    let mut lines = 0;
    let now = mvm_engine::unix_seconds();
    while let Some(line) = logs.next_line()? {
        // What is written faster than it is read has no end.
        let late = line.time.unix_seconds() > now + 1;
        if !wanted(args, &line) {
            continue;
        }
        let begins = !open.insert(line.origin.clone(), !line.bytes.ends_with(b"\n")).unwrap_or(false);
        lines += usize::from(begins);
        kept.push_back((begins, line));
        while args.tail.0.is_some_and(|most| lines > most) {
            let Some((begins, _)) = kept.pop_front() else { break };
            lines -= usize::from(begins);
        }
        if late {
            break;
        }
    }
    // A line that is left out goes with all its pieces.
    let skip = if args.tail.0.is_some() { kept.iter().take_while(|(begins, _)| !begins).count() } else { 0 };
    Ok(kept.into_iter().skip(skip).map(|(_, line)| line).collect())
}

/// Prints lines, each where it belongs.
struct Out<'a> {
    context: &'a Context,
    /// Whether lines have the names of services before them.
    named: bool,
    timestamps: bool,
    escaped: bool,
    /// Whose line has no end yet.
    open: Option<Origin>,
    /// What is still to be written, and whether to stderr.
    held: (bool, Vec<u8>),
}

/// How much is held before it is written.
const HELD: usize = 64 << 10;

impl<'a> Out<'a> {
    fn new(context: &'a Context, named: bool, timestamps: bool) -> Self {
        Self {
            context,
            named,
            timestamps,
            escaped: context.printer.shows_data(),
            open: None,
            held: (false, Vec::new()),
        }
    }

    fn put(&mut self, line: &LogLine) -> anyhow::Result<()> {
        let aside = line.origin.stream == OutputStream::Stderr;
        if aside != self.held.0 || self.held.1.len() >= HELD {
            self.flush()?;
            self.held.0 = aside;
        }
        let text = &mut self.held.1;
        if self.named || self.timestamps {
            if self.open.as_ref().is_some_and(|open| *open != line.origin) {
                text.push(b'\n');
                self.open = None;
            }
            if self.open.is_none() {
                if self.timestamps {
                    text.extend(format!("{} ", line.time).bytes());
                }
                if self.named {
                    text.extend(format!("{} | ", line.origin.source).bytes());
                }
            }
        }
        if self.escaped {
            text.extend(harmless(&line.bytes).bytes());
        } else {
            text.extend(&line.bytes);
        }
        self.open = (!line.bytes.ends_with(b"\n")).then(|| line.origin.clone());
        Ok(())
    }

    /// Writes what is held.
    fn flush(&mut self) -> anyhow::Result<()> {
        let (aside, text) = (self.held.0, std::mem::take(&mut self.held.1));
        match (text.is_empty(), aside) {
            (true, _) => {}
            (false, true) => self.context.printer.aside(text)?,
            (false, false) => self.context.printer.data(text)?,
        }
        Ok(())
    }
}

/// Returns text whose control characters a terminal shows: all but line breaks and tabs, as `\xNN`.
pub fn harmless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let (line, end) = match line.strip_suffix(b"\n") {
            // A terminal in the guest ends lines so.
            Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), "\n"),
            None => (line, ""),
        };
        for (index, part) in line.split(|&byte| byte == b'\t').enumerate() {
            if index > 0 {
                text.push('\t');
            }
            text.push_str(&shown(part));
        }
        text.push_str(end);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_shown() {
        let table: [(&[u8], &str); 5] = [
            (b"plain\n", "plain\n"),
            (b"a\tb\r\n", "a\tb\n"),
            (b"\x1b[2J\x07", "\\x1b[2J\\x07"),
            (b"\xffx\n\r\n", "\\xffx\n\n"),
            ("é \u{202e}".as_bytes(), "é \\xe2\\x80\\xae"),
        ];
        for (bytes, expected) in table {
            assert_eq!(super::harmless(bytes), expected);
        }
    }
}
