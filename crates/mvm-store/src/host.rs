//! What the kernel says about this boot and about processes, from `proc(5)`.

use std::io;
use std::path::PathBuf;

/// Says which question to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A file of `/proc` could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A `stat` file of `/proc` does not have the fields of `proc(5)`.
    #[error("cannot find the start time in {}", path.display())]
    StartTime {
        /// The file.
        path: PathBuf,
    },
    /// There is no such process.
    #[error("no process {pid}")]
    Gone {
        /// The process ID.
        pid: u32,
    },
}

/// One process of this boot, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pid: u32,
    start_time: u64,
}

impl ProcessId {
    /// Returns the calling process.
    pub fn current() -> Result<Self, ProcessError> {
        Self::of(std::process::id())
    }

    /// Returns the live process with this number.
    pub fn of(pid: u32) -> Result<Self, ProcessError> {
        let start_time = start_time(pid)?.ok_or(ProcessError::Gone { pid })?;
        Ok(Self { pid, start_time })
    }

    /// Joins a number and a start time (clock ticks since boot, field 22 of `/proc/PID/stat`).
    pub fn from_parts(pid: u32, start_time: u64) -> Self {
        Self { pid, start_time }
    }

    /// Returns the process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the start time in clock ticks since boot.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Says whether the process still runs; a zombie does not.
    pub fn is_alive(&self) -> Result<bool, ProcessError> {
        Ok(start_time(self.pid)? == Some(self.start_time))
    }
}

/// The boot and the process namespace that this program runs in.
#[derive(Debug)]
pub(crate) struct Host {
    /// A UUID that the kernel draws at each boot.
    pub(crate) boot_id: String,
    /// Within which process numbers mean something.
    pub(crate) pid_namespace: String,
}

impl Host {
    /// Asks the kernel.
    pub(crate) fn read() -> Result<Self, ProcessError> {
        let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
        let boot_id = std::fs::read_to_string(&path)
            .map_err(|source| ProcessError::Read { path, source })?
            .trim()
            .to_owned();
        let path = PathBuf::from("/proc/self/ns/pid");
        let pid_namespace = std::fs::read_link(&path)
            .map_err(|source| ProcessError::Read { path, source })?
            .to_string_lossy()
            .into_owned();
        Ok(Self { boot_id, pid_namespace })
    }
}

fn start_time(pid: u32) -> Result<Option<u64>, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if gone(&error) => return Ok(None),
        Err(source) => return Err(ProcessError::Read { path, source }),
    };
    parse_stat(&text).ok_or(ProcessError::StartTime { path })
}

fn gone(error: &io::Error) -> bool {
    let srch = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(srch)
}

/// Returns the start time of a live process, none of a dead one; none at all if the text has another shape.
fn parse_stat(text: &[u8]) -> Option<Option<u64>> {
    // The name is in parentheses and may hold any byte, so the fields count from the last parenthesis.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((!matches!(state, "Z" | "X" | "x")).then_some(start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = |name: &str, state: &str| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 10 20\n")
        };
        for (text, expected) in [
            (line("sh", "S"), Some(Some(123_456))),
            (line(") R 1 (", "R"), Some(Some(123_456))),
            (line("sh", "Z"), Some(None)),
            ("7 (sh".to_owned(), None),
            ("7 (sh) S 1 7".to_owned(), None),
        ] {
            assert_eq!(parse_stat(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn this_process_is_alive_and_its_number_alone_is_not_enough() {
        let here = ProcessId::current().unwrap();
        assert!(here.is_alive().unwrap());
        assert!(!ProcessId::from_parts(here.pid(), here.start_time() + 1).is_alive().unwrap());
        assert!(!ProcessId::from_parts(u32::MAX, 1).is_alive().unwrap());
    }
}
