//! Entries as text for people. Nothing that stands in one can steer the terminal.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// Members of an event that come first, in this order; the others follow by name.
const FIRST: [&str; 13] = [
    "vm",
    "requested",
    "act",
    "id",
    "subject",
    "setting",
    "value",
    "program",
    "outcome",
    "exit_code",
    "policy",
    "rules",
    "manifest",
];

/// Hexadecimal digits of a digest that are shown.
const DIGITS: usize = 12;

/// Names of users, as this machine has them now.
pub struct Users(BTreeMap<u64, String>);

impl Users {
    /// Reads the machine's list of users; what isn't there is shown by its number.
    pub fn of_this_machine() -> Self {
        let text = fs::read("/etc/passwd").unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        // Of several names of one user the first counts.
        Self(text.lines().rev().filter_map(user).collect())
    }

    /// Returns the name of a user, or the number.
    pub fn name(&self, uid: &Value) -> String {
        let name = uid.as_u64().and_then(|uid| self.0.get(&uid));
        name.map_or_else(|| uid.to_string(), |name| visible(name))
    }
}

/// Returns an entry as one line; a line that is none is shown as it is.
pub fn line(text: &[u8], users: &Users) -> String {
    let Some(entry) = entry(text) else {
        let text = String::from_utf8_lossy(text.trim_ascii_end());
        return format!("not an entry: {}", visible(&text));
    };
    let mut line = format!(
        "{}  {:>6}  {:<8}  {:<11}",
        plain(&entry["time"]),
        entry["seq"].to_string(),
        who(&entry, users),
        plain(&entry["event"]["kind"])
    );
    for (name, value) in members(&entry["event"]) {
        word(&mut line, name, value);
    }
    if let Some(scope) = entry["scope"].as_str().filter(|scope| *scope != "default") {
        word(&mut line, "scope", &scope.into());
    }
    for (name, value) in entry["detail"].as_object().into_iter().flatten() {
        word(&mut line, name, value);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Reads a line as an entry, if it looks like one.
pub fn entry(text: &[u8]) -> Option<Value> {
    let entry: Value = serde_json::from_slice(text).ok()?;
    (entry["seq"].is_u64() && entry["event"]["kind"].is_string()).then_some(entry)
}

/// Returns who did it: a user, and the one that had logged in if that is another.
pub fn who(entry: &Value, users: &Users) -> String {
    let user = users.name(&entry["uid"]);
    match &entry["login"] {
        Value::Null => user,
        login => format!("{user}({})", users.name(login)),
    }
}

/// Returns the members of an event but for its kind, those that tell most first.
pub fn members(event: &Value) -> Vec<(&str, &Value)> {
    let all = event.as_object().into_iter().flatten();
    let mut members: Vec<(&str, &Value)> =
        all.filter(|(name, _)| *name != "kind").map(|(name, value)| (name.as_str(), value)).collect();
    members.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    members
}

/// Adds ` name=value` to a line; a subject is named by its kind.
fn word(line: &mut String, name: &str, value: &Value) {
    let (name, value) = match value {
        Value::Object(subject) if name == "subject" => {
            let kind = subject.get("kind").and_then(Value::as_str).unwrap_or(name);
            match subject.iter().find(|(name, _)| *name != "kind") {
                Some((_, value)) => (kind, short(value)),
                None => ("subject", visible(kind)),
            }
        }
        value => (name, short(value)),
    };
    line.push_str(&format!(" {}={value}", visible(name)));
}

/// Returns a value as one word, digests and the like by their beginning.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let digits = text.strip_prefix("sha256:").unwrap_or(text);
            let is_long_hex = digits.len() >= 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            match digits.get(..DIGITS) {
                Some(start) if is_long_hex => start.to_owned(),
                _ => quoted(text),
            }
        }
        Value::Array(values) => values.iter().map(short).collect::<Vec<_>>().join(","),
        Value::Object(members) => members.get("keyid").map_or_else(|| visible(&value.to_string()), short),
        value => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let text = visible(text);
    if text.is_empty() || text.contains([' ', '"', '=']) {
        format!("\"{}\"", text.replace('"', "\\\""))
    } else {
        text
    }
}

/// Returns a value without quotes.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| visible(&value.to_string()), visible)
}

/// Returns a text with everything spelt out that would steer a terminal, or hide or reorder what stands around it.
pub fn visible(text: &str) -> String {
    spell(text, |c| format!("\\u{{{:x}}}", u32::from(c)))
}

/// Does the same with a line of JSON, which means what it meant before.
pub fn visible_json(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    spell(&text, |c| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect())
}

fn spell(text: &str, spelt: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if c.is_control() || hidden {
            out.push_str(&spelt(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;
