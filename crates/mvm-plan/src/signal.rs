//! The signal that asks a process to end, as image configs and command lines name it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A Linux signal, 1 to 64, written by its name: `SIGTERM`, `SIGRTMIN+3`.
///
/// Source: signal(7), the numbering of x86 and Arm; OCI image-spec, `config.md`, property `StopSignal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

/// Says that a text names no signal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("signal {0:?} is not known; expected a name such as SIGTERM or SIGRTMIN+3, or a number from 1 to 64")]
pub struct SignalError(String);

/// The first real-time signal that glibc leaves to programs.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// Names by number, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// What a process gets when its image names no signal.
    pub const TERM: Self = Self(15);

    /// Returns the number.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (NAMES.get(usize::from(self.0) - 1), self.0) {
            (Some(name), _) => write!(f, "SIG{name}"),
            (None, RTMIN) => f.write_str("SIGRTMIN"),
            (None, RTMAX) => f.write_str("SIGRTMAX"),
            (None, number @ RTMIN..) => write!(f, "SIGRTMIN+{}", number - RTMIN),
            (None, number) => write!(f, "{number}"),
        }
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    /// Reads a number, or a name in either case with or without `SIG`.
    fn from_str(text: &str) -> Result<Self, SignalError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |digits: &str| {
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u8>().ok()).flatten()
        };
        let number = if let Some(position) = NAMES.iter().position(|known| *known == name) {
            u8::try_from(position + 1).ok()
        } else if name == "RTMIN" {
            Some(RTMIN)
        } else if name == "RTMAX" {
            Some(RTMAX)
        } else if let Some(above) = name.strip_prefix("RTMIN+") {
            offset(above).and_then(|above| above.checked_add(RTMIN))
        } else if let Some(below) = name.strip_prefix("RTMAX-") {
            offset(below).and_then(|below| RTMAX.checked_sub(below)).filter(|number| *number >= RTMIN)
        } else {
            offset(&upper)
        };
        number
            .filter(|number| (1..=RTMAX).contains(number))
            .map(Self)
            .ok_or_else(|| SignalError(text.to_owned()))
    }
}

impl TryFrom<String> for Signal {
    type Error = SignalError;

    fn try_from(text: String) -> Result<Self, SignalError> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> String {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        let table = [
            ("SIGTERM", 15, "SIGTERM"),
            ("term", 15, "SIGTERM"),
            ("sigkill", 9, "SIGKILL"),
            ("1", 1, "SIGHUP"),
            ("31", 31, "SIGSYS"),
            ("32", 32, "32"),
            ("SIGRTMIN", 34, "SIGRTMIN"),
            ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
            ("RTMAX-1", 63, "SIGRTMIN+29"),
            ("SIGRTMAX", 64, "SIGRTMAX"),
        ];
        for (text, number, name) in table {
            let signal: Signal = text.parse().unwrap();
            assert_eq!((signal.number(), signal.to_string().as_str()), (number, name), "{text}");
        }
        for number in 1..=64u8 {
            assert_eq!(Signal(number).to_string().parse(), Ok(Signal(number)));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "0",
            "65",
            "-1",
            "+9",
            "256",
            "SIG",
            "SIG9",
            "SIGFOO",
            "RTMIN+31",
            "RTMIN+999",
            "RTMAX-31",
            "RTMIN+",
        ] {
            assert_eq!(text.parse::<Signal>(), Err(SignalError(text.to_owned())), "{text}");
        }
    }
}
