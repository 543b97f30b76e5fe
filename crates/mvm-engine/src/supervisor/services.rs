//! The guest's services and health checks: their start, and what the guest tells of them, which is kept within bounds.

use super::*;
use mvm_plan::Plan;
use mvm_wire::{Health, HealthOutcome, HealthStatus, ServiceOutput, ServiceStatus};

/// How often what the guest tells is written down.
const PERIOD: Duration = Duration::from_secs(1);
/// Most health checks that a guest may tell of; the plan's are fewer, but the image brings some.
const MAX_CHECKS: usize = 128;
/// Longest name, in bytes.
const MAX_NAME: usize = 128;
/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;
/// Most output of a health check, in bytes.
const MAX_OUTPUT: usize = 4096;

/// What the supervisor knows of services and health checks beside the VM's state.
#[derive(Debug)]
pub(super) struct Services {
    /// The plan's services, in its order.
    names: Vec<String>,
    /// Whether the plan has services or health checks.
    wanted: bool,
    /// The request that starts them, until it is answered.
    request: Option<u64>,
    /// When the state was last written.
    written: Instant,
    /// Whether there is something since that is not.
    changed: bool,
}

impl Services {
    /// Returns what a plan has of them.
    pub(super) fn of(plan: &Plan) -> Self {
        let names: Vec<String> = plan.services.iter().map(|service| service.name.to_string()).collect();
        let wanted = !names.is_empty() || !plan.health_checks.is_empty();
        Self { names, wanted, request: None, written: Instant::now(), changed: false }
    }

    /// Returns how long the guest has to end when its main process has ended.
    pub(super) fn grace(&self) -> Duration {
        if self.names.is_empty() { Duration::ZERO } else { TERM_GRACE }
    }

    /// Returns when there is something to write.
    pub(super) fn due(&self) -> Option<Instant> {
        self.changed.then(|| self.written + PERIOD)
    }
}

impl Supervisor {
    /// Asks the guest to start what its plan has; what the services write goes to the log.
    pub(super) fn start_services(&mut self) -> Result<(), SupervisorError> {
        if !self.services.wanted {
            return Ok(());
        }
        let mut outputs = Vec::new();
        for service in self.services.names.clone() {
            let stream = self.open_log_stream(Origin::new(&service, OutputStream::Output))?;
            outputs.push(ServiceOutput { service, stream });
        }
        self.services.request = Some(self.next_request);
        self.ask_guest(Request::StartServices { outputs }, None, false)
    }

    /// Takes the answer to the start, if it is that: a guest without its services is of no use.
    pub(super) fn services_answered(
        &mut self,
        id: u64,
        result: &Result<Reply, Failure>,
    ) -> Result<(), SupervisorError> {
        if self.services.request != Some(id) {
            return Ok(());
        }
        self.services.request = None;
        match result {
            Err(failure) if !self.stopping => {
                let (stage, message) = ("services".to_owned(), failure.message.clone());
                Err(SupervisorError::GuestFailed { stage, message })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Takes what the guest tells of services and health checks.
    pub(super) fn services_changed(&mut self, services: Vec<ServiceStatus>, health: Vec<HealthStatus>) {
        for status in services {
            self.service_changed(status);
        }
        for status in health {
            self.health_changed(status);
        }
    }

    fn service_changed(&mut self, mut status: ServiceStatus) {
        // One that the plan doesn't have is none.
        let place = |name: &str| self.services.names.iter().position(|known| known == name);
        let Some(index) = place(&status.name) else { return };
        status.reason.iter_mut().for_each(|reason| shorten(reason, MAX_REASON));
        let known = self.state.services.iter().position(|known| known.name == status.name);
        let before = known.map(|known| self.state.services[known].state);
        if before != Some(status.state) {
            let (service, state, reason) = (status.name.clone(), status.state, status.reason.clone());
            self.events.tell(&self.directory.name(), Happening::Service { service, state, reason });
        }
        match known {
            Some(known) => self.state.services[known] = status,
            None => {
                let services = &self.state.services;
                let at = services.iter().filter(|other| place(&other.name) < Some(index)).count();
                self.state.services.insert(at, status);
            }
        }
        self.services.changed = true;
    }

    fn health_changed(&mut self, mut status: HealthStatus) {
        let known = self.state.health.iter().position(|known| known.name == status.name);
        let long = |text: &String| text.len() > MAX_NAME;
        if long(&status.name)
            || status.service.as_ref().is_some_and(long)
            || known.is_none() && self.state.health.len() >= MAX_CHECKS
        {
            return;
        }
        // The last is what there is to tell; the others are the guest's to tell when it is asked. Their memory goes too.
        status.results = status.results.pop().into_iter().collect();
        for result in &mut status.results {
            shorten(&mut result.output, MAX_OUTPUT);
            if let HealthOutcome::NotStarted(reason) = &mut result.outcome {
                shorten(reason, MAX_REASON);
            }
        }
        let before = known.map_or(Health::Starting, |known| self.state.health[known].health);
        if before != status.health {
            let (check, service, health) = (status.name.clone(), status.service.clone(), status.health);
            self.events.tell(&self.directory.name(), Happening::Health { check, service, health });
        }
        match known {
            Some(known) => self.state.health[known] = status,
            None => self.state.health.push(status),
        }
        self.services.changed = true;
    }

    /// Writes down what the guest told, if it is time.
    pub(super) fn write_told(&mut self) {
        if self.services.due().is_some_and(|due| Instant::now() >= due) {
            self.write_state();
        }
    }

    /// Writes the state down, on a full disk once there is room: what is told of a VM that runs must not end it.
    pub(super) fn write_state(&mut self) {
        self.services.written = Instant::now();
        self.services.changed = self.directory.write_state(&self.state).is_err();
    }
}

/// Cuts a text to at most `limit` bytes, and lets go of the rest of its memory.
pub(super) fn shorten(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        *text = text[..end].to_owned();
    }
}

#[cfg(test)]
mod tests;
