//! What is told to people: of ends, and of what others wrote.

use mvm_wire::ExitStatus;
use nix::sys::signal::Signal;

/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// Returns how a process ended.
pub(super) fn exit(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(number) => match Signal::try_from(number) {
            Ok(signal) => format!("ended by signal {number} ({signal})"),
            Err(_) => format!("ended by signal {number}"),
        },
    }
}

/// Returns the beginning of a reason, without control characters.
pub(super) fn bounded(text: &str) -> String {
    beginning(text, MAX_REASON, |_| false)
}

/// Returns the beginning of what a process wrote: UTF-8, lines and tabs, at most `limit` bytes.
pub(super) fn output(bytes: &[u8], limit: usize) -> String {
    beginning(&String::from_utf8_lossy(bytes), limit, |character| matches!(character, '\n' | '\t'))
}

/// Returns as many characters as fit, control characters replaced unless they are to be kept.
fn beginning(text: &str, limit: usize, keep: impl Fn(char) -> bool) -> String {
    let mut beginning = String::new();
    for character in text.chars() {
        let shown = if character.is_control() && !keep(character) { '\u{fffd}' } else { character };
        if beginning.len() + shown.len_utf8() > limit {
            break;
        }
        beginning.push(shown);
    }
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_words() {
        for (status, expected) in [
            (ExitStatus::Code(3), "exited with code 3"),
            (ExitStatus::Signal(9), "ended by signal 9 (SIGKILL)"),
            (ExitStatus::Signal(34), "ended by signal 34"),
        ] {
            assert_eq!(exit(status), expected);
        }
    }

    #[test]
    fn what_others_wrote_is_cut_and_made_plain() {
        assert_eq!(bounded("a\x1b[31mb\nc\u{9b}"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
        assert_eq!(bounded(&"\u{e4}".repeat(600)).len(), 1024);
        assert_eq!(bounded(&format!("x{}", "\u{e4}".repeat(600))).len(), 1023);
        assert_eq!(output(b"a\tb\n\x07\xff", 100), "a\tb\n\u{fffd}\u{fffd}");
        assert_eq!(output(&[0; 4096], 4096).len(), 4095);
    }
}
