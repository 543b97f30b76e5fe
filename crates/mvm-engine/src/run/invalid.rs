//! Requests that make no plan, in the words of whoever made them.

use crate::error::EngineError;
use mvm_plan::PlanError;

/// Tells what is wrong with a request in the words of whoever made it, where an option sets that part of a plan.
pub(crate) fn invalid(error: PlanError) -> EngineError {
    let option = match error.field() {
        "resources.cpus" => "--cpus",
        "resources.memory_mib" => "--memory in MiB",
        "resources.scratch_mib" => "--scratch in MiB",
        "validity.not_after" => "the end of --valid-for",
        "hostname" => "--name",
        "source.requested" => "the image's name",
        "process.argv" => "the command",
        "process.env" => "--env, with the image's environment,",
        "process.argv and process.env" => "the command with --env and the image's environment",
        "process.working_dir" => "--workdir",
        "process.user" => "--user",
        "mounts" | "mounts.target" | "mounts.source.name" | "mounts.source.size_mib" => "--volume or --tmpfs",
        "secrets" => "--secret",
        "health_checks.interval_secs" => "--health-interval in seconds",
        "health_checks.timeout_secs" => "--health-timeout in seconds",
        "health_checks.start_period_secs" => "--health-start-period in seconds",
        "health_checks.retries" => "--health-retries",
        _ => return EngineError::Plan { act: "make", source: error.into() },
    };
    EngineError::Option { option, problem: error.problem() }
}
