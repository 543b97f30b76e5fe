//! The one way out: data to stdout, words to stderr.

use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

/// Writes data and words, each where it belongs.
#[derive(Clone, Copy)]
pub struct Printer {
    quiet: bool,
}

impl Printer {
    /// Makes a printer; a quiet one drops words that are not errors.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Returns whether progress bars make sense.
    pub fn interactive(&self) -> bool {
        !self.quiet && io::stderr().is_terminal() && !crate::environment::no_color()
    }

    /// Writes data, as it is, to stdout.
    pub fn data(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref())?;
        out.flush()
    }

    /// Says whether data goes to somebody's eyes.
    pub fn shows_data(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Returns stdout itself, for data that is long.
    pub fn raw(&self) -> io::Result<File> {
        Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
    }

    /// Writes one line of data to stdout.
    pub fn line(&self, text: impl std::fmt::Display) -> io::Result<()> {
        self.data(format!("{text}\n"))
    }

    /// Returns a way for many lines of data.
    pub fn stream(&self) -> Lines {
        Lines(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Writes a value to stdout as indented JSON.
    pub fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        Ok(self.data(text)?)
    }

    /// Writes rows to stdout in aligned columns under a heading.
    pub fn table(&self, heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.data(aligned(heading, rows))
    }

    /// Writes data, as it is, to stderr.
    pub fn aside(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        io::stderr().lock().write_all(text.as_ref())
    }

    /// Writes words for a person to stderr, unless only errors are wanted.
    pub fn words(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            self.always(text);
        }
    }

    /// Writes words for a person to stderr. A closed stderr is nobody listening, which is no error.
    pub fn always(&self, text: impl std::fmt::Display) {
        drop(writeln!(io::stderr(), "{text}"));
    }
}

/// Writes many lines of data to stdout, a buffer at a time.
pub struct Lines(BufWriter<io::StdoutLock<'static>>);

impl Lines {
    /// Writes one line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        self.0.write_all(b"\n")
    }

    /// Writes what is still in the buffer.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns rows in aligned columns under a heading.
pub fn aligned(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns bytes that a stranger chose as text that can neither break a line nor steer a terminal, nor reorder or hide
/// what is around it: such bytes are shown as `\xNN`.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let number = |text: &mut String, byte: u8| {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        text.extend(['\\', 'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let hidden = matches!(c,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            match c.is_control() || hidden {
                true => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| number(&mut text, byte)),
                false => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&byte| number(&mut text, byte));
    }
    text
}

/// Formats a count of bytes with a decimal unit, as docker does: `4.27MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Formats a span of seconds as its largest unit: `5 minutes`.
pub fn span(seconds: i64) -> String {
    let (count, unit) = match seconds.max(0) {
        s @ ..60 => (s, "second"),
        s @ ..3600 => (s / 60, "minute"),
        s @ ..86_400 => (s / 3600, "hour"),
        s => (s / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #[test]
    fn formats_bytes() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (4_273_000, "4.27MB"),
            (99_949_999, "99.9MB"),
            (999_600, "1.00MB"),
            (220_000_000, "220MB"),
            (u64::MAX, "18447PB"),
        ];
        for (count, text) in cases {
            assert_eq!(super::bytes(count), text, "{count}");
        }
    }

    #[test]
    fn formats_spans() {
        let cases = [
            (-1, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7200, "2 hours"),
            (86_400, "1 day"),
        ];
        for (seconds, text) in cases {
            assert_eq!(super::span(seconds), text, "{seconds}");
        }
    }
}
