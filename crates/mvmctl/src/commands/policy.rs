//! `mvmctl policy …`, and how a policy is asked for.

use crate::context::Context;
use anyhow::Context as _;
use clap::Subcommand;
use mvm_engine::{PlanReport, PolicyReport, PolicySource, SYSTEM_POLICY};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a refusal exits with.
pub const REFUSED: u8 = 5;
/// Longest plan that is read: one byte more than an envelope may have.
const MAX_PLAN: u64 = (1 << 20) + 1;

/// Show the policy that launches are judged under, and judge a plan
#[derive(Subcommand)]
pub enum Command {
    /// Print what the policy restricts, and in which file
    Show {
        #[command(flatten)]
        policy: Asked,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Judge a signed plan: each rule, whether the plan satisfies it, why, and how to
    ///
    /// Exits with 5 if the plan would be refused. Nothing is launched.
    Check {
        #[command(flatten)]
        policy: Asked,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// Signed plan; - for stdin
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
    },
}

/// The policies that are asked for.
#[derive(clap::Args, Clone, Default)]
pub struct Asked {
    /// Policy that the plan must satisfy beside the one that always holds: development, production or a file; repeatable
    #[arg(long, value_name = "NAME|FILE")]
    policy: Vec<String>,
}

impl Asked {
    /// Returns the policies; what is not a name of one is a file.
    pub fn resolve(&self) -> anyhow::Result<Vec<PolicySource>> {
        self.policy.iter().map(|text| source(text)).collect()
    }
}

fn source(text: &str) -> anyhow::Result<PolicySource> {
    let path = Path::new(text);
    let builtin = matches!(text, "development" | "production");
    // A word that is neither is more likely misspelt than a file that isn't there.
    if builtin || (!text.contains(['/', '.']) && path.symlink_metadata().is_err()) {
        return Ok(PolicySource::Named(text.to_owned()));
    }
    let path = std::path::absolute(path).with_context(|| format!("resolve the policy {text:?}"))?;
    Ok(PolicySource::File(path))
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Show { policy, json } => {
            show(context, &PolicyReport::read(&policy.resolve()?)?, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { policy, json, plan } => {
            let plan = read_plan(&plan)?;
            let report = context.engine_of_existing()?.check_plan(&plan, &policy.resolve()?)?;
            print(context, &report, json)
        }
    }
}

/// Reads a plan's file, or stdin for `-`.
pub fn read_plan(path: &Path) -> anyhow::Result<Vec<u8>> {
    crate::files::read_limited(path, MAX_PLAN).with_context(|| format!("read the plan {}", path.display()))
}

/// Prints what each rule said, and returns the exit code for it.
pub fn print(context: &Context, report: &PlanReport, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        context.printer.json(report)?;
    } else {
        let mut rows = Vec::new();
        for rule in &report.rules {
            let result = if rule.passed { "pass" } else { "FAIL" };
            rows.push(vec![rule.rule.to_string(), result.to_owned(), visible(&rule.why)]);
            if let Some(remedy) = &rule.remedy {
                rows.push(vec![String::new(), String::new(), format!("to satisfy it: {}", visible(remedy))]);
            }
        }
        context.printer.table(&["RULE", "RESULT", "WHY"], &rows)?;
        let verdict = if report.admitted { "admits" } else { "refuses" };
        context.printer.words(format_args!("policy {} {verdict} plan {}", report.policy, report.plan));
    }
    Ok(if report.admitted { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn show(context: &Context, report: &PolicyReport, json: bool) -> anyhow::Result<()> {
    if json {
        return context.printer.json(report);
    }
    let mut rows = Vec::new();
    for layer in &report.layers {
        let restrictions = serde_json::to_value(layer.restrictions())?;
        for (setting, value) in restrictions.as_object().into_iter().flatten() {
            rows.push(vec![setting.clone(), visible(&text(value)), visible(layer.name())]);
        }
    }
    rows.sort();
    context.printer.table(&["RESTRICTION", "VALUE", "POLICY"], &rows)?;
    if !report.layers.iter().any(|layer| layer.name().starts_with(&format!("{SYSTEM_POLICY}@"))) {
        context.printer.words(format_args!(
            "there is no {SYSTEM_POLICY}; the built-in development policy stands in for it"
        ));
    }
    Ok(())
}

/// Writes a value as people read it: a list without its brackets.
fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) if items.is_empty() => "none".to_owned(),
        serde_json::Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Replaces control characters, which a file's name may hold.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
