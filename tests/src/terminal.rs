//! A terminal, and programs that run on it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::process::{ProcessError, Program};

/// How long something may take to show.
const LIMIT: Duration = Duration::from_secs(120);

/// What is typed, and what shows.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(OsStr::from_bytes(name.as_bytes()), flags, Mode::empty())?;
        Ok(Self { master: master.into(), slave: slave.into() })
    }

    /// Starts a program on it.
    pub fn start(&self, program: Program) -> Result<Child, ProcessError> {
        let command = program.describe();
        let failed = |source| ProcessError::Run { command: command.clone(), source };
        let end = || self.slave.try_clone().map_err(failed);
        program.spawn_with(end()?, end()?, end()?)
    }

    /// Types a text.
    pub fn type_text(&self, text: &str) -> io::Result<()> {
        (&self.master).write_all(text.as_bytes())
    }

    /// Waits until it shows a text, and says whether that came in time.
    pub fn shows(&self, text: &str) -> io::Result<bool> {
        let begin = Instant::now();
        let mut shown = Vec::new();
        while begin.elapsed() < LIMIT {
            let mut polled = [PollFd::new(&self.master, PollFlags::IN)];
            let step = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if poll(&mut polled, Some(&step))? > 0 {
                let mut buffer = [0; 4096];
                let count = (&self.master).read(&mut buffer)?;
                shown.extend_from_slice(&buffer[..count]);
            }
            if String::from_utf8_lossy(&shown).contains(text) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
