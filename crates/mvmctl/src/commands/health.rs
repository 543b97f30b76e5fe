//! The options that say how to see whether a VM's command is well.

use mvm_engine::{Seconds, WorkloadHealth};

/// How to see whether the command is well, where that differs from what the image says.
#[derive(clap::Args)]
#[command(next_help_heading = "Health options")]
pub struct Health {
    /// Command that tells by exit code 0 that all is well, run by /bin/sh -c in the guest [default: the image's]
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time from the end of one run to the start of the next [default: the image's, or 30s]
    #[arg(long, value_name = "TIME")]
    health_interval: Option<Seconds>,
    /// Time after which a run is killed and has failed [default: the image's, or 30s]
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<Seconds>,
    /// Time after the start in which failures don't count [default: the image's, or 0s]
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<Seconds>,
    /// Failures in a row that make it unhealthy [default: the image's, or 3]
    #[arg(long, value_name = "N")]
    health_retries: Option<u32>,
    /// Run no health check, also not the image's
    #[arg(
        long,
        conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_start_period", "health_retries"]
    )]
    no_healthcheck: bool,
}

impl Health {
    /// Returns what is asked for.
    pub fn resolve(self) -> WorkloadHealth {
        // What is too long for the number is too long for a plan.
        let seconds = |time: Option<Seconds>| time.map(|time| u32::try_from(time.0).unwrap_or(u32::MAX));
        WorkloadHealth {
            none: self.no_healthcheck,
            command: self.health_cmd,
            interval_secs: seconds(self.health_interval),
            timeout_secs: seconds(self.health_timeout),
            start_period_secs: seconds(self.health_start_period),
            retries: self.health_retries,
        }
    }
}
