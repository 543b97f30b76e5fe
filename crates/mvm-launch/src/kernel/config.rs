//! Kernel configuration files (`.config`, `/boot/config-*`).

use std::collections::BTreeMap;

/// The largest configuration that is read; distributions' have about 300 KiB.
const MAX_SIZE: usize = 4 << 20;

/// Says why a configuration cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file is far larger than any kernel configuration.
    #[error("kernel configuration has {size} bytes; expected at most {MAX_SIZE}")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// The file is not UTF-8 text.
    #[error("kernel configuration is not text (at byte {offset})")]
    NotText {
        /// Where the text ends.
        offset: usize,
    },
    /// The file has no `CONFIG_` line, so it is something else.
    #[error("kernel configuration has no CONFIG_ line")]
    Empty,
}

/// How an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionState {
    /// Not set, or unknown to this kernel.
    Absent,
    /// Built as a module.
    Module,
    /// Built in.
    BuiltIn,
}

/// A parsed kernel configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    version: Option<String>,
    options: BTreeMap<String, OptionState>,
}

impl Config {
    /// Reads a configuration; options with values other than `y` and `m` are left out.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_SIZE {
            return Err(ConfigError::TooLarge { size: bytes.len() });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| ConfigError::NotText { offset: error.valid_up_to() })?;
        if !text.lines().any(|line| line.starts_with("CONFIG_")) {
            return Err(ConfigError::Empty);
        }
        let options = text.lines().filter_map(option).collect();
        Ok(Self { version: text.lines().find_map(version), options })
    }

    /// Returns how the option is set; `name` is without `CONFIG_`.
    pub fn state(&self, name: &str) -> OptionState {
        self.options.get(name).copied().unwrap_or(OptionState::Absent)
    }

    /// Returns the kernel version that the generated header names, such as `6.1.192`.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

fn option(line: &str) -> Option<(String, OptionState)> {
    let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    let state = match value.trim_end() {
        "y" => OptionState::BuiltIn,
        "m" => OptionState::Module,
        _ => return None,
    };
    Some((name.to_owned(), state))
}

/// Reads the header that Kconfig writes: `# Linux/x86 6.1.192 Kernel Configuration`.
fn version(line: &str) -> Option<String> {
    let rest = line.strip_prefix("# Linux/")?.strip_suffix("Kernel Configuration")?;
    rest.split_whitespace().nth(1).map(str::to_owned)
}
