//! From a VM's directory to a running supervisor: admission, launch, service, the end.

use super::door::Door;
use super::forward::Listeners;
use super::log::BoundedLog;
use super::relay::Relay;
use super::secrets::Delivery;
use super::{CONSOLE_LIMIT, Supervisor, SupervisorError, Unattended, io_error};
use super::{directories, network};
use crate::clock;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, chain};
use crate::journal::{EventLog, Happening, Journal};
use crate::link::Link;
use crate::secrets::{self, Secret};
use crate::vm::{self, Phase, ProcessIdentity, Record, RestartPolicy, State, VmDirectory, VmError};
use mvm_launch::confinement::Host;
use mvm_launch::{
    Backend as _, Disk, LaunchError, Launched as Started, MachineConfig, Qemu, ROOT_SERIAL, SCRATCH_SERIAL,
    image_serial,
};
use mvm_plan::AdmittedPlan;
use mvm_plan::audit::{Event, Outcome};
use mvm_plan::plan::{MountSource, Plan, Root, Scratch};
use mvm_plan::policy::Rule;
use mvm_ref::Digest;
use mvm_store::{Image, LeaseTerm, ProcessId};
use mvm_wire::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a VM that is launched again waits for clients that don't read.
const HANG_UP_LIMIT: Duration = Duration::from_secs(5);

/// The one line that a supervisor prints for whoever started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handshake {
    /// The hypervisor runs and the control socket takes clients.
    Started {
        /// Something worth telling the user once.
        notice: Option<String>,
    },
    /// The VM can't be started.
    Failed {
        /// Why, as one line.
        message: String,
        /// What kind of failure it is.
        kind: FailureKind,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// An [`ErrorKind`] as it goes from a supervisor to whoever started it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// See [`ErrorKind::Refused`].
    Refused,
    /// See [`ErrorKind::Missing`].
    Missing,
    /// See [`ErrorKind::Verification`].
    Verification,
    /// See [`ErrorKind::CommandNotFound`].
    CommandNotFound,
    /// See [`ErrorKind::CommandNotExecutable`].
    CommandNotExecutable,
    /// See [`ErrorKind::Conflict`].
    Conflict,
    /// Everything else.
    Failure,
}

impl From<FailureKind> for ErrorKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Refused => Self::Refused,
            FailureKind::Missing => Self::Missing,
            FailureKind::Verification => Self::Verification,
            FailureKind::CommandNotFound => Self::CommandNotFound,
            FailureKind::CommandNotExecutable => Self::CommandNotExecutable,
            FailureKind::Conflict => Self::Conflict,
            FailureKind::Failure => Self::Failure,
        }
    }
}

impl From<ErrorKind> for FailureKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Missing => Self::Missing,
            ErrorKind::Verification => Self::Verification,
            ErrorKind::CommandNotFound => Self::CommandNotFound,
            ErrorKind::CommandNotExecutable => Self::CommandNotExecutable,
            ErrorKind::Conflict => Self::Conflict,
            _ => Self::Failure,
        }
    }
}

impl From<mvm_wire::FailureKind> for FailureKind {
    fn from(kind: mvm_wire::FailureKind) -> Self {
        match kind {
            mvm_wire::FailureKind::NotFound => Self::CommandNotFound,
            mvm_wire::FailureKind::NotExecutable => Self::CommandNotExecutable,
            _ => Self::Failure,
        }
    }
}

/// Takes the VM's secrets, if it has any, from whoever started this, who gave them as standard input.
pub(super) fn secrets_of(record: &Record) -> Result<Vec<Secret>, EngineError> {
    Ok(secrets::take_over(&record.secrets)?)
}

/// A launched machine and what came with it.
pub(super) struct Launched {
    started: Started,
    admitted: AdmittedPlan,
    state: State,
    listener: UnixListener,
    listeners: Listeners,
    notice: Option<String>,
}

/// Does everything between the signed plan and the running hypervisor.
pub(super) fn launch(
    engine: &Engine,
    directory: &VmDirectory,
    record: &Record,
    restarts: u32,
) -> Result<Launched, EngineError> {
    let path = directory.file(vm::PLAN);
    let bytes = fs::read(&path).map_err(|source| EngineError::Io { act: "read", path, source })?;
    let door = Door::open(engine, record, &bytes)?;
    let signed = door.plan();
    // Nothing of the plan is believed before it is admitted, but which kernel to probe KVM with must be known.
    let kernel = engine.kernel(&signed.unverified_plan().kernel.digest);
    let kernel = kernel.or_else(|error| door.refuse_kernel(error))?;
    door.check_record(&kernel)?;
    std::thread::scope(|scope| {
        // Hashing the kernel takes as long as all the rest.
        let verified = scope.spawn(|| kernel.verify());
        let info = engine.kernel_info(&kernel)?;
        let base = engine.initramfs_of(signed.unverified_plan(), &kernel)?;
        let qemu = Qemu::find(&engine.settings.program_path)?;
        let accelerator = engine.accelerator(&qemu, &kernel, &info, &base);
        let (accelerator, notice) = accelerator.or_else(|error| door.refuse_kernel(error))?;
        let slirp = network::helper(engine, signed.unverified_plan())?;
        let virtiofsd = directories::server(engine, signed.unverified_plan())?;
        let confinement = Host::look(&engine.settings.kvm).reserve().map_err(LaunchError::from)?;
        let admitted = door.admit(accelerator.isolation(), confinement.active())?;
        let prepared = prepare(&door, directory, record, &admitted, &base, confinement.active())?;
        let verified = verified.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        verified.or_else(|error| door.refuse_kernel(error.into()))?;
        let listeners = Listeners::bind(&admitted.plan().ports)?;
        let shared = directories::config(virtiofsd.as_ref(), engine, directory, admitted.plan())?;
        door.use_up(&admitted)?;
        let mut state = State::created(ProcessIdentity::current().map_err(VmError::from)?);
        // Should this process be killed, whoever notices knows from this which launch has ended.
        state.nonce = Some(admitted.nonce());
        state.restarts = restarts;
        directory.write_state(&state)?;
        // On disk before anything runs.
        engine.audit.append(&record.scope, vec![prepared.admit, prepared.launch])?;
        let network = |slirp| network::config(slirp, engine, directory, record, &admitted);
        let config = MachineConfig {
            plan: &admitted,
            kernel: &kernel.image(),
            kernel_info: &info,
            initrd: &prepared.initrd,
            disks: &prepared.disks,
            network: slirp.as_ref().map(network).transpose()?,
            shared,
            accelerator,
        };
        let started = qemu.launch(&config, confinement)?;
        state.phase = Phase::Booting;
        state.hypervisor = Some(ProcessIdentity::of(started.machine.pid()).map_err(VmError::from)?);
        state.isolation = Some(admitted.isolation().to_string());
        state.confinement.clone_from(&started.protections);
        state.policy = Some(admitted.policy().to_owned());
        state.ports = listeners.ports().to_vec();
        state.network = started.machine.network_protections().map(str::to_owned);
        state.started_at = Some(clock::unix_seconds());
        directory.write_state(&state)?;
        Ok(Launched { started, admitted, state, listener: prepared.listener, listeners, notice })
    })
}

/// What a machine is launched with, and what the audit log says of it.
struct Prepared {
    initrd: PathBuf,
    disks: Vec<Disk>,
    listener: UnixListener,
    admit: Event,
    launch: Event,
    /// Keeps the images from being collected until the hypervisor has opened them and the leases count.
    _images: Vec<Image>,
}

/// Leases the images and makes the VM's files.
fn prepare(
    door: &Door<'_>,
    directory: &VmDirectory,
    record: &Record,
    admitted: &AdmittedPlan,
    base: &[u8],
    confinement: BTreeSet<String>,
) -> Result<Prepared, EngineError> {
    let (engine, plan) = (door.engine(), admitted.plan());
    let (expected, got) = (plan.initramfs.digest, Digest::of(base));
    if got != expected {
        let changed = EngineError::Changed { what: "the initramfs", expected, got };
        return door.refuse(Rule::InitramfsDigest, changed);
    }
    let process = ProcessId::current().map_err(VmError::from)?;
    let leased = |root: &Root| -> Result<Image, EngineError> {
        let image = door.image(root)?;
        engine.scope.lease(&root.root_hash, &holder(record), LeaseTerm::Process(process))?;
        Ok(image)
    };
    let image = leased(&plan.root)?;
    let mounted = plan.mounted_images().map(|(index, root)| Ok((image_serial(index), leased(root)?)));
    let mounted = mounted.collect::<Result<Vec<_>, EngineError>>()?;

    let document = mvm_launch::guest_document(admitted, &mvm_image::verity::SALT);
    let archive = mvm_launch::document_archive(&document)
        .map_err(|source| EngineError::Plan { act: "make the guest document of", source: source.into() })?;
    let initrd = directory.file(vm::INITRD);
    fs::write(&initrd, [base, archive.as_slice()].concat()).map_err(|source| EngineError::Io {
        act: "write",
        path: initrd.clone(),
        source,
    })?;
    let disk = |path, serial: &str, read_only| {
        let serial = serial.to_owned();
        Disk { path, serial, read_only, durable: false, held: None }
    };
    let mut disks = vec![disk(image.path().to_owned(), ROOT_SERIAL, true)];
    if plan.resources.scratch == Scratch::Disk {
        let scratch = directory.file(vm::SCRATCH);
        engine.make_scratch(&scratch, plan.resources.scratch_mib)?;
        disks.push(disk(scratch, SCRATCH_SERIAL, false));
    }
    disks.extend(mounted.iter().map(|(serial, image)| disk(image.path().to_owned(), serial, true)));
    disks.extend(engine.lock_volumes(&plan.mounts, &record.name)?);
    let listener = directory.listen()?;
    listener.set_nonblocking(true).map_err(io_error("set up the control socket"))?;
    let nonce = admitted.nonce();
    Ok(Prepared {
        initrd,
        disks,
        listener,
        admit: Event::Admit {
            plan: admitted.digest(),
            policy: admitted.policy().to_owned(),
            signers: admitted.signers().to_vec(),
            isolation: admitted.isolation(),
            nonce,
        },
        launch: Event::Launch {
            vm: record.name.clone(),
            plan: admitted.digest(),
            nonce,
            // The archive holds nothing but the document, and a fixed header.
            guest_document: Digest::of(&archive),
            confinement,
        },
        _images: mounted.into_iter().map(|(_, image)| image).chain([image]).collect(),
    })
}

/// Returns the name under which a VM leases its image.
fn holder(record: &Record) -> String {
    format!("vm:{}", record.name)
}

impl Launched {
    /// Tells whoever waits for the launch of it, or returns what they are to hear once the main process runs.
    pub(super) fn announce(&self, detached: bool, again: bool) -> Result<Option<Handshake>, SupervisorError> {
        let started = Handshake::Started { notice: self.notice.clone() };
        match (again, detached) {
            // They have heard.
            (true, _) => Ok(None),
            // Without anyone attached, whether the command runs is for this process to find out and to say.
            (false, true) => Ok(Some(started)),
            (false, false) => say(&started).map(|()| None),
        }
    }

    /// Puts the supervisor together around the machine.
    pub(super) fn into_supervisor(
        self,
        engine: &Engine,
        directory: &VmDirectory,
        announcement: Option<Handshake>,
        signals: UnixStream,
        secrets: Vec<Secret>,
    ) -> Result<(Supervisor, AdmittedPlan), SupervisorError> {
        let Self { started, admitted, state, listener, listeners, .. } = self;
        let (clients, forwarder) = listeners.start()?;
        let Started { machine, agent, console, .. } = started;
        let unattended =
            admitted.plan().process.as_ref().map(|main| Unattended { terminal: main.tty, stdin: main.stdin });
        let held = directory.held()?;
        let console_log = BoundedLog::create(held.file(vm::CONSOLE), CONSOLE_LIMIT);
        let mut supervisor = Supervisor {
            guest: Link::with_limits(agent, Role::Host, super::GUEST_LIMITS)?,
            console: Some(console),
            console_log: console_log.map_err(io_error("create a log of the VM"))?,
            journal: Journal::open(held.path()).map_err(io_error("create a log of the VM"))?,
            events: EventLog::new(&engine.settings.root),
            directory: held,
            state,
            machine,
            listener,
            forwarder,
            clients,
            relay: Relay::default(),
            pending: BTreeMap::new(),
            next_request: 1,
            early: Vec::new(),
            owners: BTreeMap::new(),
            has_main: unattended.is_some(),
            holder: None,
            has_checks: !admitted.plan().health_checks.is_empty(),
            main: None,
            main_pid: 0,
            main_streams: mvm_wire::Streams::default(),
            joining: Vec::new(),
            main_exit: None,
            ready: false,
            secrets: Delivery::new(secrets),
            detached: announcement.is_some(),
            announcement,
            unattended,
            deadline: None,
            stopping: false,
            asked: false,
            paused: false,
            services: super::services::Services::of(admitted.plan()),
            signals,
            notifier: None,
        };
        supervisor.tell(Happening::Started { isolation: admitted.isolation().to_string() });
        Ok((supervisor, admitted))
    }
}

/// Returns a socket that gets a byte for each `SIGTERM`.
pub(super) fn take_over_signals() -> Result<UnixStream, SupervisorError> {
    let (signals, writer) = UnixStream::pair().map_err(io_error("make a pipe for signals"))?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, writer)
        .map_err(io_error("install a signal handler"))?;
    // The terminal of whoever started this is none of its business.
    for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::default()).map_err(io_error("install a signal handler"))?;
    }
    Ok(signals)
}

/// Writes down how a VM ended, tells its clients, and removes what it no longer needs. Returns the state of the VM that has
/// ended, which is not yet written down where it is launched `again`: nobody must take that one for ended.
pub(super) fn end(
    engine: &Engine,
    mut supervisor: Supervisor,
    record: &Record,
    plan: &AdmittedPlan,
    outcome: Result<(), SupervisorError>,
    again: bool,
) -> Result<State, EngineError> {
    let exit_code = supervisor.exit_code();
    let state = &mut supervisor.state;
    state.exit_code = exit_code;
    state.finished_at = Some(clock::unix_seconds());
    state.phase = if outcome.is_ok() { Phase::Exited } else { Phase::Failed };
    let message = outcome.as_ref().err().map(|error| with_volumes(plan.plan(), chain(error)));
    let incomplete = supervisor.journal.failure().or(supervisor.console_log.failure());
    let incomplete = incomplete.or(supervisor.events.failure());
    state.message = message.clone().or(state.message.take()).or(incomplete);
    let event = Event::Stop {
        vm: record.name.clone(),
        plan: plan.digest(),
        nonce: plan.nonce(),
        outcome: match (&outcome, exit_code) {
            (Err(_), _) => Outcome::Failed,
            (Ok(()), Some(_)) => Outcome::Exited,
            (Ok(()), None) => Outcome::Stopped,
        },
        exit_code: exit_code.map(i32::from),
    };
    let directory = supervisor.directory.clone();
    let name = directory.name();
    let state = supervisor.state.clone();
    // Clients hear of the end only when it is written down, so that what they look at next agrees.
    let audited = engine.audit.append(&record.scope, vec![event]);
    let cleaned = match (again, record.remove_at_end) {
        (true, _) => {
            let (phase, nonce, hypervisor) = (Phase::Restarting, None, None);
            directory.write_end(&State { phase, nonce, hypervisor, ..state.clone() })
        }
        (false, true) => directory.remove_files(),
        (false, false) => directory.end(&state),
    };
    supervisor.tell(match &message {
        Some(message) => Happening::Died { message: message.clone() },
        None => Happening::Exited { exit_code },
    });
    if record.remove_at_end {
        supervisor.events.tell(&name, Happening::Removed {});
    }
    engine.scope.release(&holder(record))?;
    // It may have another name by now.
    engine.scope.release(&format!("vm:{name}"))?;
    match supervisor.announcement.take() {
        Some(Handshake::Started { .. }) => {
            let message =
                message.clone().unwrap_or_else(|| "the VM was stopped before its command ran".to_owned());
            say(&Handshake::Failed { message, kind: FailureKind::Failure, hint: None })?;
        }
        Some(failed) => say(&failed)?,
        None => {}
    }
    let words = message.unwrap_or_else(|| "stopped".to_owned());
    let patience = (record.restart != RestartPolicy::No).then_some(HANG_UP_LIMIT);
    supervisor.hang_up(&words, patience)?;
    std::mem::take(&mut supervisor.forwarder).finish();
    audited?;
    cleaned?;
    Ok(state)
}

/// Puts the names of volumes in the place of their serials, by which a guest knows them, and says what becomes of those
/// that can't be mounted.
fn with_volumes(plan: &Plan, message: String) -> String {
    let mut text = message.clone();
    for (index, mount) in plan.mounts.iter().enumerate() {
        if let MountSource::Volume { name } = &mount.source {
            text = text.replace(
                &format!("volume {} ", mvm_launch::volume_serial(index)),
                &format!("volume {name} "),
            );
        }
    }
    if text != message && text.contains("damaged") {
        text.push_str(
            "; mvmctl volume export gives out its disk, e2fsck mends that, mvmctl volume create --from brings it back",
        );
    }
    text
}

/// Prints the handshake and closes stdout, so that whoever waits for it goes on.
pub(super) fn say(handshake: &Handshake) -> Result<(), SupervisorError> {
    let mut line =
        serde_json::to_vec(handshake).map_err(io::Error::from).map_err(io_error("say that it runs"))?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    // Whoever started this may be gone already, which changes nothing for the VM.
    match out.write_all(&line).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(io_error("say that it runs")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests;
