//! `mvmctl scope …`.

use crate::context::Context;
use crate::printer::bytes;
use clap::Subcommand;
use mvm_engine::{ScopeDetails, Size};
use mvm_ref::ScopeName;
use std::process::ExitCode;
use std::str::FromStr;

/// List, inspect, limit and remove scopes: partitions of the store that share nothing
#[derive(Subcommand)]
pub enum Command {
    /// List scopes
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a scope
    Inspect {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// The scope [default: that of --scope]
        name: Option<ScopeName>,
    },
    /// Set how much disk a scope may hold; an image that doesn't fit is refused
    Set {
        /// A size such as 20GiB, or none
        #[arg(long, value_name = "SIZE")]
        quota: Quota,
        /// The scope, which is made if there is none [default: that of --scope]
        name: Option<ScopeName>,
    },
    /// Remove scopes with all their images; one in use stays
    Rm {
        /// Also those with pinned images or volumes, or whose index is damaged
        #[arg(long, short)]
        force: bool,
        /// Print what was removed as JSON
        #[arg(long)]
        json: bool,
        /// The scopes
        #[arg(required = true)]
        name: Vec<ScopeName>,
    },
}

/// A size, or none.
#[derive(Clone, Copy, Debug)]
pub struct Quota(Option<Size>);

impl FromStr for Quota {
    type Err = mvm_engine::SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            text => text.parse().map(|size| Self(Some(size))),
        }
    }
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let or_current = |name: Option<ScopeName>| name.unwrap_or_else(|| context.settings().scope.clone());
    match command {
        Command::Ls { json } => list(context, json)?,
        Command::Inspect { json, name } => {
            let details = context.scopes().inspect(&or_current(name))?;
            if json { context.printer.json(&details)? } else { show(context, &details)? }
        }
        Command::Set { quota, name } => {
            context.scopes().set_quota(&or_current(name), quota.0.map(Size::bytes))?;
        }
        Command::Rm { force, json, name } => {
            let mut removed = Vec::new();
            for name in &name {
                let scope = context.scopes().remove(name, force)?;
                if !json {
                    context.printer.line(format!("{name}"))?;
                    context.printer.words(format_args!("freed {}", bytes(scope.freed)));
                }
                removed.push(scope);
            }
            if json {
                context.printer.json(&removed)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context, json: bool) -> anyhow::Result<()> {
    let scopes = context.scopes().list()?;
    if json {
        return context.printer.json(&scopes);
    }
    let rows: Vec<Vec<String>> = scopes
        .iter()
        .map(|scope| {
            let unless_damaged = |text: String| if scope.problem.is_some() { "?".to_owned() } else { text };
            vec![
                scope.name.to_string(),
                unless_damaged(scope.images.to_string()),
                unless_damaged(bytes(scope.size)),
                unless_damaged(scope.quota.map_or_else(|| "-".to_owned(), bytes)),
            ]
        })
        .collect();
    context.printer.table(&["SCOPE", "IMAGES", "SIZE", "QUOTA"], &rows)?;
    for scope in &scopes {
        if let Some(problem) = &scope.problem {
            context.printer.words(format_args!("scope {}: {problem}", scope.name));
        }
    }
    Ok(())
}

fn show(context: &Context, scope: &ScopeDetails) -> anyhow::Result<()> {
    let usage = &scope.usage;
    let quota = scope.quota.map_or_else(|| "none".to_owned(), bytes);
    let mut lines = vec![
        format!("scope      {}", scope.name),
        format!("directory  {}", scope.path.display()),
        format!("size       {}", bytes(usage.total)),
        format!("quota      {quota}"),
        format!("images     {} ({} pinned), {}", scope.images, scope.pinned, bytes(usage.images.bytes)),
        format!("layers     {}, {}", usage.segments.count, bytes(usage.segments.bytes)),
        format!("volumes    {}, {}", usage.volumes.count, bytes(usage.volumes.bytes)),
        format!("documents  {}, {}", usage.documents.count, bytes(usage.documents.bytes)),
    ];
    for lease in &scope.leases {
        lines.push(format!("in use     {} by {}", lease.root_hash.short(), lease.holder));
    }
    for line in lines {
        context.printer.line(line)?;
    }
    Ok(())
}
