//! What runs in a guest by its own definition, and takes from the image what it doesn't say itself.

use super::{absolute, merge_env};
use mvm_plan::plan::{HealthCheck, Process, Service};
use mvm_ref::ImageConfig;

/// Gives services the image's environment and working directory under their own.
pub(super) fn services(services: Vec<Service>, image: &ImageConfig) -> Vec<Service> {
    let like = |service: Service| Service { process: completed(service.process, image), ..service };
    services.into_iter().map(like).collect()
}

/// Does the same for health checks, which also run as the main process's user unless they say otherwise.
pub(super) fn health_checks(
    checks: Vec<HealthCheck>,
    main: Option<&Process>,
    image: &ImageConfig,
) -> Vec<HealthCheck> {
    let like = |check: HealthCheck| {
        let mut process = completed(check.process, image);
        if process.user.is_empty() {
            process.user = main.map_or_else(String::new, |main| main.user.clone());
        }
        HealthCheck { process, ..check }
    };
    checks.into_iter().map(like).collect()
}

fn completed(process: Process, image: &ImageConfig) -> Process {
    let image = image.process();
    let directory = match process.working_dir.as_str() {
        "" => image.working_dir.as_str(),
        directory => directory,
    };
    Process { env: merge_env(&image.env, &process.env), working_dir: absolute(directory), ..process }
}
