//! The caller's terminal: raw mode while a guest's command has it, its size, and what is attached to it.

use crate::signals::Signals;
use anyhow::Context as _;
use mvm_engine::{Attachment, ControlConnection, Target, WindowSize};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

/// Which of the caller's streams the command gets.
#[derive(Clone, Copy)]
pub struct Streams {
    pub stdin: bool,
    pub terminal: bool,
}

/// Fails unless stdin is a terminal.
pub fn require() -> anyhow::Result<()> {
    anyhow::ensure!(
        io::stdin().is_terminal(),
        "-t with -i needs a terminal on stdin; leave out -t to pipe data into the command"
    );
    Ok(())
}

/// Connects the caller's streams and signals to a command until it ends, and returns its exit code.
pub fn attach(
    connection: ControlConnection,
    target: Target,
    streams: Streams,
    signals: &Signals,
) -> anyhow::Result<u8> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut signals = signals.attach().context("take over signals")?;
    // Without -i the keyboard stays the caller's, and so does its mode.
    let raw = (streams.terminal && streams.stdin).then(|| RawMode::enter(stdin.as_fd())).transpose();
    let raw = raw.context("put the terminal into raw mode")?;
    let size = || window_size(&stdout, &stdin);
    let status = mvm_engine::attach(
        connection,
        target,
        Attachment {
            stdin: streams.stdin.then(|| stdin.as_fd()),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
            terminal: streams.terminal.then_some(&size),
            signals: &mut signals,
        },
    );
    drop(raw);
    Ok(status?)
}

fn window_size(stdout: &io::Stdout, stdin: &io::Stdin) -> WindowSize {
    let size = termios::tcgetwinsize(stdout).or_else(|_| termios::tcgetwinsize(stdin));
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => WindowSize { rows: size.ws_row, cols: size.ws_col },
        _ => WindowSize { rows: 24, cols: 80 },
    }
}

/// The terminal in raw mode; the old mode comes back on drop.
struct RawMode<'a> {
    terminal: std::os::fd::BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    fn enter(terminal: std::os::fd::BorrowedFd<'a>) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        if termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before).is_err() {
            // The terminal is gone, and with it whoever could be told.
        }
    }
}
