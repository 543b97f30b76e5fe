//! How a VM fares: what the host sees of it, and what its guest says of itself.

use super::control::stored_plan;
use crate::attach::ControlConnection;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::vm::{Phase, ProcessIdentity, RestartPolicy, State};
use mvm_ref::VmName;
use mvm_wire::{HealthStatus, Memory, Reply, Request, ServiceStatus};
use serde::Serialize;
use std::fs;
use std::time::Duration;

/// How long a guest may take to say how it does.
const PATIENCE: Duration = Duration::from_secs(3);
/// Ticks in a second in `/proc/PID/stat`: Linux shows user space 100, whatever the kernel counts in.
const TICKS_PER_SECOND: u64 = 100;

/// How a VM fares.
#[derive(Clone, Debug, Serialize)]
pub struct VmStatus {
    /// What a list of VMs says of it.
    #[serde(flatten)]
    pub listing: super::VmListing,
    /// When it is launched again after it ended.
    pub restart: String,
    /// How often it was launched again since somebody started it.
    pub restarts: u32,
    /// What its plan gives it.
    pub resources: super::VmResources,
    /// What its hypervisor uses, while that runs.
    pub usage: Option<Usage>,
    /// What its guest says of itself; nothing if it doesn't run, or doesn't answer.
    pub guest: Option<GuestReport>,
    /// Its services, by the guest's own account.
    pub services: Vec<ServiceStatus>,
    /// Its health checks, by the guest's own account.
    pub health_checks: Vec<HealthStatus>,
}

/// What a hypervisor uses, as the host's kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processor time since it started, in milliseconds.
    pub cpu_ms: u64,
    /// Memory that it holds, the guest's included, in bytes.
    pub memory_bytes: u64,
    /// What it read from disks and wrote to them; nothing where the kernel doesn't tell this user.
    pub disk: Option<DiskTraffic>,
}

/// What went from disks and to them, in bytes; what the host's cache had or still holds is not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskTraffic {
    /// From disks.
    pub read_bytes: u64,
    /// To disks.
    pub written_bytes: u64,
}

/// What a guest says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestReport {
    /// Since its kernel started, in milliseconds.
    pub uptime_ms: u64,
    /// All memory, in KiB.
    pub total_kib: u64,
    /// What new processes could get, in KiB.
    pub available_kib: u64,
    /// How many processes the agent started that run.
    pub processes: usize,
}

impl Engine {
    /// Returns how a VM fares. Asks its guest, if that runs.
    pub fn vm_status(&self, name: &VmName) -> Result<VmStatus, EngineError> {
        let directory = self.vms.get(name)?;
        let (record, state) = (directory.record()?, directory.state()?);
        let plan = stored_plan(&directory)?;
        // Only what runs can answer.
        let guest = match state.phase {
            Phase::Running => {
                directory.connect().ok().and_then(|socket| ask(ControlConnection::new(socket).ok()?))
            }
            _ => None,
        };
        let restart: RestartPolicy = record.restart;
        Ok(VmStatus {
            listing: super::listing(&directory)?,
            restart: restart.to_string(),
            restarts: state.restarts,
            resources: super::VmResources::of(&plan),
            usage: usage(&state),
            guest,
            services: state.services,
            health_checks: state.health,
        })
    }

    /// Returns what the hypervisor of a VM uses, and the bytes of memory that its plan gives; nothing if none runs.
    pub fn vm_usage(&self, name: &VmName) -> Result<Option<(Usage, u64)>, EngineError> {
        let directory = self.vms.get(name)?;
        let given = u64::from(stored_plan(&directory)?.resources.memory_mib) << 20;
        Ok(usage(&directory.state()?).map(|usage| (usage, given)))
    }
}

fn ask(mut connection: ControlConnection) -> Option<GuestReport> {
    match connection.ask(Request::Status {}, PATIENCE) {
        Ok(Reply::Status { uptime_ms, memory: Memory { total_kib, available_kib }, processes }) => {
            Some(GuestReport { uptime_ms, total_kib, available_kib, processes: processes.len() })
        }
        // A guest that doesn't answer well is one that doesn't answer.
        _ => None,
    }
}

fn usage(state: &State) -> Option<Usage> {
    let hypervisor = state.hypervisor.as_ref().filter(|hypervisor| hypervisor.alive())?;
    of_process(hypervisor)
}

/// Reads what a process uses from `/proc/PID/stat`, `status` and `io`, proc(5).
fn of_process(process: &ProcessIdentity) -> Option<Usage> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", process.pid())).ok();
    let (stat, status) = (read("stat")?, read("status")?);
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let memory_bytes = kib.checked_mul(1024)?;
    let disk = read("io").and_then(|io| disk_traffic(&io));
    Some(Usage { cpu_ms: ticks.checked_mul(1000 / TICKS_PER_SECOND)?, memory_bytes, disk })
}

fn disk_traffic(io: &str) -> Option<DiskTraffic> {
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
    Some(DiskTraffic { read_bytes: field("read_bytes:")?, written_bytes: field("write_bytes:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured() {
        let begin = of_process(&ProcessIdentity::current().unwrap()).unwrap();
        assert!(begin.memory_bytes > 100_000, "{begin:?}");
        let mut sum = 0_u64;
        let used = loop {
            sum = (0..1_000_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
            let now = of_process(&ProcessIdentity::current().unwrap()).unwrap();
            if now.cpu_ms > begin.cpu_ms {
                break now.cpu_ms;
            }
        };
        assert_eq!(used % 10, 0);
    }

    #[test]
    fn disks_are_told_from_what_passes_through_the_cache() {
        let io = "rchar: 5\nwchar: 6\nsyscr: 7\nsyscw: 8\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n";
        assert_eq!(disk_traffic(io), Some(DiskTraffic { read_bytes: 4096, written_bytes: 8192 }));
        assert_eq!(disk_traffic("rchar: 5\n"), None);
    }
}
