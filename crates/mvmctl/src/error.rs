//! From an error to words, a hint and an exit code.

use mvm_engine::{EngineError, ErrorKind};
use std::io;
use std::process::ExitCode;

/// Says that the command can't be meant as it was given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// Prints an error as one line, a hint as a second, and returns the exit code.
pub fn report(failure: &anyhow::Error, runs_a_command: bool) -> ExitCode {
    if closed_pipe(failure) {
        // Whoever read our output has seen enough.
        return ExitCode::from(141);
    }
    let engine = failure.chain().find_map(|cause| cause.downcast_ref::<EngineError>());
    let misuse = failure.is::<Misuse>();
    let other = if misuse { ErrorKind::Usage } else { ErrorKind::Failure };
    let kind = engine.map_or(other, EngineError::kind);
    let printer = crate::printer::Printer::new(false);
    let text = match engine {
        // Its mistakes are made of lines, and it has seen to it that nothing else is in them.
        Some(EngineError::Project(mistakes)) => mistakes.to_string(),
        // What Nix says has lines, with places in them.
        Some(EngineError::Build(error)) => lines(&mvm_engine::chain(error)),
        _ => chain(failure),
    };
    printer.always(format_args!("mvmctl: {text}"));
    if let Some(EngineError::Build(error)) = engine {
        error.last_lines().iter().for_each(|line| printer.always(format_args!("    {}", lines(line))));
    }
    if let Some(hint) = engine.and_then(EngineError::hint) {
        printer.always(format_args!("  hint: {hint}"));
    }
    ExitCode::from(exit_code(kind, runs_a_command))
}

/// Returns the documented exit code. `run` and `exec` keep low codes for the guest's command, as docker does.
fn exit_code(kind: ErrorKind, runs_a_command: bool) -> u8 {
    match kind {
        ErrorKind::Interrupted => 130,
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotExecutable => 126,
        _ if runs_a_command => 125,
        ErrorKind::Failure => 1,
        ErrorKind::Usage => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::Verification => 4,
        ErrorKind::Refused => 5,
        ErrorKind::Network => 6,
        ErrorKind::Conflict => 7,
        ErrorKind::Missing => 8,
        ErrorKind::Evaluation => 9,
        ErrorKind::Build => 10,
        ErrorKind::Exhausted => 11,
    }
}

/// Returns a text of several lines that no character of steers a terminal.
fn lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// Joins the causes, leaving out one that the line before it ends with.
fn chain(failure: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in failure.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    // Names from outside may hold line breaks or escapes; an error is one line.
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn closed_pipe(failure: &anyhow::Error) -> bool {
    failure.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
