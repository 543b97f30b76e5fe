//! What a VM's processes wrote and what happened to VMs, as lines of JSON in files that don't grow without end.
//!
//! Output of the main process is kept in a VM's directory, as `logs/output.jsonl` and the files before it, `output.jsonl.1` the
//! youngest; that of each service so in `logs/services/NAME`, so that none can push out what others wrote:
//!
//! ```text
//! {"time":"2026-01-31T12:00:00.125Z","source":"main","stream":"stdout","text":"listening\n"}
//! {"time":"2026-01-31T12:00:00.250Z","source":"main","stream":"stderr","base64":"/wo="}
//! ```
//!
//! A line holds at most one line of output, with its line break if it has come. Events of all VMs are in one file of the
//! store, `events.jsonl`, and the one before it.

mod events;
mod merge;
mod reader;
mod writer;

pub use events::{EventLog, Happening, VmEvent};
pub use merge::OutputReader;
pub use reader::LineReader;
pub use writer::Journal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_plan::UtcTime;
use serde::{Deserialize, Serialize};

/// Directory of the output's files, in a VM's directory.
pub const LOGS: &str = "logs";
/// Directory of the services' own directories, in that.
pub const SERVICES: &str = "services";
/// The file that output is appended to.
pub const OUTPUT: &str = "output.jsonl";
/// The file of the store that events are appended to.
pub const EVENTS: &str = "events.jsonl";
/// When a file of output is full, in bytes.
pub const FILE_LIMIT: u64 = 10 << 20;
/// How many files of output each source has, with the one that is written.
pub const FILES: u32 = 3;

/// The stream that output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Both, as one: of a service, or of a terminal.
    Output,
}

/// Whose output it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// `main`, or the name of a service.
    pub source: String,
    /// The stream.
    pub stream: OutputStream,
}

impl Origin {
    /// Names a stream of the main process or of a service.
    pub fn new(source: impl Into<String>, stream: OutputStream) -> Self {
        Self { source: source.into(), stream }
    }
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the host got it.
    pub time: UtcTime,
    /// Whose it is.
    pub origin: Origin,
    /// At most one line, with its line break if it has come.
    pub bytes: Vec<u8>,
}

/// A piece of output as it is in a file: its bytes as text, or, where they are no UTF-8, in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    time: UtcTime,
    source: String,
    stream: OutputStream,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl LogLine {
    /// Reads a line of a file; `None` for one that a crash or a full disk cut off.
    fn parse(line: &[u8]) -> Option<Self> {
        let Written { time, source, stream, text, base64 } = serde_json::from_slice(line).ok()?;
        let bytes = match (text, base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).ok()?,
            _ => return None,
        };
        Some(Self { time, origin: Origin { source, stream }, bytes })
    }

    /// Returns it as a line of a file.
    fn line(time: UtcTime, origin: &Origin, bytes: &[u8]) -> Vec<u8> {
        let (text, base64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(bytes))),
        };
        let written = Written { time, source: origin.source.clone(), stream: origin.stream, text, base64 };
        // Strings with string keys: serialising them into memory has no way to fail.
        let mut line = serde_json::to_vec(&written).expect("a line of output is plain data");
        line.push(b'\n');
        line
    }
}

/// Returns the current time.
fn now() -> UtcTime {
    UtcTime::from_unix_millis(crate::clock::unix_millis())
        .or_else(|_| UtcTime::from_unix_seconds(mvm_plan::time::MAX_UNIX_SECONDS))
        .expect("the last second that can be written can be written")
}

#[cfg(test)]
mod tests;
