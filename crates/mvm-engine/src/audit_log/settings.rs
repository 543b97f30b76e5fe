//! The settings of a log.

use super::{AuditError, AuditLog, io_error};
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Bytes from which on a file is not written to any more.
const ROTATE_AT: u64 = 16 << 20;
/// Fewer would make more files than entries.
const LEAST: u64 = 4096;
/// Most bytes of the settings; what is longer is something else.
const LONGEST: u64 = 64 * 1024;

/// How a log is kept, from `audit.toml` in the store:
///
/// ```toml
/// witness = "/mnt/elsewhere/mvm-witness.jsonl"   # an absolute path; without it there is no witness
/// rotate-at = 16777216                           # bytes
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The file that gets a copy of each checkpoint.
    pub witness: Option<PathBuf>,
    /// Bytes from which on a file is not written to any more.
    pub rotate_at: u64,
}

/// Says why settings can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They are not what the file may hold.
    #[error("reading them as TOML")]
    Parse(#[source] Box<toml::de::Error>),
    /// The file is too long.
    #[error("they have more than {LONGEST} bytes")]
    Length,
    /// The witness is named by a path that depends on where one is.
    #[error("witness {path:?} is not an absolute path without control characters")]
    Witness {
        /// The path.
        path: PathBuf,
    },
    /// Files would be too short.
    #[error("rotate-at is {got}; expected {LEAST} or more")]
    Size {
        /// The number.
        got: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    witness: Option<PathBuf>,
    rotate_at: Option<u64>,
}

impl LogSettings {
    fn parse(text: &str) -> Result<Self, SettingsError> {
        let text: Text = toml::from_str(text).map_err(|error| SettingsError::Parse(Box::new(error)))?;
        let rotate_at = text.rotate_at.unwrap_or(ROTATE_AT);
        if rotate_at < LEAST {
            return Err(SettingsError::Size { got: rotate_at });
        }
        Self { witness: text.witness, rotate_at }.checked()
    }

    fn checked(self) -> Result<Self, SettingsError> {
        let is_fit = |path: &PathBuf| {
            path.is_absolute() && path.to_str().is_some_and(|path| !path.contains(char::is_control))
        };
        match self.witness {
            Some(path) if !is_fit(&path) => Err(SettingsError::Witness { path }),
            witness => Ok(Self { witness, ..self }),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(witness) = &self.witness {
            // JSON's form of a string without control characters is one of TOML's.
            let quoted = serde_json::Value::from(witness.to_string_lossy());
            text.push_str(&format!("witness = {quoted}\n"));
        }
        if self.rotate_at != ROTATE_AT {
            text.push_str(&format!("rotate-at = {}\n", self.rotate_at));
        }
        text
    }
}

impl AuditLog {
    /// Reads the settings; without a file, what holds without one.
    pub fn settings(&self) -> Result<LogSettings, AuditError> {
        let path = self.settings_path();
        let text = match super::files::open_to_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(LogSettings { witness: None, rotate_at: ROTATE_AT });
            }
            file => {
                let file = file.map_err(io_error("read the settings of", &path))?;
                read(file).map_err(io_error("read the settings of", &path))?
            }
        };
        let settings = match text {
            Some(text) => LogSettings::parse(&text),
            None => Err(SettingsError::Length),
        };
        settings.map_err(|source| AuditError::Settings { path, source })
    }

    /// Replaces the settings.
    pub fn set_settings(&self, settings: LogSettings) -> Result<(), AuditError> {
        let path = self.settings_path();
        let settings =
            settings.checked().map_err(|source| AuditError::Settings { path: path.clone(), source })?;
        let text = settings.text();
        if text.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(io_error("remove the settings of", &path)(error))
                }
                _ => Ok(()),
            };
        }
        let written = crate::vm::write_atomically(&path, text.as_bytes());
        written.map_err(io_error("write the settings of", &path))
    }
}

fn read(file: fs::File) -> io::Result<Option<String>> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, LONGEST + 1), &mut text)?;
    Ok((text.len() as u64 <= LONGEST).then_some(text))
}

#[cfg(test)]
mod tests;
