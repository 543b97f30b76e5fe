//! `mvmctl plan …`.

use crate::commands::policy::{self, Asked, read_plan};
use crate::commands::run::Planned;
use crate::commands::signing::Signing;
use crate::context::Context;
use anyhow::Context as _;
use clap::Subcommand;
use mvm_engine::{PlanView, Seconds};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How long a plan may be launched if nothing is said, in seconds: 30 days.
const VALIDITY: i64 = 30 * 86_400;

/// Make, show, sign, check and compare plans
#[derive(Subcommand)]
pub enum Command {
    /// Make and sign a plan for an image; nothing is launched
    Create {
        /// File to write it to [default: stdout]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        planned: Box<Planned>,
    },
    /// Print what a plan says, and who is said to have signed it
    Show {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// Signed plan; - for stdin
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
    },
    /// Add signatures to a plan
    Sign {
        #[command(flatten)]
        signing: Signing,
        /// File to write it to [default: in place of the plan; stdout for the plan on stdin]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Signed plan; - for stdin
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
    },
    /// Check a plan: signatures, policy, and that all that it names is here, byte by byte
    ///
    /// Exits with 5 if the plan would be refused. Nothing is launched.
    Verify {
        #[command(flatten)]
        policy: Asked,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// Signed plan; - for stdin
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
    },
    /// Write a plan and all that it names to an OCI archive: image, kernel and initramfs
    ///
    /// A machine that trusts the plan's signer launches it with nothing else.
    Bundle {
        /// File to write it to
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Signed plan; - for stdin
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
    },
    /// Take in a bundle, verify all of it, and print its plan; nothing is launched
    Import {
        /// File to write the plan to [default: stdout]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Archive that `plan bundle` wrote
        bundle: PathBuf,
    },
    /// Print what differs between two plans; exits with 1 if something does
    Diff {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// Signed plan; - for stdin
        old: PathBuf,
        /// Signed plan
        new: PathBuf,
    },
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { output, planned } => {
            let progress = context.progress();
            let (engine, request) = planned.resolve(context, Seconds(VALIDITY), &[])?;
            let signed = engine.create_plan(&request, &progress, context.signals.cancel());
            progress.finish();
            let signed = signed?;
            write(context, output.as_deref(), signed.as_bytes())?;
            context.printer.words(format_args!("plan {}", signed.digest()));
        }
        Command::Show { json, plan } => show(context, &PlanView::read(&read_plan(&plan)?)?, json)?,
        Command::Sign { signing, output, plan } => {
            let engine = context.engine()?;
            let signers = signing.open(context, engine)?;
            let signed = engine.sign_plan(&read_plan(&plan)?, &signers)?;
            let from_stdin = plan == Path::new("-");
            let output = output.or((!from_stdin).then_some(plan));
            write(context, output.as_deref(), signed.as_bytes())?;
            let count = signed.envelope().signatures().len();
            context.printer.words(format_args!("plan {} has {count} signatures", signed.digest()));
        }
        Command::Verify { policy, json, plan } => {
            let plan = read_plan(&plan)?;
            let report = context.engine_of_existing()?.verify_plan(&plan, &policy.resolve()?)?;
            return policy::print(context, &report, json);
        }
        Command::Bundle { output, plan } => {
            let plan = read_plan(&plan)?;
            let engine = context.engine_of_existing()?;
            crate::files::replace_with(&output, |file| {
                engine.bundle_plan(&plan, file).map_err(anyhow::Error::from)
            })
            .with_context(|| format!("write the bundle {}", output.display()))?;
        }
        Command::Import { output, bundle } => {
            let imported = context.engine()?.import_plan(&bundle, context.signals.cancel())?;
            write(context, output.as_deref(), &imported.envelope)?;
            context.printer.words(format_args!("plan {}", imported.digest));
        }
        Command::Diff { json, old, new } => {
            return diff(
                context,
                &PlanView::read(&read_plan(&old)?)?,
                &PlanView::read(&read_plan(&new)?)?,
                json,
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a plan to a file, replacing it as a whole, or to stdout.
fn write(context: &Context, output: Option<&Path>, bytes: &[u8]) -> anyhow::Result<()> {
    match output {
        Some(path) if path != Path::new("-") => {
            crate::files::replace(path, bytes).with_context(|| format!("write the plan {}", path.display()))
        }
        _ => Ok(context.printer.data([bytes, b"\n"].concat())?),
    }
}

fn show(context: &Context, view: &PlanView, json: bool) -> anyhow::Result<()> {
    if json {
        return context.printer.json(view);
    }
    let mut rows = vec![vec!["digest".to_owned(), view.digest.to_string()]];
    rows.extend(parts(&view.plan).into_iter().map(|(name, value)| vec![name, policy::visible(&value)]));
    for signature in &view.signatures {
        rows.push(vec!["signature, unchecked".to_owned(), policy::visible(&signature.key)]);
    }
    Ok(context.printer.table(&["PART", "VALUE"], &rows)?)
}

fn diff(context: &Context, old: &PlanView, new: &PlanView, json: bool) -> anyhow::Result<ExitCode> {
    let (old, new) = (parts(&old.plan), parts(&new.plan));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut rows = Vec::new();
    let mut changes = Vec::new();
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if before != after {
            let text = |value: Option<&String>| value.map_or("-".to_owned(), |value| policy::visible(value));
            rows.push(vec![name.clone(), text(before), text(after)]);
            changes.push(serde_json::json!({"part": name, "old": before, "new": after}));
        }
    }
    if json {
        context.printer.json(&changes)?;
    } else if !rows.is_empty() {
        context.printer.table(&["PART", "OLD", "NEW"], &rows)?;
    }
    Ok(if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the parts of a plan that are not objects, by their paths; lists as JSON, moments as dates.
fn parts(plan: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&path, member, into);
                }
            }
            Value::String(text) => drop(into.insert(path.to_owned(), text.clone())),
            Value::Number(number) if path.starts_with("validity.") => {
                let time = number.as_i64().and_then(mvm_engine::utc_time);
                into.insert(path.to_owned(), time.unwrap_or_else(|| number.to_string()));
            }
            other => drop(into.insert(path.to_owned(), other.to_string())),
        }
    }
    let mut parts = BTreeMap::new();
    walk("", plan, &mut parts);
    parts
}

#[cfg(test)]
mod tests {
    #[test]
    fn parts_are_named_by_their_paths() {
        let plan = serde_json::json!({
            "a": {"b": [1, "x"], "c": true}, "validity": {"not_after": 0}, "text": "t", "number": 7,
        });
        let parts: Vec<_> = super::parts(&plan).into_iter().collect();
        let expected = [
            ("a.b", "[1,\"x\"]"),
            ("a.c", "true"),
            ("number", "7"),
            ("text", "t"),
            ("validity.not_after", "1970-01-01T00:00:00.000Z"),
        ];
        assert_eq!(parts, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
