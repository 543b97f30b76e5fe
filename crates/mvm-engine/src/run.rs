//! From a request to a signed plan to a supervised VM.

mod beside;
mod health;
mod invalid;
mod request;

pub use health::WorkloadHealth;
pub(crate) use invalid::invalid;
pub use request::{LaunchRequest, PullPolicy, RunRequest, Surroundings, Workload};

use crate::attach::ControlConnection;
use crate::closures;
use crate::directories;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind};
use crate::keys::Signers;
use crate::plans;
use crate::policies;
use crate::progress::{Cancel, Progress, Step};
use crate::pull::Pulled;
use crate::secrets::{self, Secret};
use crate::supervisor::Handshake;
use crate::vm::{self, Record, VmDirectory, VmError};
use crate::{clock, keys};
use mvm_launch::exec::Invocation;
use mvm_plan::audit::{Event, Subject};
use mvm_plan::plan::{Initramfs, Kernel, Mount, Plan, Process, Resources, Schema, Scratch, Source, Validity};
use mvm_plan::{SignedPlan, signal::Signal};
use mvm_ref::{Digest, ImageConfig, Platform, VmName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;

/// A VM whose hypervisor has started.
#[derive(Debug)]
pub struct Launched {
    /// Its name.
    pub name: VmName,
    /// Whether its command has a terminal.
    pub terminal: bool,
    /// Whether its command reads the caller's stdin.
    pub stdin: bool,
    /// A connection to its supervisor.
    pub connection: ControlConnection,
}

/// A plan that nobody has signed yet.
#[derive(Clone, Debug)]
pub struct DraftPlan {
    plan: Plan,
    /// Whether its image was in the store.
    found: bool,
}

impl DraftPlan {
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// The clock of the machine that admits may be a little behind.
const CLOCK_SKEW: i64 = 60;

impl Engine {
    /// Makes, signs and launches a plan for an image.
    ///
    /// Pulls the image if need be. Returns when the hypervisor runs; the guest still boots then.
    pub fn run(
        &self,
        request: RunRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Launched, EngineError> {
        // Before anything is fetched for a launch that can't be.
        self.policy_or_refuse(&request.policy)?;
        let signed = self.create_plan(&request, progress, cancel)?;
        let RunRequest { name, secrets, policy, remove_at_end, detached, restart, .. } = request;
        let request =
            LaunchRequest { name, secrets, policy, remove_at_end, detached, restart, project: None };
        self.launch_signed(&signed, request, progress, cancel)
    }

    /// Makes and signs a plan for an image, which is pulled if need be.
    pub fn create_plan(
        &self,
        request: &RunRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<SignedPlan, EngineError> {
        // A key that can't sign is told before anything is fetched.
        let signers = self.signers(&request.signers)?;
        let draft = self.draft_plan(request, progress, cancel)?;
        self.sign_draft(draft, &signers)
    }

    /// Makes a plan for an image, which is pulled if need be.
    pub fn draft_plan(
        &self,
        request: &RunRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<DraftPlan, EngineError> {
        // What a guest can't have is told before anything is fetched for it.
        self.choose_kernel(request.kernel.as_deref())?;
        directories::resolved(request.surroundings.mounts.clone())?;
        let (image, found) = self.image_for(request, progress, cancel)?;
        let policy = policies::load(&request.policy)?;
        if request.pull != PullPolicy::Never && plans::check_name(&request.image, &policy)?.is_ok() {
            let manifest = &image.manifest;
            self.gather_signatures(&request.image, &request.platform, manifest, &policy, progress, cancel)?;
        }
        if cancel.requested() {
            return Err(EngineError::Interrupted);
        }
        self.draft_of(request, image, found)
    }

    /// Makes a plan for an image of the store; `found` says whether it was there before.
    pub(crate) fn draft_of(
        &self,
        request: &RunRequest,
        image: Pulled,
        found: bool,
    ) -> Result<DraftPlan, EngineError> {
        let mounts = directories::resolved(request.surroundings.mounts.clone())?;
        let kernel = self.choose_kernel(request.kernel.as_deref())?;
        let initramfs = Digest::of(&self.base_initramfs(&kernel)?);
        let name = match &request.name {
            Some(name) => name.clone(),
            None => self.invent_name()?,
        };
        Ok(DraftPlan { plan: self.plan(request, &name, &image, &kernel, (initramfs, mounts))?, found })
    }

    /// Signs a plan, which goes on record.
    pub fn sign_draft(&self, draft: DraftPlan, signers: &Signers) -> Result<SignedPlan, EngineError> {
        let DraftPlan { plan, found } = draft;
        let signers = self.signers(signers)?;
        let root_hash = plan.root.root_hash;
        let signed = mvm_plan::sign(plan, &signers.keys().iter().collect::<Vec<_>>())
            .map_err(|source| EngineError::Plan { act: "sign", source: source.into() })?;
        let signers = signers.keys().iter().map(|key| key.public_key().id()).collect();
        let hit = found.then_some(Event::CacheHit { subject: Subject::Image { root_hash } });
        let sign = Event::Sign { plan: signed.digest(), signers };
        self.audit.append(&self.settings.scope, hit.into_iter().chain([sign]).collect())?;
        Ok(signed)
    }

    /// Launches a plan, of which nothing is believed before it is admitted.
    pub(crate) fn launch_signed(
        &self,
        signed: &SignedPlan,
        request: LaunchRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Launched, EngineError> {
        let plan = signed.unverified_plan();
        let requested = plan.source.requested();
        let secrets = secrets::in_order(&plan.secrets, request.secrets)?;
        let mut record = Record {
            name: request.name.clone().unwrap_or_else(|| plan.workload.clone()),
            scope: self.settings.scope.clone(),
            image: requested.to_string(),
            root_hash: plan.root.root_hash,
            plan: signed.digest(),
            policy: request.policy,
            command: plan.process.as_ref().map_or_else(Vec::new, |main| main.argv.clone()),
            created_at: clock::unix_seconds(),
            remove_at_end: request.remove_at_end,
            secrets: secrets.iter().map(|secret| secret.named.clone()).collect(),
            restart: request.restart,
            project: request.project,
            generation: 1,
        };
        let directory = match self.vms.create(&record) {
            Err(VmError::NameTaken(_)) if request.name.is_none() => {
                record.name = self.further_name(&plan.workload)?;
                self.vms.create(&record)?
            }
            created => created?,
        };
        let launched = self.start(&directory, signed, (request.detached, &secrets), progress, cancel);
        if launched.is_err() {
            // A supervisor that was killed after its launch was put on record could not tell of the end.
            directory.state()?;
            directory.remove_files()?;
        }
        let (terminal, stdin) = plan.process.as_ref().map_or((false, false), |main| (main.tty, main.stdin));
        Ok(Launched { name: record.name, terminal, stdin, connection: launched? })
    }

    /// Finds the image in the store or pulls it, as the request says, and tells which of the two.
    fn image_for(
        &self,
        request: &RunRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Pulled, bool), EngineError> {
        let (image, platform) = (&request.image, &request.platform);
        let known = match request.pull {
            PullPolicy::Always => None,
            PullPolicy::Missing => self.current(image, platform, cancel)?,
            PullPolicy::Never => self.cached(image, platform)?,
        };
        if request.pull == PullPolicy::Never && known.is_none() {
            return Err(EngineError::NoImage { image: image.clone(), platform: platform.clone() });
        }
        if known.is_none() || !request.image_keys.is_empty() {
            self.name_or_refuse(image, &request.policy)?;
        }
        if let Some(known) = known {
            self.verify_stored_signatures(image, &known, &request.image_keys, &[], progress, cancel)?;
            return Ok((known, true));
        }
        Ok((self.pull_signed(image, platform, &request.image_keys, progress, cancel)?, false))
    }

    fn plan(
        &self,
        request: &RunRequest,
        name: &VmName,
        image: &Pulled,
        kernel: &mvm_store::Kernel,
        (initramfs, mounts): (Digest, Vec<Mount>),
    ) -> Result<Plan, EngineError> {
        let requested = request.image.to_string();
        let host = Platform::host();
        if image.platform.architecture() != host.architecture() {
            return Err(EngineError::ForeignPlatform {
                image: requested,
                platform: image.platform.clone(),
                host,
            });
        }
        let now = clock::unix_seconds();
        let pinned = request.image.reference().is_some_and(mvm_ref::Reference::is_pinned);
        let info = self.kernel_info(kernel)?;
        let closure = image.closure.as_deref();
        let around = match closure {
            Some(closure) => closures::surroundings(request.surroundings.clone(), closure)?,
            None => request.surroundings.clone(),
        };
        // A guest of services has no command unless one is given.
        let is_served = closure.is_some_and(closures::is_service_only) && request.workload.names_no_command();
        let main = match around.main && !is_served {
            true => Some(process(&request.workload, &image.config, &requested)?),
            false => None,
        };
        let mut health_checks = beside::health_checks(around.health_checks, main.as_ref(), &image.config);
        if let Some(main) = &main {
            let own = image.config.process().healthcheck.as_ref();
            health_checks.extend(health::check(&request.workload.health, own, main)?);
        }
        let (manifest, config) = (image.manifest, image.config_digest);
        let (named, platform) = (requested.parse().map_err(invalid)?, image.platform.clone());
        let source = match closure {
            None => Source::Oci { requested: named, manifest, config, platform, mutable_tag: !pinned },
            Some(closure) => Source::Flake {
                requested: named,
                manifest,
                config,
                platform,
                derivation: closure.derivation.clone(),
                lock: closure.lock,
            },
        };
        let plan = Plan {
            schema: Schema::V1,
            workload: name.clone(),
            scope: self.settings.scope.clone(),
            posture: source.posture(),
            source,
            root: image.root(),
            kernel: Kernel {
                digest: kernel.digest(),
                version: info.version.clone(),
                record: Some(Digest::of(kernel.info())),
            },
            initramfs: Initramfs { digest: initramfs },
            services: beside::services(around.services, &image.config),
            health_checks,
            process: main,
            users: around.users,
            service_group: around.service_group,
            writable_store: closure.and_then(|closure| closure.writable_store.clone()),
            mounts,
            secrets: around.secrets,
            hostname: match closure {
                Some(closure) => closure.guest.hostname.clone(),
                None => name.as_str().replace(['_', '.'], "-"),
            },
            resources: Resources {
                cpus: request.cpus,
                memory_mib: request.memory_mib,
                scratch_mib: request.scratch_mib,
                scratch: if around.read_only { Scratch::None } else { Scratch::Disk },
            },
            network: around.network,
            ports: around.ports,
            isolation: request.isolation,
            validity: Validity {
                not_before: now - CLOCK_SKEW,
                not_after: now.saturating_add(request.valid_for),
            },
            single_use: request.single_use,
        };
        plan.validate().map_err(invalid)?;
        Ok(plan)
    }

    /// Starts the supervisor of a VM and waits until it has started the hypervisor.
    pub(crate) fn start(
        &self,
        directory: &VmDirectory,
        plan: &SignedPlan,
        (detached, secrets): (bool, &[Secret]),
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<ControlConnection, EngineError> {
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.file(name);
            vm::write_atomically(&path, bytes).map_err(|source| EngineError::Io {
                act: "write",
                path,
                source,
            })
        };
        write(vm::PLAN, plan.as_bytes())?;
        let log_path = directory.file(vm::SUPERVISOR_LOG);
        let log = File::create(&log_path).map_err(|source| EngineError::Io {
            act: "create",
            path: log_path,
            source,
        })?;
        let mut supervisor = Invocation::new(&self.settings.program)
            .arg("--root")
            .arg(&self.settings.root)
            .arg("--scope")
            .arg(directory.record()?.scope.as_str())
            .env("PATH", &self.settings.program_path)
            .directory("/")
            .arg("supervise");
        if detached {
            supervisor = supervisor.arg("--detached");
        }
        if !secrets.is_empty() {
            supervisor = supervisor.input(secrets::pack(secrets)?);
        }
        let mut running = supervisor
            .arg(directory.path())
            .start(Stdio::piped(), Stdio::from(log))
            .map_err(mvm_launch::LaunchError::from)?;
        let handshake = match running.take_stdout() {
            Some(stdout) => read_handshake(stdout, cancel),
            None => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        };
        match handshake {
            // The supervisor is killed as `running` goes, and takes its hypervisor with it.
            Ok(None) => Err(EngineError::Interrupted),
            Ok(Some(Handshake::Started { notice })) => {
                running.detach();
                if let Some(notice) = notice {
                    progress.step(Step::Notice(notice));
                }
                Ok(ControlConnection::new(directory.connect()?)?)
            }
            Ok(Some(Handshake::Failed { message, kind, hint })) => {
                Err(EngineError::Start { message, kind: kind.into(), hint })
            }
            Err(source) => {
                let words = std::fs::read_to_string(directory.file(vm::SUPERVISOR_LOG)).unwrap_or_default();
                let message =
                    format!("the VM's supervisor ended without a word ({source}): {}", words.trim());
                Err(EngineError::Start { message, kind: ErrorKind::Failure, hint: None })
            }
        }
    }

    fn invent_name(&self) -> Result<VmName, EngineError> {
        self.name_after("vm")
    }

    /// Makes up a name for a further VM of a workload.
    fn further_name(&self, workload: &VmName) -> Result<VmName, EngineError> {
        // Names are ASCII and have at most 63 bytes.
        let beginning: String = workload.as_str().chars().take(54).collect();
        self.name_after(&beginning)
    }

    fn name_after(&self, beginning: &str) -> Result<VmName, EngineError> {
        let bytes = keys::random::<4>()?;
        // A name, and letters, digits and a hyphen after it: always a name.
        format!("{beginning}-{:08x}", u32::from_be_bytes(bytes))
            .parse()
            .map_err(|source: mvm_ref::NameError| EngineError::Plan { act: "name", source: source.into() })
    }
}

/// Reads the one line that a supervisor says before it serves, at most 64 KiB; `None` if the user interrupts.
fn read_handshake(mut stdout: impl io::Read + AsFd, cancel: &Cancel) -> io::Result<Option<Handshake>> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while !line.ends_with(b"\n") && line.len() < 64 * 1024 {
        let mut polled = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        match poll(&mut polled, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) if cancel.requested() => return Ok(None),
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match stdout.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => line.extend_from_slice(&buffer[..count]),
        }
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
}

/// Joins what the image says with what the user asks for, as docker does.
pub(crate) fn process(
    workload: &Workload,
    config: &ImageConfig,
    image: &str,
) -> Result<Process, EngineError> {
    let image_process = config.process();
    let mut argv = match &workload.entrypoint {
        Some(entrypoint) => entrypoint.clone(),
        None => image_process.entrypoint.clone(),
    };
    if !workload.command.is_empty() {
        argv.extend(workload.command.iter().cloned());
    } else if workload.entrypoint.is_none() {
        argv.extend(image_process.cmd.iter().cloned());
    }
    if argv.first().is_none_or(String::is_empty) {
        return Err(EngineError::NoCommand(image.to_owned()));
    }
    let working_dir = workload.working_dir.as_ref().unwrap_or(&image_process.working_dir);
    let stop_signal = match image_process.stop_signal.as_str() {
        "" => "SIGTERM",
        signal => signal,
    };
    Ok(Process {
        argv,
        env: merge_env(&image_process.env, &workload.env),
        working_dir: absolute(working_dir),
        user: workload.user.as_ref().unwrap_or(&image_process.user).clone(),
        stop_signal: stop_signal
            .parse::<Signal>()
            .map_err(|source| EngineError::Plan { act: "make", source: source.into() })?,
        tty: workload.terminal,
        stdin: workload.stdin,
    })
}

pub(crate) fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("/{directory}") }
}

/// Sets `changes` over `base`, keeping the place of a variable that is there already.
pub(crate) fn merge_env(base: &[String], changes: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = Vec::new();
    // What an image's config has without a `=` or a name is no variable to anyone.
    let base = base.iter().filter(|variable| variable.find('=').is_some_and(|at| at > 0));
    for variable in base.chain(changes) {
        match merged.iter_mut().find(|known| name(known) == name(variable)) {
            Some(known) => known.clone_from(variable),
            None => merged.push(variable.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
