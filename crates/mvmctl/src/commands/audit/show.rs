//! `mvmctl audit show`: all that the log has about one thing.

use super::text::{self, Users};
use crate::context::Context;
use mvm_engine::EngineError;
use mvm_ref::Digest;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Fewest hexadecimal digits that a digest is known by.
const FEWEST: usize = 6;

/// Prints the entries about something.
pub fn run(context: &Context, what: &str, json: bool) -> anyhow::Result<()> {
    let engine = context.engine_of_existing()?;
    let about = About::new(context, what)?;
    let users = Users::of_this_machine();
    let mut out = context.printer.stream();
    let mut found = false;
    let mut written = Ok(());
    engine.audit_lines(&mut |line| {
        let Some(entry) = text::entry(line) else { return ControlFlow::Continue(()) };
        if !about.is_met_by(&entry) {
            return ControlFlow::Continue(());
        }
        let shown = match json {
            true if context.printer.shows_data() => text::visible_json(line),
            true => String::from_utf8_lossy(line.trim_ascii_end()).into_owned(),
            false => format!("{}{}", if found { "\n" } else { "" }, paragraph(&entry, line, &users)),
        };
        found = true;
        written = out.line(&shown);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written?;
    out.finish()?;
    if found { Ok(()) } else { Err(EngineError::NoEntry(what.to_owned()).into()) }
}

/// What is asked for.
enum About {
    Entry(u64),
    /// A VM, by its name and the plans it was launched with.
    Vm(String, BTreeSet<String>),
    /// The beginning of a digest, a key ID or a nonce.
    Hex(String),
}

impl About {
    fn new(context: &Context, what: &str) -> anyhow::Result<Self> {
        if !what.is_empty()
            && what.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(seq) = what.parse()
        {
            return Ok(Self::Entry(seq));
        }
        let mut plans = BTreeSet::new();
        let mut is_vm = false;
        context.engine_of_existing()?.audit_lines(&mut |line| {
            if let Some(entry) = text::entry(line)
                && names_vm(&entry, what)
            {
                is_vm = true;
                plans.extend(entry["event"]["plan"].as_str().map(str::to_owned));
            }
            ControlFlow::Continue(())
        })?;
        if is_vm {
            return Ok(Self::Vm(what.to_owned(), plans));
        }
        let digits = what.strip_prefix("sha256:").unwrap_or(what);
        if digits.len() >= FEWEST && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Hex(digits.to_ascii_lowercase()));
        }
        Err(EngineError::NoEntry(what.to_owned()).into())
    }

    fn is_met_by(&self, entry: &Value) -> bool {
        match self {
            Self::Entry(seq) => entry["seq"].as_u64() == Some(*seq),
            Self::Vm(name, plans) => {
                names_vm(entry, name)
                    || entry["event"]["plan"].as_str().is_some_and(|plan| plans.contains(plan))
            }
            Self::Hex(digits) => has_hex(&entry["event"], digits),
        }
    }
}

fn names_vm(entry: &Value, name: &str) -> bool {
    let event = &entry["event"];
    let subject = &event["subject"];
    event["vm"] == name || (subject["kind"] == "vm" && subject["name"] == name)
}

fn has_hex(value: &Value, digits: &str) -> bool {
    match value {
        Value::String(text) => text.strip_prefix("sha256:").unwrap_or(text).starts_with(digits),
        Value::Array(values) => values.iter().any(|value| has_hex(value, digits)),
        Value::Object(members) => members.values().any(|value| has_hex(value, digits)),
        _ => false,
    }
}

/// Returns an entry as a paragraph that leaves nothing out.
fn paragraph(entry: &Value, line: &[u8], users: &Users) -> String {
    let mut rows = vec![
        ("entry".to_owned(), entry["seq"].to_string()),
        ("time".to_owned(), text::plain(&entry["time"])),
        ("user".to_owned(), format!("{} ({})", users.name(&entry["uid"]), entry["uid"])),
    ];
    if !entry["login"].is_null() {
        rows.push(("login".to_owned(), format!("{} ({})", users.name(&entry["login"]), entry["login"])));
    }
    if !entry["scope"].is_null() {
        rows.push(("scope".to_owned(), text::plain(&entry["scope"])));
    }
    rows.push(("event".to_owned(), text::plain(&entry["event"]["kind"])));
    let details = entry["detail"].as_object().into_iter().flatten();
    let details = details.map(|(name, value)| (name.as_str(), value));
    for (name, value) in text::members(&entry["event"]).into_iter().chain(details) {
        rows.push((text::visible(name), text::plain(value)));
    }
    rows.push(("hash".to_owned(), Digest::of(line.strip_suffix(b"\n").unwrap_or(line)).to_string()));
    rows.push(("prev".to_owned(), text::plain(&entry["prev"])));
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let rows: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    rows.join("\n")
}
