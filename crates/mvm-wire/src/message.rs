//! Control messages, as JSON.
//!
//! ```text
//! {"type":"hello","min_version":1,"max_version":1,"software":"…"}   first from each side
//! {"type":"request","id":7,"request":{"op":"start",…}}               host to guest
//! {"type":"response","id":7,"result":{"ok":{"reply":"started",…}}}   or {"error":{"kind":…,"message":…}}
//! {"type":"event","event":{"event":"ready",…}}                       guest to host, unasked
//! ```
//!
//! A request whose envelope is sound but whose body isn't known gets an error response of kind
//! `unsupported`; everything else that doesn't parse ends the connection.

mod codec;
mod health;

pub use codec::{Decoded, MessageError};
pub use health::{Health, HealthOutcome, HealthResult, HealthStatus, ServiceState, ServiceStatus};

use crate::document::Process;
use crate::frame::StreamId;
use crate::{MAX_VERSION, MIN_VERSION};
use serde::{Deserialize, Serialize};

/// One control message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Message {
    /// The first message from each side.
    Hello(Hello),
    /// Asks the peer for something; answered by one response with the same number.
    Request {
        /// Chosen by the requester.
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// Answers a request.
    Response {
        /// The request's number.
        id: u64,
        /// What came of it.
        #[serde(with = "Outcome")]
        result: Result<Reply, Failure>,
    },
    /// Tells what happened, unasked.
    Event {
        /// What happened.
        event: GuestEvent,
    },
}

/// The versions that a side speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The oldest version spoken.
    pub min_version: u32,
    /// The newest version spoken.
    pub max_version: u32,
    /// Name and version of the program, for people to read.
    pub software: String,
}

impl Hello {
    /// Returns what this library speaks.
    pub fn current(software: impl Into<String>) -> Self {
        Self { min_version: MIN_VERSION, max_version: MAX_VERSION, software: software.into() }
    }
}

/// The sides have no version in common.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no protocol version in common: {} speaks {} to {}, {} speaks {} to {}",
    ours.software, ours.min_version, ours.max_version, theirs.software, theirs.min_version, theirs.max_version
)]
pub struct VersionError {
    /// What this side said.
    pub ours: Hello,
    /// What the peer said.
    pub theirs: Hello,
}

/// Returns the newest version that both sides speak.
pub fn negotiate(ours: &Hello, theirs: &Hello) -> Result<u32, VersionError> {
    let version = ours.max_version.min(theirs.max_version);
    if version < ours.min_version.max(theirs.min_version) {
        return Err(VersionError { ours: ours.clone(), theirs: theirs.clone() });
    }
    Ok(version)
}

/// Most store paths of one [`Request::Nar`], so that it fits a frame whatever their names.
pub const MAX_NARS: usize = 512;

/// What the host asks of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Starts a process of the guest document, once; answered by [`Reply::Started`].
    Start {
        /// The process's name in the document.
        process: String,
        /// The streams that carry its standard input and output.
        streams: Streams,
    },
    /// Starts a further process; answered by [`Reply::Started`].
    Exec {
        /// What to run.
        process: Process,
        /// The streams that carry its standard input and output.
        streams: Streams,
    },
    /// Sends a signal to a process; its children are its own business.
    Signal {
        /// The process.
        handle: u32,
        /// The signal's number, 1 to 64.
        signal: i32,
    },
    /// Changes the size of a process's terminal.
    Resize {
        /// The process.
        handle: u32,
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
    /// Ends the machine: each process's stop signal, a wait, SIGKILL, sync, reboot.
    Stop {
        /// How long processes may take to end by themselves, in milliseconds.
        grace_ms: u64,
    },
    /// Asks how the guest does; answered by [`Reply::Status`].
    Status {},
    /// Brings a secret of the document, before anything is started; answered by [`Reply::Done`] once it is in its file.
    Secret {
        /// Its name in the document.
        name: String,
        /// Carries the value, at most 1 MiB, to its end.
        stream: StreamId,
    },
    /// Starts all services and health checks, once; answered by [`Reply::Done`].
    StartServices {
        /// Where the services' output goes; that of others is dropped.
        outputs: Vec<ServiceOutput>,
    },
    /// Asks for all that is known of services and health checks; answered by [`Reply::Services`].
    Services {},
    /// Sets the guest's clock.
    SetTime {
        /// Nanoseconds since 1970.
        unix_ns: u64,
    },
    /// Connects a stream to a port inside the guest; answered by [`Reply::Done`] once it is connected.
    Connect {
        /// The port, 1 to 65535, of the loopback, or else of the guest's interface.
        port: u16,
        /// The transport.
        transport: Transport,
        /// Carries what is sent and received, both ways.
        stream: StreamId,
    },
    /// Packs a file or directory as a tar archive; answered by [`Reply::Done`] once it is known to be there.
    Pack {
        /// Absolute path in the root.
        path: String,
        /// Whether a symlink at the path's end is followed.
        follow: bool,
        /// Carries the archive.
        stream: StreamId,
    },
    /// Packs store paths as Nix archives, one after the other; answered by [`Reply::Done`] once all are known to be there.
    Nar {
        /// Names in `/nix/store`, at most [`MAX_NARS`].
        paths: Vec<String>,
        /// Carries the archives, in the order of the names, with nothing between them.
        stream: StreamId,
    },
    /// Unpacks a tar archive into a directory; answered by [`Reply::Done`] once all of it is there.
    Unpack {
        /// Absolute path of a directory in the root.
        path: String,
        /// Whether entries get the owners that the archive names, or root.
        owners: bool,
        /// Carries the archive.
        stream: StreamId,
    },
    /// Asks what is at a path; answered by [`Reply::File`].
    Stat {
        /// Absolute path in the root.
        path: String,
    },
    /// Stops the hypervisor where it is; a supervisor does it, no guest is asked.
    Pause {},
    /// Lets a stopped hypervisor go on; a supervisor does it, no guest is asked.
    Resume {},
    /// Keeps a VM whose main process nobody has started for as long as the connection lasts, without ever starting it; a
    /// supervisor does it, no guest is asked. Answered by [`Reply::Done`] once the guest is ready.
    Hold {},
    /// Joins the streams of a process that runs already; a supervisor does it, no guest is asked. Answered by
    /// [`Reply::Started`].
    Attach {
        /// The process's name in the document.
        process: String,
        /// The streams to join.
        streams: Streams,
    },
}

/// Where the output of a service goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceOutput {
    /// The service.
    pub service: String,
    /// Carries standard output and standard error, in the order in which they were written.
    pub stream: StreamId,
}

/// What a connection into a guest speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP: bytes are passed on as they are.
    Tcp,
    /// UDP: each datagram follows its length, a big-endian u16.
    Udp,
}

/// The streams of a process; an absent one is `/dev/null`.
///
/// The requester opens them before it sends the request: `stdin` for sending, the others for receiving.
/// With a terminal its input is `stdin`, all output is on `stdout`, and `stderr` must be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// Carries standard input.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stdin: Option<StreamId>,
    /// Carries standard output, or a terminal's output.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stdout: Option<StreamId>,
    /// Carries standard error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stderr: Option<StreamId>,
    /// The terminal's first size, for a process that has one; 24 by 80 when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub terminal: Option<WindowSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// What a request that succeeded gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// A process runs.
    Started {
        /// Names the process in later requests.
        handle: u32,
        /// Its process ID inside the guest.
        pid: u32,
    },
    /// The request is done and has nothing to tell.
    Done {},
    /// How the guest does, by its own account.
    Status {
        /// Since the kernel started, in milliseconds.
        uptime_ms: u64,
        /// Memory as the guest's kernel counts it.
        memory: Memory,
        /// The processes that run, in order of their handles.
        processes: Vec<ProcessStatus>,
    },
    /// How services and health checks do.
    Services {
        /// The services, in the document's order.
        services: Vec<ServiceStatus>,
        /// The health checks: the document's, then those that the root brings.
        health: Vec<HealthStatus>,
    },
    /// What is at a path.
    File {
        /// What kind of file it is, after following symlinks inside the root; absent if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<FileKind>,
    },
}

/// A kind of file, as far as copying has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Memory as a guest's kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// All memory, in KiB.
    pub total_kib: u64,
    /// What new processes could get, in KiB.
    pub available_kib: u64,
}

/// A process that the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessStatus {
    /// Names the process in requests.
    pub handle: u32,
    /// Its process ID inside the guest.
    pub pid: u32,
    /// Its name in the document or in the request that started it.
    pub name: String,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The program is not in the root (exit code 127 by convention).
    NotFound,
    /// The program is there and can't be executed (exit code 126 by convention).
    NotExecutable,
    /// The user or group is not in the root's own files, or its number is out of range.
    NoSuchUser,
    /// The request makes no sense: no such handle, no such stream, a bad argument.
    Invalid,
    /// The guest doesn't know such a request.
    Unsupported,
    /// A limit of the guest is reached.
    Limit,
    /// The guest's kernel refused something that should work.
    Internal,
}

/// What happened in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuestEvent {
    /// The roots are mounted and processes can be started.
    Ready {
        /// The guest's account of itself.
        facts: BootFacts,
    },
    /// A process ended; all its output was sent before.
    Exited {
        /// The process.
        handle: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The guest can't boot; it ends itself after this.
    Failed {
        /// What it was doing.
        stage: BootStage,
        /// The error, with its causes.
        message: String,
    },
    /// A service came into another state, or a health check to another result.
    Changed {
        /// The services that changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        services: Vec<ServiceStatus>,
        /// The health checks that changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        health: Vec<HealthStatus>,
    },
    /// The machine ended without telling how its processes did. A supervisor says it to its clients, no guest does.
    Ended {
        /// What is known of it.
        message: String,
    },
}

/// What a guest says about itself after it booted: a self-report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootFacts {
    /// Release of the kernel, as `uname -r`.
    pub kernel: String,
    /// The machine, as `uname -m`.
    pub machine: String,
    /// From the kernel's start until the agent was ready, in milliseconds.
    pub boot_ms: u64,
    /// Processors.
    pub cpus: u32,
    /// All memory, in KiB.
    pub memory_kib: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// A signal with this number ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Returns it as a shell does: 128 and the signal's number for a signal, and 255 for a number that no signal has.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number @ 1..=64) => u8::try_from(128 + number).unwrap_or(u8::MAX),
            Self::Signal(_) => u8::MAX,
        }
    }
}

/// What a guest does while it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootStage {
    /// Mounting the kernel's file systems.
    KernelFilesystems,
    /// Loading kernel modules.
    Modules,
    /// Reading the guest document.
    Document,
    /// Finding disks.
    Disks,
    /// Setting up dm-verity.
    Verity,
    /// Mounting a read-only root.
    Root,
    /// Mounting the writable layer over it.
    Overlay,
    /// Preparing the root's directories, device nodes and files.
    Prepare,
    /// Mounting volumes and what else the document has beside its root.
    Mounts,
    /// Setting up the network.
    Network,
    /// Opening the agent's port.
    Agent,
}

impl std::fmt::Display for BootStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KernelFilesystems => "kernel-filesystems",
            Self::Modules => "modules",
            Self::Document => "document",
            Self::Disks => "disks",
            Self::Verity => "verity",
            Self::Root => "root",
            Self::Overlay => "overlay",
            Self::Prepare => "prepare",
            Self::Mounts => "mounts",
            Self::Network => "network",
            Self::Agent => "agent",
        })
    }
}

/// Gives `Result` the wire's words for its two cases.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Result", rename_all = "kebab-case")]
enum Outcome<T, E> {
    Ok(T),
    #[serde(rename = "error")]
    Err(E),
}
