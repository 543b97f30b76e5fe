//! Names: what is accepted is written as text that means the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use mvm_plan::plan::RequestedImage;
use mvm_ref::{Digest, ImageSource, MediaType, Platform, Reference, ScopeName, VmName};

/// Reads the input as each kind of name.
pub fn body(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(reference) = round_trip::<Reference>(text) {
        check(&reference);
        let familiar = reference.familiar();
        assert_eq!(familiar.parse::<Reference>().as_ref(), Ok(&reference), "{familiar}");
    }
    if let Some(ImageSource::Registry(reference)) = round_trip::<ImageSource>(text) {
        check(&reference);
    }
    round_trip::<Digest>(text);
    round_trip::<Platform>(text);
    round_trip::<VmName>(text);
    round_trip::<ScopeName>(text);
    round_trip::<RequestedImage>(text);
    let media_type = MediaType::parse(text);
    assert_eq!(MediaType::parse(media_type.as_str()), media_type);
}

/// Parses, writes and parses again.
fn round_trip<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    match written.parse::<T>() {
        Ok(again) => assert_eq!(again, value, "{written:?}"),
        Err(error) => panic!("{text:?} became {written:?}: {error:?}"),
    }
    Some(value)
}

fn check(reference: &Reference) {
    let repository = reference.repository();
    assert!(!repository.is_empty() && !repository.split('/').any(|part| matches!(part, "" | "." | "..")));
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    assert!(!reference.registry().is_empty() && reference.registry().chars().all(is_host), "{reference}");
    assert!(repository.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c)));
    assert!(reference.tag().is_some() || reference.digest().is_some(), "a reference to nothing");
    assert_eq!(reference.is_pinned(), reference.digest().is_some());
    assert!(reference.tag().is_none_or(|tag| (1..=128).contains(&tag.len())));
}
