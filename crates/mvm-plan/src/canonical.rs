//! Canonical JSON: one text for one value, so that a digest or signature of the text is one of the value.
//!
//! Source: RFC 8785 (JSON Canonicalization Scheme) over I-JSON (RFC 7493). Narrower than both: numbers are
//! integers of a magnitude below 2^53 (RFC 7493 section 2.2), and floating point is refused.

use canon_json::CanonJsonSerialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The largest magnitude of an integer that every JSON reader keeps exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Says why a value has no canonical text, or a text is not the canonical one.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// The value cannot be written as JSON at all.
    #[error("writing the value as JSON")]
    Serialize(#[source] serde_json::Error),
    /// The value holds a number that is not an integer below 2^53.
    #[error("number {number} at {path} is not an integer between -(2^53-1) and 2^53-1")]
    Number {
        /// Where it stands, as a JSON pointer (RFC 6901, without its escapes).
        path: String,
        /// The number as JSON writes it.
        number: String,
    },
    /// The canonical text could not be produced.
    #[error("writing the value as canonical JSON")]
    Encode(#[source] std::io::Error),
    /// The text is not JSON, or not of the shape that is expected.
    #[error("reading the JSON text")]
    Parse(#[source] serde_json::Error),
    /// The text means a value, but is not that value's canonical text.
    #[error("the JSON text is not in canonical form (RFC 8785); it differs from byte {offset} on")]
    NotCanonical {
        /// First byte that differs from the canonical text.
        offset: usize,
    },
}

/// Returns the canonical text of `value`: members in order of their names' UTF-16 units, no white space.
///
/// Fails on floating point and on integers of 2^53 and more.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(CanonicalError::Serialize)?;
    check_numbers(&value, &mut String::new())?;
    value.to_canon_json_vec().map_err(CanonicalError::Encode)
}

/// Reads a value from its canonical text, and refuses every other text of the same value.
///
/// Unknown and repeated members, escapes that are not needed and white space are all refused by this one comparison.
pub fn from_slice<T: Serialize + DeserializeOwned>(text: &[u8]) -> Result<T, CanonicalError> {
    let value: T = serde_json::from_slice(text).map_err(CanonicalError::Parse)?;
    let canonical = to_vec(&value)?;
    if canonical != text {
        let same = canonical.iter().zip(text).take_while(|(a, b)| a == b).count();
        return Err(CanonicalError::NotCanonical { offset: same });
    }
    Ok(value)
}

fn check_numbers(value: &Value, path: &mut String) -> Result<(), CanonicalError> {
    let mut below = |name: &str, value: &Value| {
        let length = path.len();
        path.push('/');
        path.push_str(name);
        let checked = check_numbers(value, path);
        path.truncate(length);
        checked
    };
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| below(&index.to_string(), item))
        }
        Value::Object(members) => members.iter().try_for_each(|(name, member)| below(name, member)),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude <= MAX_INTEGER) {
                return Ok(());
            }
            Err(CanonicalError::Number { path: path.clone(), number: number.to_string() })
        }
    }
}

#[cfg(test)]
mod tests;
