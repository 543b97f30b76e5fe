//! Running a program to its end while collecting a bounded amount of what it prints.

use super::{ExecError, Invocation, Running};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much of standard error is kept: its end, where programs say why they failed.
const STDERR_KEPT: usize = 16 * 1024;
/// How often it is looked whether a program is to be ended; a signal that this thread gets interrupts the wait.
const LOOK: Duration = Duration::from_millis(100);

/// What a run may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The time after which the program is killed.
    pub time: Duration,
    /// The bytes of standard output after which it is killed.
    pub output: usize,
}

/// Names one of a program's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    program: PathBuf,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The last 16 KiB of its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns the output if the exit code is 0, else an error that carries standard error.
    pub fn success(self) -> Result<Self, ExecError> {
        if self.status.success() {
            return Ok(self);
        }
        let stderr = String::from_utf8_lossy(&self.stderr).into_owned();
        Err(ExecError::Failed { program: self.program, status: self.status, stderr })
    }
}

struct Capture {
    pipes: [Option<OwnedFd>; 2],
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs `invocation` to its end under `limits`, or until `stop` says so; `watch` sees output as it comes.
///
/// A grandchild that keeps the pipes open does not prolong the run: once the program itself has ended, only what
/// is already in the pipes is read.
pub(super) fn run(
    invocation: Invocation,
    limits: Limits,
    watch: &mut dyn FnMut(OutputStream, &[u8]),
    stop: Option<&dyn Fn() -> bool>,
) -> Result<Output, ExecError> {
    let deadline = Instant::now() + limits.time;
    let mut running = invocation.start(Stdio::piped(), Stdio::piped())?;
    let mut capture = Capture::of(&mut running).map_err(|source| running.unwatchable(source))?;
    loop {
        if stop.is_some_and(|stop| stop()) {
            return Err(ExecError::Stopped { program: running.program.clone() });
        }
        let next = stop.map_or(deadline, |_| deadline.min(Instant::now() + LOOK));
        let ended = capture.wait(&running, next).map_err(|source| running.unwatchable(source))?;
        // After the end this reads what is left in the pipes; before it, what there is by now.
        capture.drain(watch).map_err(|source| running.unwatchable(source))?;
        if capture.stdout.len() > limits.output {
            return Err(ExecError::TooMuchOutput { program: running.program.clone(), limit: limits.output });
        }
        if ended {
            let status = running.wait().map_err(|source| running.unwatchable(source))?;
            let program = running.program.clone();
            return Ok(Output { program, status, stdout: capture.stdout, stderr: capture.stderr });
        }
        if Instant::now() >= deadline {
            return Err(ExecError::TimedOut {
                program: running.program.clone(),
                seconds: limits.time.as_secs(),
                stderr: String::from_utf8_lossy(&capture.stderr).into_owned(),
            });
        }
    }
}

impl Capture {
    fn of(running: &mut Running) -> io::Result<Self> {
        let pipes = [running.take_stdout().map(OwnedFd::from), running.take_stderr().map(OwnedFd::from)];
        for pipe in pipes.iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipes, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Waits for output, the program's end or a time; returns whether the program has ended.
    fn wait(&self, running: &Running, until: Instant) -> io::Result<bool> {
        let mut polled: Vec<PollFd<'_>> = vec![PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN)];
        polled.extend(self.pipes.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => Ok(!polled[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads at most a pipe's capacity from each stream without blocking.
    fn drain(&mut self, watch: &mut dyn FnMut(OutputStream, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        for (index, stream) in [OutputStream::Stdout, OutputStream::Stderr].into_iter().enumerate() {
            let Some(pipe) = &self.pipes[index] else { continue };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipes[index] = None,
                Ok(count) => {
                    watch(stream, &buffer[..count]);
                    self.keep(stream, &buffer[..count]);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, stream: OutputStream, bytes: &[u8]) {
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(bytes),
            OutputStream::Stderr => {
                self.stderr.extend_from_slice(bytes);
                let excess = self.stderr.len().saturating_sub(STDERR_KEPT);
                self.stderr.drain(..excess);
            }
        }
    }
}
