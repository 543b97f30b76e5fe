//! `mvmctl audit export`: entries for other programs.

use super::moment::Moment;
use super::text;
use crate::context::Context;
use mvm_engine::UtcTime;
use serde_json::Value;
use std::ops::ControlFlow;
use std::process::ExitCode;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values under a heading.
    Csv,
}

const COLUMNS: [&str; 13] = [
    "seq",
    "time",
    "uid",
    "login",
    "scope",
    "kind",
    "vm",
    "plan",
    "digest",
    "outcome",
    "exit_code",
    "event",
    "detail",
];

/// Members of an event or its subject that a row's digest is taken from.
const DIGESTS: [&str; 6] = ["manifest", "root_hash", "digest", "diff_id", "command", "head"];

/// Writes the entries of a span of time. What is no entry is left out and told of.
pub fn run(
    context: &Context,
    since: Option<Moment>,
    until: Option<Moment>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let mut out = context.printer.stream();
    let mut damaged = 0_u64;
    let mut written = match format {
        Format::Csv => out.line(&format!("{}\r", COLUMNS.join(","))),
        Format::Jsonl => Ok(()),
    };
    context.engine_of_existing()?.audit_lines(&mut |line| {
        let entry = text::entry(line);
        let time = entry.as_ref().and_then(|entry| entry["time"].as_str()?.parse::<UtcTime>().ok());
        let (Some(entry), Some(time)) = (entry, time) else {
            damaged += 1;
            return ControlFlow::Continue(());
        };
        let is_early = since.is_some_and(|Moment(since)| time < since);
        if is_early || until.is_some_and(|Moment(until)| time >= until) {
            return ControlFlow::Continue(());
        }
        if written.is_ok() {
            written = match format {
                Format::Jsonl if context.printer.shows_data() => out.line(&text::visible_json(line)),
                Format::Jsonl => out.line(&String::from_utf8_lossy(line.trim_ascii_end())),
                Format::Csv => out.line(&row(&entry)),
            };
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written?;
    out.finish()?;
    if damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    context.printer.always(format_args!(
        "mvmctl: {damaged} lines of the audit log are no entries and were left out; mvmctl audit verify says more"
    ));
    Ok(ExitCode::from(4))
}

/// Returns an entry as a row; the events that have no column of their own are in the column of the whole event.
fn row(entry: &Value) -> String {
    let event = &entry["event"];
    let digest = DIGESTS.iter().flat_map(|name| [&event[name], &event["subject"][name]]);
    let digest = digest.into_iter().find(|digest| digest.is_string()).unwrap_or(&Value::Null);
    let vm = match &event["vm"] {
        Value::Null if event["subject"]["kind"] == "vm" => &event["subject"]["name"],
        vm => vm,
    };
    let cells = [
        &entry["seq"],
        &entry["time"],
        &entry["uid"],
        &entry["login"],
        &entry["scope"],
        &event["kind"],
        vm,
        &event["plan"],
        digest,
        &event["outcome"],
        &event["exit_code"],
        event,
        &entry["detail"],
    ];
    format!("{}\r", cells.map(cell).join(","))
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        value => text::visible_json(value.to_string().as_bytes()),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let table = [
            (
                json!({
                    "seq": 3, "time": "2023-11-14T22:13:20.003Z", "uid": 0, "login": 1000, "scope": "default",
                    "event": {"kind": "stop", "vm": "web", "plan": "sha256:9", "outcome": "exited", "exit_code": 0},
                }),
                "3,2023-11-14T22:13:20.003Z,0,1000,default,stop,web,sha256:9,,exited,0,\
                 \"{\"\"exit_code\"\":0,\"\"kind\"\":\"\"stop\"\",\"\"outcome\"\":\"\"exited\"\",\"\"plan\"\":\"\"sha256:9\"\",\
                 \"\"vm\"\":\"\"web\"\"}\",\r",
            ),
            (
                json!({
                    "seq": 4, "time": "t", "uid": 0,
                    "event": {"kind": "delete", "subject": {"kind": "vm", "name": "a\u{1b}"}},
                    "detail": {"note": "1\n2"},
                }),
                "4,t,0,,,delete,a\u{1b},,,,,\"{\"\"kind\"\":\"\"delete\"\",\"\"subject\"\":{\"\"kind\"\":\"\"vm\"\",\
                 \"\"name\"\":\"\"a\\u001b\"\"}}\",\"{\"\"note\"\":\"\"1\\n2\"\"}\"\r",
            ),
            (
                json!({"seq": 5, "time": "t", "uid": 0, "event": {"kind": "x", "subject": {"diff_id": "sha256:3"}}}),
                "5,t,0,,,x,,,sha256:3,,,\"{\"\"kind\"\":\"\"x\"\",\"\"subject\"\":{\"\"diff_id\"\":\"\"sha256:3\"\"}}\",\r",
            ),
        ];
        for (entry, expected) in table {
            assert_eq!(row(&entry), expected);
        }
        assert_eq!(cell(&json!("a,b\"c")), "\"a,b\"\"c\"");
    }
}
