//! Wall time and peak memory of a program.
//!
//! The kernel tells the peak memory of children that were waited for, of all of them together. So a program is started
//! by a process that has no other child: this test program again, with [`FLAG`] as its first argument.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::process::Program;

/// First argument of a test program that is to measure another.
pub const FLAG: &str = "--measure";

/// What a program took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// Time of processors, in the kernel too.
    pub processor: Duration,
    /// Largest resident set, in bytes.
    pub peak: u64,
}

/// Describes a run of `program` whose cost goes to the file `report`.
pub fn measured(program: &Path, report: &Path) -> io::Result<Program> {
    Ok(Program::new(std::env::current_exe()?).clean_env().arg(FLAG).arg(report).arg(program))
}

/// Reads what a measured program took.
pub fn read(report: &Path) -> io::Result<Cost> {
    let text = fs::read_to_string(report)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(wall)), Some(Ok(processor)), Some(Ok(peak))) => {
            let (wall, processor) = (Duration::from_micros(wall), Duration::from_micros(processor));
            Ok(Cost { wall, processor, peak })
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a report: {text:?}"))),
    }
}

/// Runs and measures the program that the arguments name, and ends as it does. Returns nothing if the arguments ask for
/// something else.
pub fn helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != FLAG {
        return None;
    }
    let (report, program) = (arguments.next()?, arguments.next()?);
    let begin = Instant::now();
    let status = Command::new(program).args(arguments).status();
    let wall = begin.elapsed().as_micros();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let peak = usage.map_or(-1, |usage| usage.max_rss() * 1024);
    let processor = usage.map_or(-1, |usage| (usage.user_time() + usage.system_time()).num_microseconds());
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Some(match fs::write(report, format!("{wall} {processor} {peak}")) {
        // A program that a signal ended gives a code that none of ours has.
        Ok(()) => ExitCode::from(code.unwrap_or(255)),
        Err(_) => ExitCode::from(254),
    })
}
