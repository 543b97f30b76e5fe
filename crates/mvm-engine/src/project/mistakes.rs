//! What is wrong with an `mvm.toml`, each thing with its place.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most mistakes that are told at once; more of them have one cause.
const MAX_SHOWN: usize = 20;
/// Longest part of a line that is shown.
const MAX_SHOWN_LINE: usize = 160;

/// A part of a text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub start: usize,
    pub end: usize,
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What was meant, perhaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line's text.
    #[serde(skip)]
    source: String,
    /// How many of its characters the mistake takes.
    #[serde(skip)]
    width: usize,
}

/// Says that a file is no `mvm.toml`, with every mistake in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ProjectMistakes {
    file: PathBuf,
    mistakes: Vec<Mistake>,
}

impl Mistake {
    pub(super) fn new(text: &str, span: Span, message: String, help: Option<String>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = text.floor_char_boundary(span.end.clamp(start, line_end.max(start)));
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message,
            help,
            source: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: text[start..end].trim_end().chars().count().max(1),
        }
    }

    /// Leaves out of the line what is wrong in it, and what follows that.
    pub(super) fn unseen(mut self) -> Self {
        self.source = self.source.chars().take(self.column - 1).chain("…".chars()).collect();
        self.width = 1;
        self
    }

    /// Writes the line and a mark under the part of it that is meant.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs would put the mark elsewhere, other control characters the terminal.
        let visible = |c: char| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        };
        let before = self.column - 1;
        let skipped = before.saturating_sub(MAX_SHOWN_LINE / 2);
        let shown: String = self.source.chars().skip(skipped).take(MAX_SHOWN_LINE).map(visible).collect();
        let width = self.width.min(shown.chars().count().saturating_sub(before - skipped)).max(1);
        writeln!(f, "  {number} | {}", shown.trim_end())?;
        write!(f, "  {margin} | {}{}", " ".repeat(before - skipped), "^".repeat(width))?;
        match &self.help {
            Some(help) => write!(f, " {}", help.chars().map(visible).collect::<String>()),
            None => Ok(()),
        }
    }
}

/// Replaces what would put a mark elsewhere, or steer a terminal.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

impl ProjectMistakes {
    pub(super) fn new(file: &Path, mistakes: Vec<Mistake>) -> Self {
        Self { file: file.to_owned(), mistakes }
    }

    /// Returns the mistakes, in the order in which they stand in the file.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Returns the file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl fmt::Display for ProjectMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().take(MAX_SHOWN).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Mistake { line, column, message, .. } = mistake;
            let told = format!("{}:{line}:{column}: {message}", self.file.display());
            writeln!(f, "{}", told.chars().map(visible).collect::<String>())?;
            mistake.show(f)?;
        }
        match self.mistakes.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}
