//! The caller's terminal: raw mode while a guest's command has it, its size, and what is attached to it.

use crate::printer::Printer;
use crate::signals::Signals;
use anyhow::Context as _;
use mvm_engine::{
    Attachment, Cancel, ControlConnection, DetachKeys, EngineError, Secret, Target, WindowSize,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

/// Which of the caller's streams the command gets.
pub struct Streams {
    pub stdin: bool,
    pub terminal: bool,
    /// Keys that leave a main command which has a terminal.
    pub keys: DetachKeys,
}

/// How a main command with a terminal is left.
#[derive(clap::Args)]
pub struct Leaving {
    /// Keys that leave the command running, where it has a terminal: characters and ctrl-LETTER, none if empty
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: DetachKeys,
}

/// Fails unless stdin is a terminal.
pub fn require() -> anyhow::Result<()> {
    anyhow::ensure!(
        io::stdin().is_terminal(),
        "-t with -i needs a terminal on stdin; leave out -t to pipe data into the command"
    );
    Ok(())
}

/// Connects the caller's streams and signals to a command until it ends, and returns its exit code; 0 if it was left.
pub fn attach(
    connection: ControlConnection,
    target: Target,
    streams: Streams,
    signals: &Signals,
    printer: Printer,
) -> anyhow::Result<u8> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut signals = signals.attach().context("take over signals")?;
    // Without -i the keyboard stays the caller's, and so does its mode.
    let raw = (streams.terminal && streams.stdin).then(|| Mode::raw(stdin.as_fd())).transpose();
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
            keys: streams.keys,
            signals: &mut signals,
        },
    );
    drop(raw);
    match status? {
        Some(status) => Ok(status),
        None => {
            printer.words("left it running");
            Ok(0)
        }
    }
}

fn window_size(stdout: &io::Stdout, stdin: &io::Stdin) -> WindowSize {
    let size = termios::tcgetwinsize(stdout).or_else(|_| termios::tcgetwinsize(stdin));
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => WindowSize { rows: size.ws_row, cols: size.ws_col },
        _ => WindowSize { rows: 24, cols: 80 },
    }
}

/// Whether what is typed shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    Visible,
    Hidden,
}

/// Longest answer to a question, in bytes; a terminal's line ends there.
const MAX_ANSWER: usize = 4096;
/// No character, in the place of one that the terminal acts upon (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// Asks a question on the terminal and returns the line that is typed; `instead` says how to do without a terminal.
///
/// Where stdin is something else, as with a command that gets data through it, the controlling terminal is asked on.
pub fn ask(question: &str, echo: Echo, cancel: &Cancel, instead: &str) -> anyhow::Result<Secret> {
    let stdin = io::stdin();
    let controlling = match stdin.is_terminal() {
        true => None,
        false => Some(
            File::open("/dev/tty").with_context(|| format!("there is no terminal to ask on; {instead}"))?,
        ),
    };
    let terminal = controlling.as_ref().map_or_else(|| stdin.as_fd(), File::as_fd);
    let hidden = (echo == Echo::Hidden).then(|| Mode::hidden(terminal)).transpose();
    let hidden = hidden.context("stop the terminal from showing what is typed")?;
    write!(io::stderr(), "{question}").context("ask on the terminal")?;
    let line = read_line(terminal, cancel);
    if hidden.is_some() {
        // The line break that was typed did not show either.
        writeln!(io::stderr()).context("write to the terminal")?;
    }
    drop(hidden);
    line
}

fn read_line(terminal: BorrowedFd<'_>, cancel: &Cancel) -> anyhow::Result<Secret> {
    let mut line = Vec::with_capacity(MAX_ANSWER);
    while !line.ends_with(b"\n") && line.len() < MAX_ANSWER {
        if cancel.requested() {
            return Err(EngineError::Interrupted.into());
        }
        match poll(&mut [PollFd::new(&terminal, PollFlags::IN)], None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).context("wait for an answer"),
        }
        let mut byte = [0];
        match rustix::io::read(terminal, &mut byte) {
            Ok(0) => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("read the answer"),
        }
    }
    match String::from_utf8(line) {
        Ok(line) => Ok(without_line_break(line)),
        Err(_) => anyhow::bail!("the answer is not UTF-8"),
    }
}

/// Takes one line break off the end of a secret.
pub fn without_line_break(mut text: String) -> Secret {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Secret::from(text)
}

/// The terminal in another mode; the old one comes back on drop.
struct Mode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Mode<'a> {
    fn raw(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        Self::change(terminal, Termios::make_raw)
    }

    /// Lines, without showing what is typed.
    fn hidden(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        Self::change(terminal, |mode| {
            mode.local_modes.remove(LocalModes::ECHO);
            // A shell that stopped us would show what is typed after we went on.
            mode.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        })
    }

    fn change(terminal: BorrowedFd<'a>, change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut mode = before.clone();
        change(&mut mode);
        termios::tcsetattr(terminal, OptionalActions::Now, &mode)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        if termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before).is_err() {
            // The terminal is gone, and with it whoever could be told.
        }
    }
}
