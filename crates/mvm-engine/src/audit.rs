//! What can be done with the audit log: read it, check it, sign it, have it witnessed, go on in a new file.

use crate::audit_log::{AuditReport, Follower, LogSettings, Note, Signed, Verification};
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_plan::audit::{Event, Subject};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

impl Engine {
    /// Returns the last `count` lines of the audit log.
    pub fn audit_tail(&self, count: usize) -> Result<Vec<u8>, EngineError> {
        Ok(self.audit.tail(count)?)
    }

    /// Returns the last `count` lines of the audit log, and a reader of those that come after them.
    pub fn audit_follow(&self, count: usize) -> Result<(Vec<u8>, Follower), EngineError> {
        Ok(self.audit.follow(count)?)
    }

    /// Shows each line of the audit log, newline included, until `visit` has seen enough.
    pub fn audit_lines(&self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), EngineError> {
        Ok(self.audit.lines(visit)?)
    }

    /// Checks the audit log from its first line, with what this store knows.
    pub fn audit_verify(&self) -> Result<AuditReport, EngineError> {
        self.audit_verify_with(&Verification::default())
    }

    /// Checks the audit log from its first line, with what else is known of it.
    pub fn audit_verify_with(&self, request: &Verification) -> Result<AuditReport, EngineError> {
        Ok(self.audit.verify(request)?)
    }

    /// Signs the audit log up to its end and gives the checkpoint to its witness, and to this one. Returns what was
    /// signed; nothing if the log is empty.
    pub fn audit_checkpoint(&self, witness: Option<&Path>) -> Result<Option<Signed>, EngineError> {
        // Should this be the first use of it, the log tells that it was made.
        self.key_store().local()?;
        Ok(self.audit.checkpoint(witness)?)
    }

    /// Has the audit log go on in a new file. Returns the name that the file before has now; nothing if the log is empty.
    pub fn audit_rotate(&self) -> Result<Option<PathBuf>, EngineError> {
        Ok(self.audit.rotate()?)
    }

    /// Returns how the audit log is kept.
    pub fn audit_settings(&self) -> Result<LogSettings, EngineError> {
        Ok(self.audit.settings()?)
    }

    /// Has each checkpoint copied into a file, from now on and starting with one of now; or no more.
    pub fn audit_set_witness(&self, witness: Option<PathBuf>) -> Result<(), EngineError> {
        let settings = self.audit.settings()?;
        let value = witness.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let set = Event::Set { subject: Subject::AuditLog, setting: "witness".to_owned(), value };
        // The old witness sees that there is a new one.
        self.audit.append_notes(&self.settings.scope, vec![Note::from(set)])?;
        self.audit_checkpoint(witness.as_deref())?;
        Ok(self.audit.set_settings(LogSettings { witness, ..settings })?)
    }
}
