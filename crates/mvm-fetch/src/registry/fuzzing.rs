//! The parsers of this module, on bytes in memory.

pub use super::auth::fuzzing::{credentials, log_in, log_out};
use super::challenge::Challenge;
pub use super::mirrors::fuzzing::places;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

/// Reads `WWW-Authenticate` headers: realm, service and scope of a bearer challenge, nothing of a basic one; an error
/// says what else was asked for.
#[expect(clippy::type_complexity, reason = "it stays within the fuzz targets")]
pub fn challenge(values: &[&[u8]]) -> Result<Option<(String, Option<String>, Option<String>)>, String> {
    let mut headers = HeaderMap::new();
    for value in values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(WWW_AUTHENTICATE, value);
    }
    Challenge::from_headers(&headers).map(|challenge| match challenge {
        Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
        Challenge::Basic => None,
    })
}
