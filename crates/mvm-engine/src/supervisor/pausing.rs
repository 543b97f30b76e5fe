//! Pausing: the hypervisor's process is stopped where it is, and goes on from there.
//!
//! All of it stops, its helpers' requests included, on every backend alike. The guest's clock is set when it goes on.

use super::*;
use rustix::process::Signal;

impl Supervisor {
    /// Stops the hypervisor, or lets it go on, and answers.
    pub(super) fn pause_or_resume(
        &mut self,
        client: u32,
        id: u64,
        pause: bool,
    ) -> Result<(), SupervisorError> {
        let refusal = match (pause, self.paused, self.stopping) {
            (true, ..) if !self.ready => Some("the guest has not booted yet"),
            (_, _, true) => Some("the VM is being stopped"),
            (true, true, _) => Some("the VM is paused already"),
            (false, false, _) => Some("the VM is not paused"),
            _ => None,
        };
        let result = match refusal {
            Some(message) => Err(Failure { kind: FailureKind::Invalid, message: message.to_owned() }),
            None => {
                if pause {
                    self.pause()?;
                } else {
                    self.resume()?;
                }
                Ok(Reply::Done {})
            }
        };
        self.clients.tell(client, &Message::Response { id, result });
        Ok(())
    }

    fn pause(&mut self) -> Result<(), SupervisorError> {
        self.signal_hypervisor(Signal::STOP)?;
        self.paused = true;
        self.state.phase = Phase::Paused;
        self.write_state();
        self.tell(Happening::Paused {});
        Ok(())
    }

    /// Lets the hypervisor go on, and tells the guest what time it is.
    pub(super) fn resume(&mut self) -> Result<(), SupervisorError> {
        if !self.paused {
            return Ok(());
        }
        self.signal_hypervisor(Signal::CONT)?;
        self.paused = false;
        self.state.phase = Phase::Running;
        self.write_state();
        self.tell(Happening::Resumed {});
        self.set_time()
    }

    /// Sets the guest's clock to the host's.
    pub(super) fn set_time(&mut self) -> Result<(), SupervisorError> {
        self.ask_guest(Request::SetTime { unix_ns: crate::clock::unix_nanos() }, None, false)
    }

    fn signal_hypervisor(&self, signal: Signal) -> Result<(), SupervisorError> {
        match &self.state.hypervisor {
            Some(hypervisor) => hypervisor.signal(signal).map_err(io_error("signal the hypervisor")),
            None => Ok(()),
        }
    }
}
