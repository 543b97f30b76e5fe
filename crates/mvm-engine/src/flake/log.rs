//! What Nix says while it builds (`--log-format internal-json`): lines of `@nix {…}`, and others that are nobody's.
//!
//! The actions, types of activities and types of results are those of Nix's `logging.hh`, which 2.8 and 2.26 share. What a
//! builder writes is untrusted: a line has a limit, and so has what is kept of each derivation.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a line; a longer one is cut.
const MAX_LINE: usize = 256 << 10;
/// Lines that are kept of each derivation, for the case that it fails.
pub const LAST_LINES: usize = 30;
/// Derivations whose last lines are kept after they ended.
const ENDED: usize = 16;
/// Messages of errors that are kept.
const MAX_ERRORS: usize = 64;
/// Activities that are known at a time.
const MAX_ACTIVITIES: usize = 4096;

const ACTIVITY_COPY_PATH: u64 = 100;
const ACTIVITY_DOWNLOAD: u64 = 101;
const ACTIVITY_BUILDS: u64 = 104;
const ACTIVITY_BUILD: u64 = 105;
const RESULT_BUILD_LINE: u64 = 101;
const RESULT_PROGRESS: u64 = 105;
/// Levels of messages: errors, and what a user reads without asking for more.
const LEVEL_ERROR: u64 = 0;
const LEVEL_INFO: u64 = 3;

/// How far a build is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Derivations that were built.
    pub done: u64,
    /// Derivations that have to be built in all, as far as is known.
    pub expected: u64,
    /// Derivations that are being built.
    pub running: u64,
    /// Derivations that failed.
    pub failed: u64,
    /// Bytes that were downloaded.
    pub downloaded: u64,
}

/// What a line means to whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Words of Nix or of a derivation, for the log and the watcher.
    Line {
        /// The derivation's name; none for Nix itself.
        of: Option<String>,
        /// The text, without colours.
        text: String,
    },
    /// A line for the log alone: of an error, which is told again at the end, and better.
    Aside {
        /// The text, without colours.
        text: String,
    },
    /// A derivation begins to be built.
    Building {
        /// Its path in the store.
        derivation: String,
    },
    /// The counts have changed.
    Counted(Counts),
}

/// Reads what Nix says, and keeps what tells of a failure.
#[derive(Debug, Default)]
pub struct BuildLog {
    partial: Vec<u8>,
    cut: bool,
    activities: BTreeMap<u64, Activity>,
    counts: Counts,
    downloads: BTreeMap<u64, u64>,
    ended: VecDeque<Derivation>,
    built: Vec<String>,
    errors: Vec<NixError>,
    source: Option<String>,
}

/// A message of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NixError {
    /// The error itself, one line as a rule, without colours.
    pub message: String,
    /// All of it, with the place and the trace.
    pub text: String,
}

#[derive(Debug)]
enum Activity {
    Builds,
    Build(Derivation),
    Download,
}

/// A derivation that is or was being built, and its last lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derivation {
    /// Its path in the store.
    pub drv: String,
    /// The last lines that it wrote.
    pub lines: VecDeque<String>,
}

#[derive(Deserialize)]
struct Line {
    action: String,
    #[serde(default)]
    id: u64,
    #[serde(default, rename = "type")]
    kind: u64,
    #[serde(default)]
    level: u64,
    #[serde(default)]
    fields: Vec<Value>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    raw_msg: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

impl BuildLog {
    /// Takes bytes as they come, and tells of each line that is whole.
    pub fn read(&mut self, bytes: &[u8], said: &mut dyn FnMut(Said)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = MAX_LINE.saturating_sub(self.partial.len());
            self.cut |= text.len() > room;
            self.partial.extend(&text[..text.len().min(room)]);
            if ends {
                let line = std::mem::take(&mut self.partial);
                let cut = std::mem::take(&mut self.cut);
                self.line(&line, cut, said);
            }
        }
    }

    /// Takes the end of it.
    pub fn finish(&mut self, said: &mut dyn FnMut(Said)) {
        if !self.partial.is_empty() {
            self.read(b"\n", said);
        }
    }

    fn line(&mut self, line: &[u8], cut: bool, said: &mut dyn FnMut(Said)) {
        let text = String::from_utf8_lossy(line);
        let Some(json) = text.strip_prefix("@nix ") else {
            said(Said::Line { of: None, text: plain(&text) });
            return;
        };
        match serde_json::from_str::<Line>(json) {
            Ok(line) => self.action(line, said),
            // Whatever it was, it must be seen in the log.
            Err(_) if cut => said(Said::Line { of: None, text: "a line of the log was too long".to_owned() }),
            Err(_) => said(Said::Line { of: None, text: plain(&text) }),
        }
    }

    fn action(&mut self, line: Line, said: &mut dyn FnMut(Said)) {
        match line.action.as_str() {
            "msg" => self.message(&line, said),
            "start" => self.start(&line, said),
            "stop" => {
                if let Some(Activity::Build(derivation)) = self.activities.remove(&line.id) {
                    self.end(derivation);
                }
            }
            "result" => self.result(&line, said),
            _ => {}
        }
    }

    fn end(&mut self, derivation: Derivation) {
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(derivation);
    }

    fn message(&mut self, line: &Line, said: &mut dyn FnMut(Said)) {
        let text = plain(line.msg.as_deref().unwrap_or_default());
        self.learn_source(&text);
        if line.level > LEVEL_INFO {
            return;
        }
        if line.level == LEVEL_ERROR
            && self.errors.len() < MAX_ERRORS
            && let Some(raw) = &line.raw_msg
        {
            self.errors.push(NixError { message: plain(raw), text: text.clone() });
        }
        // What a lock would have to say of directories in the place of inputs interests nobody.
        let lock = text.starts_with("warning: not writing modified lock file");
        let aside = lock || line.level == LEVEL_ERROR && line.raw_msg.is_some();
        for line in text.lines() {
            let text = line.to_owned();
            said(if aside { Said::Aside { text } } else { Said::Line { of: None, text } });
        }
    }

    /// Learns under which path the flake's files are in the store: its `flake.nix` is read before any other.
    fn learn_source(&mut self, text: &str) {
        if self.source.is_some() {
            return;
        }
        for (at, _) in text.match_indices("/nix/store/") {
            let path = &text[at..];
            let end = path["/nix/store/".len()..].find('/').map(|end| end + "/nix/store/".len());
            let Some(end) = end.filter(|end| path[..*end].ends_with("-source")) else { continue };
            let inside = path[end + 1..].split(['\'', ':', '"', '\n', ' ']).next().unwrap_or_default();
            if inside.rsplit('/').next() == Some("flake.nix") {
                self.source = Some(path[..end].to_owned());
                return;
            }
        }
    }

    fn start(&mut self, line: &Line, said: &mut dyn FnMut(Said)) {
        if self.activities.len() >= MAX_ACTIVITIES {
            return;
        }
        let activity = match line.kind {
            ACTIVITY_BUILDS => Activity::Builds,
            ACTIVITY_BUILD => {
                let path = plain(line.fields.first().and_then(Value::as_str).unwrap_or_default());
                said(Said::Building { derivation: path.clone() });
                self.built.push(path.clone());
                Activity::Build(Derivation { drv: path, lines: VecDeque::new() })
            }
            ACTIVITY_DOWNLOAD | ACTIVITY_COPY_PATH => {
                if line.level <= LEVEL_INFO
                    && let Some(text) = line.text.as_deref().filter(|text| !text.is_empty())
                {
                    said(Said::Line { of: None, text: plain(text) });
                }
                if line.kind != ACTIVITY_DOWNLOAD {
                    return;
                }
                Activity::Download
            }
            _ => return,
        };
        self.activities.insert(line.id, activity);
    }

    fn result(&mut self, line: &Line, said: &mut dyn FnMut(Said)) {
        let number = |at: usize| line.fields.get(at).and_then(Value::as_u64).unwrap_or(0);
        let counts = &mut self.counts;
        match (self.activities.get_mut(&line.id), line.kind) {
            (Some(Activity::Build(derivation)), RESULT_BUILD_LINE) => {
                let text = plain(line.fields.first().and_then(Value::as_str).unwrap_or_default());
                if derivation.lines.len() >= LAST_LINES {
                    derivation.lines.pop_front();
                }
                derivation.lines.push_back(text.clone());
                said(Said::Line { of: Some(name_of(&derivation.drv).to_owned()), text });
                return;
            }
            (Some(Activity::Builds), RESULT_PROGRESS) => {
                let new = Counts {
                    done: number(0),
                    expected: number(1),
                    running: number(2),
                    failed: counts.failed.max(number(3)),
                    ..*counts
                };
                if new == *counts {
                    return;
                }
                *counts = new;
            }
            (Some(Activity::Download), RESULT_PROGRESS) => {
                self.downloads.insert(line.id, number(0));
                counts.downloaded = self.downloads.values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
            }
            _ => return,
        }
        said(Said::Counted(*counts));
    }

    /// Returns how far the build came.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the derivations that were begun, in that order.
    pub fn built(&self) -> &[String] {
        &self.built
    }

    /// Returns the errors, in the order in which they came.
    pub fn errors(&self) -> &[NixError] {
        &self.errors
    }

    /// Returns under which path the flake's files were in the store.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Returns the derivation that failed, with its last lines: the first that an error names and that was being built.
    pub fn failed(&self) -> Option<Derivation> {
        let running = self.activities.values().filter_map(|activity| match activity {
            Activity::Build(derivation) => Some(derivation),
            _ => None,
        });
        let known: Vec<&Derivation> = self.ended.iter().chain(running).collect();
        let named = |error: &NixError| known.iter().find(|one| error.message.contains(&one.drv)).copied();
        self.errors.iter().find_map(named).cloned()
    }
}

/// Returns a derivation's name: what follows the hash in its path, without `.drv`.
pub fn name_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(".drv").unwrap_or(name);
    name.split_once('-').map_or(name, |(_, name)| name)
}

/// Returns a text without what steers a terminal: colours, carriage returns, other controls.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                // A control sequence ends with a letter or one of a few signs (ECMA-48, 5.4).
                Some('[') => while rest.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
                Some(']') => while rest.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                _ => {}
            },
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[path = "log_tests.rs"]
pub(super) mod tests;
