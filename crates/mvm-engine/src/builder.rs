//! The builder: a VM with Nix, in which flakes are evaluated and built.
//!
//! Its root is an image like any other, launched under a plan through the same door as any workload. What it has built stays
//! on a volume of the scope, mounted at `/nix`; one build at a time has it. Sources enter as an image that is mounted to be
//! read, and results leave over the agent's connection: the host reads no file system that a builder wrote.

mod debian;
mod environment;
mod error;
mod keep;
mod make;
mod record;
mod session;

pub use debian::{AptError, DebError, DebianPackage, DebianRelease};
pub use error::BuilderError;
pub use keep::{BuilderCollected, BuilderStatus};
pub use make::{BuilderRequest, BuilderSource};
pub use record::{BuilderOrigin, BuilderRecord};
pub use session::{BuilderSession, BuilderState};

use crate::attach::ControlConnection;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::network::user_network;
use crate::policies::PolicySource;
use crate::progress::{Cancel, Progress, Step};
use crate::pull::Pulled;
use crate::run::{LaunchRequest, PullPolicy, RunRequest, Surroundings, Workload, WorkloadHealth};
use crate::store_settings::StoreSettings;
use crate::vm::{RestartPolicy, VmError};
use mvm_launch::Qemu;
use mvm_plan::Isolation;
use mvm_plan::plan::{FileSystem, Mount, MountSource, Network, RequiredIsolation, Root};
use mvm_ref::{Digest, ImageSource, Platform, VmName, VolumeName};
use mvm_store::{BuilderClaim, BuilderLock, Image};
use session::Started;
use std::time::{Duration, Instant};

/// Where the image with the sources is in a builder.
pub const SOURCE_TARGET: &str = "/mnt/source";
/// The volume that holds `/nix`.
pub const STORE_VOLUME: &str = "mvm-builder-store";
/// Seconds that the plan of a builder's launch is good for; it is launched at once.
const VALIDITY: i64 = 15 * 60;
/// Space for what builds write meanwhile, in MiB; the disk is sparse.
const SCRATCH_MIB: u64 = 32 << 10;
/// Processors that a builder gets of itself under KVM, at most.
const MANY: usize = 4;
/// How long the VM of a builder whose user is gone may take to end.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// What a builder is opened for.
#[derive(Clone, Copy, Debug)]
pub struct BuilderInputs<'a> {
    /// The image to mount at [`SOURCE_TARGET`].
    pub source: Option<&'a Image>,
    /// Whether it has a network.
    pub online: bool,
    /// What it does, for whoever has to wait for it.
    // tidy: allow string-field: words for people
    pub purpose: &'a str,
    /// The policies that its launch has to pass, beside the one that always holds.
    pub policy: &'a [PolicySource],
}

impl Engine {
    /// Starts the scope's builder; waits for whoever has it, and says so.
    pub fn open_builder(
        &self,
        inputs: BuilderInputs<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderSession<'_>, EngineError> {
        // Before anybody waits for what there isn't.
        self.builder_or_error()?;
        let lock = self.await_builder(inputs.purpose, progress, cancel)?;
        let record = self.builder_or_error()?;
        self.launch_builder(lock, record, inputs, progress, cancel)
    }

    /// Takes the builder, waiting for whoever has it.
    fn await_builder(
        &self,
        purpose: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderLock, EngineError> {
        let holder = format!("{purpose} (process {})", std::process::id());
        let mut told = false;
        loop {
            match self.scope.claim_builder(&holder)? {
                BuilderClaim::Free(lock) => return Ok(lock),
                BuilderClaim::Busy(other) if !told => {
                    told = true;
                    progress.step(Step::Notice(format!("the builder is in use by {other}; waiting for it")));
                }
                BuilderClaim::Busy(_) => {}
            }
            if cancel.requested() {
                return Err(EngineError::Interrupted);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes the builder; that somebody has it is an error.
    fn take_builder(&self, purpose: &str) -> Result<BuilderLock, EngineError> {
        let holder = format!("{purpose} (process {})", std::process::id());
        match self.scope.claim_builder(&holder)? {
            BuilderClaim::Free(lock) => Ok(lock),
            BuilderClaim::Busy(holder) => {
                Err(BuilderError::Busy { scope: self.settings.scope.clone(), holder }.into())
            }
        }
    }

    fn launch_builder(
        &self,
        lock: BuilderLock,
        record: BuilderRecord,
        inputs: BuilderInputs<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderSession<'_>, EngineError> {
        let name = self.builder_vm()?;
        self.clear_leftover(&name, progress, cancel)?;
        self.policy_or_refuse(inputs.policy)?;
        let image = self.pulled(&record.image, &record.manifest)?;
        let image = image.ok_or(BuilderError::NoImage(record.manifest))?;
        let settings = StoreSettings::of(&self.store)?;
        let env = environment::environment(&image.config, &settings, inputs.online);
        let request = RunRequest {
            name: Some(name.clone()),
            image: record.image.parse::<ImageSource>().map_err(|_| BuilderError::NoImage(record.manifest))?,
            workload: Workload {
                // Never started: the VM is held, and commands are executed in it.
                entrypoint: Some(vec!["/bin/sh".to_owned()]),
                env: env.clone(),
                working_dir: Some("/".to_owned()),
                user: Some("0:0".to_owned()),
                health: WorkloadHealth { none: true, ..WorkloadHealth::default() },
                ..Workload::default()
            },
            surroundings: Surroundings {
                mounts: mounts(inputs.source)?,
                network: self.builder_network(&settings, inputs.online)?,
                ..Surroundings::default()
            },
            cpus: self.builder_cpus(&record)?,
            memory_mib: record.memory_mib,
            ..request_of_nothing(Platform::host())?
        };
        let draft = self.draft_of(&request, image.clone(), true)?;
        let env = draft.plan().process.as_ref().map_or(env, |main| main.env.clone());
        let signed = self.sign_draft(draft, &request.signers)?;
        let policy = inputs.policy.to_vec();
        let launch =
            LaunchRequest { name: Some(name), policy, remove_at_end: true, ..LaunchRequest::default() };
        // Before anything can be written to its store.
        let clean = lock.take_clean()?;
        let launched = self.launch_signed(&signed, launch, progress, cancel)?;
        let started =
            Started { name: launched.name, plan: signed.digest(), env, connection: launched.connection };
        let mut session = BuilderSession::begin(self, started, (record, image), lock, cancel)?;
        if !clean {
            session.prepare(cancel)?;
        }
        Ok(session)
    }

    /// Returns the name of the builder's VM, which says what it is.
    fn builder_vm(&self) -> Result<VmName, EngineError> {
        let scope = &self.settings.scope;
        let mut name = "mvm-builder".to_owned();
        if *scope != mvm_ref::ScopeName::default() {
            name.push('-');
            // Names have at most 63 bytes; two scopes are not to share a name.
            match scope.as_str() {
                short if short.len() <= 40 => name.push_str(short),
                long => name.extend(Digest::of(long.as_bytes()).hex().to_string().chars().take(40)),
            }
        }
        name.parse()
            .map_err(|source: mvm_ref::NameError| EngineError::Plan { act: "name", source: source.into() })
    }

    /// Ends the VM of a builder whose user is gone: whoever holds the builder's lock is alone.
    fn clear_leftover(
        &self,
        name: &VmName,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let until = Instant::now() + LEFTOVER_LIMIT;
        let mut asked = false;
        loop {
            let directory = match self.vms.get(name) {
                Ok(directory) => directory,
                Err(VmError::NotFound(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let ended = directory.state().is_ok_and(|state| state.ended());
            if ended || Instant::now() > until {
                match self.remove_vm(name, true) {
                    Ok(()) | Err(EngineError::Vm(VmError::NotFound(_))) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if cancel.requested() {
                return Err(EngineError::Interrupted);
            }
            if !asked {
                asked = true;
                progress.step(Step::Notice(format!("ending VM {name}, which a command left behind")));
                // It may end by itself meanwhile; one that doesn't listen is ended all the same when its time is up.
                if let Ok(socket) = directory.connect() {
                    drop(ControlConnection::new(socket).and_then(|control| control.stop(Duration::ZERO)));
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn builder_network(&self, settings: &StoreSettings, online: bool) -> Result<Network, EngineError> {
        if online { user_network(settings.builder().egress().as_deref(), &[]) } else { Ok(Network::None) }
    }

    /// Returns the number of processors: as it was asked, or one where a second only costs.
    fn builder_cpus(&self, record: &BuilderRecord) -> Result<u32, EngineError> {
        if let Some(cpus) = record.cpus {
            return Ok(cpus);
        }
        let kernel = self.choose_kernel(None)?;
        let (info, base) = (self.kernel_info(&kernel)?, self.base_initramfs(&kernel)?);
        let qemu = Qemu::find(&self.settings.program_path)?;
        let accelerator = self.accelerator(&qemu, &kernel, &info, &base)?.0;
        if accelerator.isolation() == Isolation::Emulated {
            return Ok(1);
        }
        let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(u32::try_from(there.min(MANY)).unwrap_or(1))
    }
}

/// Returns the volume's name.
fn store_volume() -> Result<VolumeName, EngineError> {
    STORE_VOLUME
        .parse()
        .map_err(|source: mvm_ref::NameError| EngineError::Plan { act: "make", source: source.into() })
}

fn mounts(source: Option<&Image>) -> Result<Vec<Mount>, EngineError> {
    let store = MountSource::Volume { name: store_volume()? };
    let mut mounts = vec![Mount { target: "/nix".to_owned(), source: store, read_only: false }];
    mounts.extend(source.map(|image| Mount {
        target: SOURCE_TARGET.to_owned(),
        source: MountSource::Image { root: root_of(image) },
        read_only: true,
    }));
    Ok(mounts)
}

/// Returns an image of the store as plans name it.
fn root_of(image: &Image) -> Root {
    let record = image.record();
    Root {
        root_hash: record.root_hash,
        generation: image.generation(),
        data_blocks: record.data_blocks,
        hash_start: record.hash_start,
        size: record.size,
        fs: FileSystem::Erofs,
    }
}

/// Returns a request that leaves everything else as it is for a VM of nothing in particular.
fn request_of_nothing(platform: Platform) -> Result<RunRequest, EngineError> {
    let image = "mvm.local/builder".parse::<ImageSource>();
    let image = image.map_err(|source| EngineError::Plan { act: "make", source: source.into() })?;
    Ok(RunRequest {
        name: None,
        image,
        platform,
        pull: PullPolicy::Never,
        workload: Workload::default(),
        surroundings: Surroundings::default(),
        cpus: 1,
        memory_mib: 0,
        kernel: None,
        secrets: Vec::new(),
        scratch_mib: SCRATCH_MIB,
        policy: Vec::new(),
        isolation: RequiredIsolation::Any,
        valid_for: VALIDITY,
        signers: crate::keys::Signers::default(),
        image_keys: Vec::new(),
        single_use: false,
        remove_at_end: true,
        detached: false,
        restart: RestartPolicy::No,
    })
}

/// Returns an image as plans of the builder name it: by its digest, where its name can carry one.
fn planned_name(image: &ImageSource, pulled: &Pulled) -> String {
    match image.reference() {
        Some(reference) => ImageSource::Registry(reference.pinned(pulled.manifest)).to_string(),
        None => image.to_string(),
    }
}
