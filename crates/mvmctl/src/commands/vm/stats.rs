//! `mvmctl vm stats`.

use crate::context::Context;
use crate::printer::{aligned, bytes};
use mvm_engine::{Engine, Phase, VmUsage};
use mvm_ref::VmName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Show what running VMs use of the host, once a second until interrupted
///
/// It is what the host's kernel counts for the hypervisors: 100 % is one processor; memory is what is held, the guest's
/// and the hypervisor's own; disk is what was read and written since the start, without what the host's cache had. What
/// goes over a guest's network is not counted.
#[derive(clap::Args)]
pub struct Args {
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Print it as JSON, a line for each second
    #[arg(long)]
    json: bool,
    /// The VMs [default: all that run]
    name: Vec<VmName>,
}

#[derive(Serialize)]
struct Row {
    name: VmName,
    /// Of one processor.
    cpu_percent: f64,
    memory_bytes: u64,
    /// What the plan gives, in bytes.
    memory_limit_bytes: u64,
    cpu_ms: u64,
    /// Since the start, in bytes; nothing where the kernel doesn't tell.
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
}

const INTERVAL: Duration = Duration::from_secs(1);
/// To the upper left, and clear what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    let mut before = sample(engine, &args.name)?;
    loop {
        let begun = Instant::now();
        while begun.elapsed() < INTERVAL && !context.signals.cancel().requested() {
            std::thread::sleep(Duration::from_millis(50));
        }
        if context.signals.cancel().requested() {
            return Ok(ExitCode::SUCCESS);
        }
        let now = sample(engine, &args.name)?;
        let rows = compare(&before, &now);
        if args.json {
            context.printer.line(serde_json::to_string(&rows)?)?;
        } else {
            let clear = if context.printer.shows_data() && !args.no_stream { CLEAR } else { "" };
            context.printer.data(format!("{clear}{}", table(&rows)))?;
        }
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

type Sample = BTreeMap<VmName, (Instant, VmUsage, u64)>;

fn sample(engine: &Engine, names: &[VmName]) -> anyhow::Result<Sample> {
    let names = match names {
        [] => engine
            .vms()?
            .0
            .into_iter()
            .filter(|vm| matches!(vm.phase, Phase::Booting | Phase::Running | Phase::Paused))
            .map(|vm| vm.name)
            .collect(),
        names => names.to_vec(),
    };
    let mut sample = Sample::new();
    for name in names {
        if let Some((usage, limit)) = engine.vm_usage(&name)? {
            sample.insert(name, (Instant::now(), usage, limit));
        }
    }
    Ok(sample)
}

fn compare(before: &Sample, now: &Sample) -> Vec<Row> {
    let row = |(name, (at, usage, limit)): (&VmName, &(Instant, VmUsage, u64))| {
        let used = before.get(name).map_or(0.0, |(then, used, _)| {
            let elapsed = at.duration_since(*then).as_secs_f64();
            usage.cpu_ms.saturating_sub(used.cpu_ms) as f64 / 10.0 / elapsed.max(0.001)
        });
        Row {
            name: name.clone(),
            cpu_percent: (used * 10.0).round() / 10.0,
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes: *limit,
            cpu_ms: usage.cpu_ms,
            disk_read_bytes: usage.disk.map(|disk| disk.read_bytes),
            disk_written_bytes: usage.disk.map(|disk| disk.written_bytes),
        }
    };
    now.iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let limit = row.memory_limit_bytes;
            let share = 100.0 * row.memory_bytes as f64 / limit.max(1) as f64;
            vec![
                row.name.to_string(),
                format!("{:.1}%", row.cpu_percent),
                format!("{} / {}", bytes(row.memory_bytes), bytes(limit)),
                format!("{share:.1}%"),
                super::status::seconds(row.cpu_ms),
                match (row.disk_read_bytes, row.disk_written_bytes) {
                    (Some(read), Some(written)) => format!("{} / {}", bytes(read), bytes(written)),
                    _ => "-".to_owned(),
                },
            ]
        })
        .collect();
    aligned(&["NAME", "CPU %", "MEMORY / GIVEN", "MEMORY %", "CPU TIME", "DISK READ / WRITTEN"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_compared() {
        let now = Instant::now();
        let at = |ms, cpu_ms| {
            let usage = VmUsage { cpu_ms, memory_bytes: 128 << 20, disk: None };
            let entry = (now + Duration::from_millis(ms), usage, 512 << 20);
            Sample::from([("web".parse().unwrap(), entry)])
        };
        let mut rows = compare(&at(0, 1000), &at(2000, 2500));
        rows.push(Row {
            disk_read_bytes: Some(1_500_000),
            disk_written_bytes: Some(0),
            ..compare(&at(0, 0), &at(1, 0)).remove(0)
        });
        let expected = "\
NAME   CPU %   MEMORY / GIVEN   MEMORY %   CPU TIME   DISK READ / WRITTEN
web    75.0%   134MB / 537MB    25.0%      2.5s       -
web    0.0%    134MB / 537MB    25.0%      0.0s       1.50MB / 0B
";
        assert_eq!(table(&rows), expected);
        assert_eq!(compare(&Sample::new(), &at(0, 10))[0].cpu_percent, 0.0);
    }
}
