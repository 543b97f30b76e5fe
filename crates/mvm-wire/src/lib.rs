//! Host-to-guest protocol: framing, multiplexed streams, messages and the guest document; sans I/O.
//!
//! One byte pipe carries frames ([`frame`]). A [`Connection`] turns received bytes into events and calls
//! into bytes to send: control messages ([`message`]) and flow-controlled streams. What a guest is to run
//! travels beforehand, as a document in its initramfs ([`document`]).
//!
//! The same state machine serves the agent in the guest, the supervisor, and clients of the supervisor:
//! it knows no socket, clock or thread, and bounds what a hostile peer can make it hold.

pub mod connection;
pub mod document;
pub mod frame;
pub mod hex;
pub mod message;
mod stream;

pub use connection::{Connection, Event, Limits, ProtocolError, Role, SendError, StreamError};
pub use document::{DocumentError, Filesystem, GuestDocument, Overlay, Process, Root, Verity};
pub use frame::{Direction, FrameError, ResetReason, StreamId};
pub use hex::Hex;
pub use message::{
    BootFacts, BootStage, ExitStatus, Failure, FailureKind, FileKind, GuestEvent, Health, HealthOutcome,
    HealthResult, HealthStatus, Hello, Memory, Message, MessageError, ProcessStatus, Reply, Request,
    ServiceOutput, ServiceState, ServiceStatus, Streams, Transport, VersionError, WindowSize, negotiate,
};

/// The oldest protocol version that this library speaks.
pub const MIN_VERSION: u32 = 1;
/// The newest protocol version that this library speaks.
pub const MAX_VERSION: u32 = 1;
