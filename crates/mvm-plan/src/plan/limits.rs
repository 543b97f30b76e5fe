//! What a plan may hold: the limits of Linux and of mvm, checked part by part.

mod guest;

use super::{Plan, Posture, Process, RequestedImage, Resources, Root, Source, Validity};
use crate::time::MAX_UNIX_SECONDS;
use mvm_ref::{Platform, PlatformError};
use std::ops::RangeInclusive;

/// Longest name of an image, in bytes.
pub(super) const MAX_REQUESTED: usize = 1024;

/// Unit of an image file, in bytes.
const BLOCK: u64 = 4096;
/// Strings in argv, and in the environment.
const MAX_STRINGS: usize = 4096;
/// Longest single string that Linux passes to a program, with its NUL (`MAX_ARG_STRLEN` with pages of 4 KiB).
const MAX_STRING: usize = 131_072 - 1;
/// Bytes of argv and environment together.
const MAX_PROCESS_BYTES: usize = 256 * 1024;
/// Longest path (`PATH_MAX` with its NUL).
const MAX_PATH: usize = 4096 - 1;
const MAX_USER: usize = 256;
const MAX_VERSION: usize = 256;
const MAX_HOSTNAME: usize = 64;
const CPUS: RangeInclusive<u64> = 1..=1024;
const MEMORY_MIB: RangeInclusive<u64> = 16..=16 * 1024 * 1024;
const SCRATCH_MIB: RangeInclusive<u64> = 1..=1024 * 1024 * 1024;

/// Says which part of a plan is not what a plan may hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// A number lies outside its range.
    #[error("plan: {field} is {got}; expected {min} to {max}")]
    Number {
        /// The part.
        field: &'static str,
        /// Its value.
        got: u64,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// A text is too short or too long.
    #[error("plan: {field} has {got} bytes; expected {min} to {max}")]
    Length {
        /// The part.
        field: &'static str,
        /// Its bytes.
        got: usize,
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
    /// A list has too few or too many items.
    #[error("plan: {field} has {got} items; expected {min} to {max}")]
    Count {
        /// The part.
        field: &'static str,
        /// Its items.
        got: usize,
        /// Fewest items.
        min: usize,
        /// Most items.
        max: usize,
    },
    /// A text holds a character that it may not.
    #[error("plan: {field} holds the character {got:?} at byte {offset}")]
    Character {
        /// The part.
        field: &'static str,
        /// Where in the text.
        offset: usize,
        /// The character.
        got: char,
    },
    /// A text is not of its part's form.
    #[error("plan: {field} {got:?} is not {expected}")]
    Form {
        /// The part.
        field: &'static str,
        /// Its text, its beginning if it is long.
        got: String,
        /// What is expected.
        expected: &'static str,
    },
    /// The platform does not read back from its own text.
    #[error("plan: source.platform")]
    Platform(#[source] PlatformError),
    /// The source claims to be pinned, but was not asked for by digest.
    #[error("plan: source.requested \"{requested}\" names no digest, so source.mutable_tag cannot be false")]
    NotPinned {
        /// The image as the user named it.
        requested: RequestedImage,
    },
    /// Posture and kind of source do not belong together.
    #[error("plan: posture {posture:?} does not fit a source of kind {kind}")]
    Posture {
        /// The plan's posture.
        posture: Posture,
        /// The source's kind.
        kind: &'static str,
    },
    /// The numbers of the root, or of an image that is mounted, contradict each other.
    #[error("plan: {part}.{field} is {got}; {expected}")]
    Layout {
        /// What they are of.
        part: &'static str,
        /// The number that is wrong.
        field: &'static str,
        /// Its value.
        got: u64,
        /// What is expected.
        expected: &'static str,
    },
    /// A moment lies before 1970 or after 9999.
    #[error("plan: validity.{field} is {got}, which is not a second of the years 1970 to 9999")]
    Time {
        /// Which end.
        field: &'static str,
        /// Its value.
        got: i64,
    },
}

impl PlanError {
    /// Returns the part that is wrong, as it stands in a plan.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Number { field, .. }
            | Self::Length { field, .. }
            | Self::Count { field, .. }
            | Self::Character { field, .. }
            | Self::Form { field, .. } => field,
            Self::Platform(_) => "source.platform",
            Self::NotPinned { .. } => "source.mutable_tag",
            Self::Posture { .. } => "posture",
            Self::Layout { part, .. } => part,
            Self::Time { field: "not_after", .. } => "validity.not_after",
            Self::Time { .. } => "validity.not_before",
        }
    }

    /// Returns what is wrong with the part, in words that may follow any name of it.
    pub fn problem(&self) -> String {
        let text = self.to_string();
        let text = text.strip_prefix("plan: ").unwrap_or(&text);
        text.strip_prefix(self.field()).unwrap_or(text).trim_start().to_owned()
    }
}

pub(super) fn validate(plan: &Plan) -> Result<(), PlanError> {
    source(&plan.source, plan.posture)?;
    root("root", &plan.root)?;
    text("kernel.version", &plan.kernel.version, 0..=MAX_VERSION)?;
    guest::validate(plan)?;
    hostname(&plan.hostname)?;
    resources(&plan.resources)?;
    validity(&plan.validity)
}

fn source(source: &Source, posture: Posture) -> Result<(), PlanError> {
    if posture != source.posture() {
        let kind = match source {
            Source::Oci { .. } => "oci",
            Source::Flake { .. } => "flake",
        };
        return Err(PlanError::Posture { posture, kind });
    }
    match source {
        // The digest may be an index's, so it need not be the manifest's.
        Source::Oci { requested, mutable_tag: false, .. } if !requested.as_str().contains("@sha256:") => {
            return Err(PlanError::NotPinned { requested: requested.clone() });
        }
        Source::Flake { derivation, .. } if !derivation.name().ends_with(".drv") => {
            return Err(form(
                "source.derivation",
                &derivation.to_string(),
                "the store path of a derivation, which ends with .drv",
            ));
        }
        _ => {}
    }
    let platform = source.platform();
    // A platform joined from an image config's own words need not be one that reads back.
    let reread: Platform = platform.to_string().parse().map_err(PlanError::Platform)?;
    if reread != *platform {
        return Err(form("source.platform", &platform.to_string(), "OS/ARCH or OS/ARCH/VARIANT"));
    }
    Ok(())
}

fn root(part: &'static str, root: &Root) -> Result<(), PlanError> {
    let layout = |field, got, expected| Err(PlanError::Layout { part, field, got, expected });
    if root.generation == 0 {
        return layout("generation", 0, "generations start at 1");
    }
    if root.data_blocks == 0 {
        return layout("data_blocks", 0, "an image has at least one block");
    }
    if root.data_blocks.checked_mul(BLOCK).is_none_or(|data| data > root.hash_start) {
        return layout("hash_start", root.hash_start, "the verity superblock lies after the data blocks");
    }
    if !root.hash_start.is_multiple_of(BLOCK) {
        return layout("hash_start", root.hash_start, "the verity superblock lies at a multiple of 4096");
    }
    if !root.size.is_multiple_of(BLOCK) || root.size <= root.hash_start {
        return layout("size", root.size, "the file ends after the verity superblock, at a multiple of 4096");
    }
    Ok(())
}

/// The names of a process's parts, by the part of the plan that it is.
struct Fields {
    argv: &'static str,
    env: &'static str,
    both: &'static str,
    working_dir: &'static str,
    user: &'static str,
}

impl Fields {
    fn of(part: &'static str) -> Self {
        match part {
            "services.process" => Self {
                argv: "services.process.argv",
                env: "services.process.env",
                both: "services.process.argv and services.process.env",
                working_dir: "services.process.working_dir",
                user: "services.process.user",
            },
            "health_checks.process" => Self {
                argv: "health_checks.process.argv",
                env: "health_checks.process.env",
                both: "health_checks.process.argv and health_checks.process.env",
                working_dir: "health_checks.process.working_dir",
                user: "health_checks.process.user",
            },
            _ => Self {
                argv: "process.argv",
                env: "process.env",
                both: "process.argv and process.env",
                working_dir: "process.working_dir",
                user: "process.user",
            },
        }
    }
}

fn process(part: &'static str, process: &Process) -> Result<(), PlanError> {
    let fields = Fields::of(part);
    count(fields.argv, process.argv.len(), 1)?;
    count(fields.env, process.env.len(), 0)?;
    for argument in &process.argv {
        no_nul(fields.argv, argument, 0..=MAX_STRING)?;
    }
    if process.argv[0].is_empty() {
        return Err(form(fields.argv, "", "a list that starts with a program"));
    }
    for variable in &process.env {
        no_nul(fields.env, variable, 0..=MAX_STRING)?;
        if variable.find('=').is_none_or(|position| position == 0) {
            return Err(form(fields.env, variable, "of the form NAME=VALUE"));
        }
    }
    let bytes = process.argv.iter().chain(&process.env).map(|text| text.len() + 1).sum();
    length(fields.both, bytes, 0..=MAX_PROCESS_BYTES)?;
    no_nul(fields.working_dir, &process.working_dir, 1..=MAX_PATH)?;
    if !process.working_dir.starts_with('/') {
        return Err(form(fields.working_dir, &process.working_dir, "an absolute path"));
    }
    user(fields.user, &process.user)
}

fn user(field: &'static str, user: &str) -> Result<(), PlanError> {
    text(field, user, 0..=MAX_USER)?;
    let parts: Vec<&str> = user.split(':').collect();
    let formed = match parts[..] {
        [_] => true,
        [name, group] => !name.is_empty() && !group.is_empty(),
        _ => false,
    };
    if formed { Ok(()) } else { Err(form(field, user, "of the form USER or USER:GROUP")) }
}

fn hostname(hostname: &str) -> Result<(), PlanError> {
    length("hostname", hostname.len(), 1..=MAX_HOSTNAME)?;
    let word = |b: u8| b.is_ascii_alphanumeric();
    let bytes = hostname.as_bytes();
    if !word(bytes[0]) || !bytes.iter().all(|&b| word(b) || matches!(b, b'-' | b'_' | b'.')) {
        return Err(form("hostname", hostname, "letters, digits, '-', '_' and '.', a letter or digit first"));
    }
    Ok(())
}

fn resources(resources: &Resources) -> Result<(), PlanError> {
    number("resources.cpus", resources.cpus.into(), CPUS)?;
    number("resources.memory_mib", resources.memory_mib.into(), MEMORY_MIB)?;
    number("resources.scratch_mib", resources.scratch_mib, SCRATCH_MIB)
}

fn validity(validity: &Validity) -> Result<(), PlanError> {
    for (field, got) in [("not_before", validity.not_before), ("not_after", validity.not_after)] {
        if !(0..=MAX_UNIX_SECONDS).contains(&got) {
            return Err(PlanError::Time { field, got });
        }
    }
    Ok(())
}

/// Checks the length of a text that is shown to people, and that it holds no control character.
pub(super) fn text(field: &'static str, text: &str, bytes: RangeInclusive<usize>) -> Result<(), PlanError> {
    length(field, text.len(), bytes)?;
    forbid(field, text, char::is_control)
}

fn no_nul(field: &'static str, text: &str, bytes: RangeInclusive<usize>) -> Result<(), PlanError> {
    length(field, text.len(), bytes)?;
    forbid(field, text, |c| c == '\0')
}

fn forbid(field: &'static str, text: &str, bad: impl Fn(char) -> bool) -> Result<(), PlanError> {
    match text.char_indices().find(|(_, c)| bad(*c)) {
        Some((offset, got)) => Err(PlanError::Character { field, offset, got }),
        None => Ok(()),
    }
}

fn length(field: &'static str, got: usize, bytes: RangeInclusive<usize>) -> Result<(), PlanError> {
    let (min, max) = (*bytes.start(), *bytes.end());
    if bytes.contains(&got) { Ok(()) } else { Err(PlanError::Length { field, got, min, max }) }
}

fn count(field: &'static str, got: usize, min: usize) -> Result<(), PlanError> {
    count_of(field, got, min, MAX_STRINGS)
}

fn count_of(field: &'static str, got: usize, min: usize, max: usize) -> Result<(), PlanError> {
    if (min..=max).contains(&got) { Ok(()) } else { Err(PlanError::Count { field, got, min, max }) }
}

fn number(field: &'static str, got: u64, range: RangeInclusive<u64>) -> Result<(), PlanError> {
    let (min, max) = (*range.start(), *range.end());
    if range.contains(&got) { Ok(()) } else { Err(PlanError::Number { field, got, min, max }) }
}

fn form(field: &'static str, got: &str, expected: &'static str) -> PlanError {
    PlanError::Form { field, got: got.chars().take(80).collect(), expected }
}
