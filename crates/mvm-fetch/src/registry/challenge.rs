//! What a registry wants to see before it answers.
//!
//! Source: RFC 9110, section 11.6.1; distribution, "Token Authentication Specification".

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

const MAX_HEADER: usize = 8 << 10;

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from the server at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// User name and password.
    Basic,
}

impl Challenge {
    /// Returns the challenge that mvm can answer, a token before a password; else what was asked for.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let texts: Vec<&str> = texts.filter(|text| text.len() <= MAX_HEADER).collect();
        let mut basic = None;
        for (scheme, parameters) in texts.iter().flat_map(|text| parse(text)) {
            let find =
                |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = find("realm") {
                    return Ok(Self::Bearer { realm, service: find("service"), scope: find("scope") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic.ok_or_else(|| texts.join(", ").chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

type Parameters = Vec<(String, String)>;

/// Splits `Scheme key=value, key="value", Scheme …` into schemes with their parameters.
fn parse(text: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after_space = after.trim_start();
        match (after_space.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = value_of(value.trim_start());
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            // A value without a scheme makes no sense: the rest is left.
            (Some(_), None) => break,
            (None, _) => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = after_space;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// Reads a token or a quoted string, and returns what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
