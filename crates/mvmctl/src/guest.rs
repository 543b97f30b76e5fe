//! The guest agent that this mvmctl carries.

/// The static program that is PID 1 in every guest, built from the same tree as mvmctl.
pub const BINARY: &[u8] = include_bytes!(env!("MVM_GUEST"));
