//! The settings of a policy by name, for command lines and records.

use super::{Devices, HardLinks, Rule, UnpackPolicy};
use std::fmt;

/// One setting of an unpack policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    /// `whiteouts`: `apply` or `refuse`.
    Whiteouts,
    /// `symlink-depth`: a count.
    SymlinkDepth,
    /// `absolute-symlinks`: `keep` or `refuse`.
    AbsoluteSymlinks,
    /// `hardlinks`: `keep`, `same-layer` or `refuse`.
    HardLinks,
    /// `set-id`: `keep` or `refuse`.
    SetId,
    /// `file-capabilities`: `keep` or `refuse`.
    FileCapabilities,
    /// `devices`: `usual`, `any` or `refuse`.
    Devices,
    /// `max-uid`: a number, for groups too.
    MaxUid,
    /// `entries`: a count.
    Entries,
    /// `unpacked`: a size.
    Unpacked,
    /// `apparent`: a size.
    Apparent,
    /// `layers`: a count.
    Layers,
    /// `path`: a size.
    Path,
    /// `name`: a size.
    Name,
    /// `xattrs`: a size.
    Xattrs,
    /// `metadata`: a size.
    Metadata,
    /// `ratio`: a count, or 0 for no limit.
    Ratio,
    /// `ratio-from`: a size.
    RatioFrom,
}

/// How the values of a setting are written.
enum Form {
    /// As one of these words, the strictest first.
    Words(&'static [&'static str]),
    /// As a number of at most this much.
    Count(u64),
    /// As a number of bytes of at most this much, with KiB, MiB, GiB or TiB or without.
    Size(u64),
}

/// Says why a setting can't be taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// There is no `=`.
    #[error("{0:?} is not of the form NAME=VALUE; names are {names}", names = Knob::names())]
    Form(String),
    /// There is no such setting.
    #[error("there is no setting {0:?}; names are {names}", names = Knob::names())]
    Name(String),
    /// The value is none of those that the setting takes.
    #[error("{knob} is {value:?}, expected {expected}", expected = knob.expected())]
    Value {
        /// The setting.
        knob: Knob,
        /// What was given.
        value: String,
    },
}

impl Knob {
    /// All settings, in the order in which they are listed.
    pub const ALL: [Self; 18] = [
        Self::Whiteouts,
        Self::SymlinkDepth,
        Self::AbsoluteSymlinks,
        Self::HardLinks,
        Self::SetId,
        Self::FileCapabilities,
        Self::Devices,
        Self::MaxUid,
        Self::Entries,
        Self::Unpacked,
        Self::Apparent,
        Self::Layers,
        Self::Path,
        Self::Name,
        Self::Xattrs,
        Self::Metadata,
        Self::Ratio,
        Self::RatioFrom,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whiteouts => "whiteouts",
            Self::SymlinkDepth => "symlink-depth",
            Self::AbsoluteSymlinks => "absolute-symlinks",
            Self::HardLinks => "hardlinks",
            Self::SetId => "set-id",
            Self::FileCapabilities => "file-capabilities",
            Self::Devices => "devices",
            Self::MaxUid => "max-uid",
            Self::Entries => "entries",
            Self::Unpacked => "unpacked",
            Self::Apparent => "apparent",
            Self::Layers => "layers",
            Self::Path => "path",
            Self::Name => "name",
            Self::Xattrs => "xattrs",
            Self::Metadata => "metadata",
            Self::Ratio => "ratio",
            Self::RatioFrom => "ratio-from",
        }
    }

    /// Returns the setting that keeps the most, as far as it helps to say so: `devices=any`, `entries=COUNT`.
    pub fn remedy(self) -> String {
        match self.form() {
            Form::Words(words) => format!("{self}={}", words.last().unwrap_or(&"")),
            Form::Count(_) => format!("{self}=COUNT"),
            Form::Size(_) => format!("{self}=SIZE"),
        }
    }

    fn form(self) -> Form {
        match self {
            Self::Whiteouts => Form::Words(&["refuse", "apply"]),
            Self::AbsoluteSymlinks | Self::SetId | Self::FileCapabilities => Form::Words(&["refuse", "keep"]),
            Self::HardLinks => Form::Words(&["refuse", "same-layer", "keep"]),
            Self::Devices => Form::Words(&["refuse", "usual", "any"]),
            // More would let one entry cost more than its bytes.
            Self::SymlinkDepth => Form::Count(255),
            Self::MaxUid => Form::Count(u64::from(u32::MAX) - 1),
            // Inodes have 32-bit numbers.
            Self::Entries => Form::Count(1 << 30),
            // More are no manifest.
            Self::Layers => Form::Count(4096),
            Self::Ratio => Form::Count(u64::MAX),
            // What Linux and the file system of images can hold.
            Self::Path => Form::Size(4096),
            Self::Name => Form::Size(255),
            Self::Xattrs => Form::Size(64 << 10),
            Self::Unpacked | Self::Apparent | Self::Metadata | Self::RatioFrom => Form::Size(1 << 60),
        }
    }

    /// Returns the loosest value, as [`UnpackPolicy::get`] gives it.
    pub(super) fn most(self) -> u64 {
        match self.form() {
            Form::Words(words) => words.len() as u64 - 1,
            Form::Count(most) | Form::Size(most) => most,
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    fn expected(self) -> String {
        match self.form() {
            Form::Words(words) => words.join(" or "),
            Form::Count(_) if self == Self::Ratio => "a number, 0 for no limit".to_owned(),
            Form::Count(most) => format!("a number up to {most}"),
            Form::Size(most) => format!("bytes up to {most}, or a number with KiB, MiB or GiB"),
        }
    }

    fn parse(self, text: &str) -> Option<u64> {
        match self.form() {
            Form::Words(words) => words.iter().position(|word| *word == text).map(|index| index as u64),
            Form::Count(most) => digits(text).filter(|count| *count <= most),
            Form::Size(most) => {
                let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("", 0)];
                let (number, shift) =
                    units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
                digits(number)?.checked_mul(1 << shift).filter(|size| *size <= most)
            }
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl UnpackPolicy {
    /// Takes a setting of the form `NAME=VALUE`.
    pub fn set(&mut self, setting: &str) -> Result<(), SettingError> {
        let form = || SettingError::Form(setting.to_owned());
        let (name, value) = setting.split_once('=').ok_or_else(form)?;
        let knob = Knob::ALL.into_iter().find(|knob| knob.name() == name);
        let knob = knob.ok_or_else(|| SettingError::Name(name.to_owned()))?;
        let invalid = || SettingError::Value { knob, value: value.to_owned() };
        let parsed = knob.parse(value).ok_or_else(invalid)?;
        // No limit is the loosest one.
        let is_unlimited = knob == Knob::Ratio && parsed == 0;
        self.put(knob, if is_unlimited { u64::MAX } else { parsed });
        Ok(())
    }

    /// Returns all settings as one line, from which [`Self::from_record`] makes the policy again.
    pub fn to_record(&self) -> String {
        let setting = |knob: Knob| match knob.form() {
            Form::Words(words) => format!("{knob}={}", words[self.get(knob) as usize]),
            Form::Count(_) | Form::Size(_) => format!("{knob}={}", self.get(knob)),
        };
        Knob::ALL.map(setting).join(" ")
    }

    /// Returns the policy of a record. What it doesn't say, or says in a way that isn't understood, counts as loose.
    pub fn from_record(record: &str) -> Self {
        let mut policy = Self::loosest();
        for setting in record.split(' ') {
            // A setting of another version is not one of ours; ours are then as loose as can be.
            if policy.set(setting).is_err() {
                continue;
            }
        }
        policy
    }

    /// Returns a setting as a number that grows with what it keeps.
    pub(super) fn get(&self, knob: Knob) -> u64 {
        match knob {
            Knob::Whiteouts => self.whiteouts as u64,
            Knob::SymlinkDepth => self.symlink_depth.into(),
            Knob::AbsoluteSymlinks => self.absolute_symlinks as u64,
            Knob::HardLinks => self.hard_links as u64,
            Knob::SetId => self.set_id as u64,
            Knob::FileCapabilities => self.file_capabilities as u64,
            Knob::Devices => self.devices as u64,
            Knob::MaxUid => self.max_uid.into(),
            Knob::Entries => self.entries,
            Knob::Unpacked => self.unpacked_bytes,
            Knob::Apparent => self.apparent_bytes,
            Knob::Layers => self.layers.into(),
            Knob::Path => self.path_bytes as u64,
            Knob::Name => self.name_bytes as u64,
            Knob::Xattrs => self.xattr_bytes_per_entry as u64,
            Knob::Metadata => self.metadata_bytes,
            Knob::Ratio => self.ratio,
            Knob::RatioFrom => self.ratio_from,
        }
    }

    /// Sets what [`Self::get`] gives.
    pub(super) fn put(&mut self, knob: Knob, value: u64) {
        let rule = if value == 0 { Rule::Refuse } else { Rule::Keep };
        let small = u32::try_from(value).unwrap_or(u32::MAX);
        match knob {
            Knob::Whiteouts => self.whiteouts = rule,
            Knob::SymlinkDepth => self.symlink_depth = small,
            Knob::AbsoluteSymlinks => self.absolute_symlinks = rule,
            Knob::HardLinks => {
                self.hard_links =
                    [HardLinks::Refuse, HardLinks::SameLayer, HardLinks::Keep][value.min(2) as usize];
            }
            Knob::SetId => self.set_id = rule,
            Knob::FileCapabilities => self.file_capabilities = rule,
            Knob::Devices => {
                self.devices = [Devices::Refuse, Devices::Usual, Devices::Any][value.min(2) as usize];
            }
            Knob::MaxUid => self.max_uid = small,
            Knob::Entries => self.entries = value,
            Knob::Unpacked => self.unpacked_bytes = value,
            Knob::Apparent => self.apparent_bytes = value,
            Knob::Layers => self.layers = small,
            Knob::Path => self.path_bytes = small as usize,
            Knob::Name => self.name_bytes = small as usize,
            Knob::Xattrs => self.xattr_bytes_per_entry = small as usize,
            Knob::Metadata => self.metadata_bytes = value,
            Knob::Ratio => self.ratio = value,
            Knob::RatioFrom => self.ratio_from = value,
        }
    }
}
