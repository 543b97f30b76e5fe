//! Brings VMs of a project up and takes them down.
//!
//! A VM belongs to the project that its record names. One whose plan and settings are those that are wanted is left alone;
//! one that differs is stopped, removed and made anew. Everything that makes VMs goes through the signed plan.

use super::model::{Until, VolumeDefinition};
use super::ready::Trouble;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::{Cancel, Progress};
use crate::run::{DraftPlan, LaunchRequest, RunRequest};
use crate::size::Size;
use crate::vm::{Record, VmDirectory, VmError};
use crate::vms::{Lookup, Start, stored_plan};
use mvm_plan::Plan;
use mvm_plan::plan::Network;
use mvm_ref::{VmName, VolumeName};
use mvm_store::StoreError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// Directory of the store with a file a project, which whoever changes it has locked.
const PROJECTS: &str = "projects";

/// Says why a project's VMs are not changed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// Somebody else does it.
    #[error("another command changes project {0}")]
    Busy(VmName),
    /// A VM has the name of one of the project's.
    #[error("a VM named {name} exists, and is not of project {project}")]
    NotOurs {
        /// The VM.
        name: VmName,
        /// The project.
        project: VmName,
    },
    /// It won't come to what somebody waits for.
    #[error("VM {name} is not {until}: {}", trouble.why)]
    NotReady {
        /// The VM.
        name: VmName,
        /// What was waited for.
        until: Until,
        /// What is in the way.
        trouble: Trouble,
    },
    /// It has not come to it in time.
    #[error("VM {name} is not {until} after {} s: {}", limit.as_secs(), trouble.why)]
    Late {
        /// The VM.
        name: VmName,
        /// What was waited for.
        until: Until,
        /// How long.
        limit: Duration,
        /// What is in the way.
        trouble: Trouble,
    },
    /// There is no volume that should be there already.
    #[error("there is no volume {0}, which is external to the project")]
    NoVolume(VolumeName),
    /// The lock could not be taken.
    #[error("lock {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The right to change a project's VMs, which ends with it or with the process.
#[derive(Debug)]
pub struct ProjectLock {
    // Held for its lock only.
    _file: OwnedFd,
}

/// How a VM of a project is brought up.
#[derive(Clone, Copy)]
pub struct Bringing<'a> {
    /// The project.
    pub project: &'a VmName,
    /// What one that is replaced gets between its stop signal and its end.
    pub grace: Duration,
    /// Where secrets of one that is started again may come from.
    pub variable: Lookup<'a>,
}

/// What became of a VM that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// It runs as it is wanted.
    Kept,
    /// It had ended and was started again.
    Started,
    /// There was none.
    Made,
    /// It was another one, which is gone.
    Replaced,
}

impl Engine {
    /// Takes the right to change a project's VMs; an error if another process has it.
    pub fn lock_project(&self, project: &VmName) -> Result<ProjectLock, EngineError> {
        let directory = self.settings.root.join(PROJECTS);
        let path = directory.join(format!("{project}.lock"));
        let failed = |source: std::io::Error| ProjectError::Lock { path: path.clone(), source };
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(error))?,
            _ => {}
        }
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(errno.into()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(ProjectLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(ProjectError::Busy(project.clone()).into()),
            Err(errno) => Err(failed(errno.into()).into()),
        }
    }

    /// Makes the plans of several VMs at the same time, pulling images that are not here.
    pub fn draft_plans(
        &self,
        requests: &[RunRequest],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<DraftPlan>, EngineError> {
        let mut drafts: Vec<Option<DraftPlan>> = requests.iter().map(|_| None).collect();
        // VMs of one image need it once: the first of each image goes first, the others find it in the store.
        let first =
            |index: &usize| !requests[..*index].iter().any(|other| other.image == requests[*index].image);
        let (pulled, found): (Vec<usize>, Vec<usize>) = (0..requests.len()).partition(first);
        for wave in [pulled, found] {
            for some in wave.chunks(AT_ONCE) {
                let made = std::thread::scope(|scope| {
                    let draft = |index: &usize| {
                        let request = &requests[*index];
                        let index = *index;
                        (index, scope.spawn(move || self.draft_plan(request, progress, cancel)))
                    };
                    let threads: Vec<_> = some.iter().map(draft).collect();
                    let joined = |(index, thread): (usize, std::thread::ScopedJoinHandle<'_, _>)| {
                        // A panic goes on where it is waited for.
                        (index, thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    };
                    threads.into_iter().map(joined).collect::<Vec<_>>()
                });
                for (index, draft) in made {
                    drafts[index] = Some(draft?);
                }
            }
        }
        Ok(drafts.into_iter().flatten().collect())
    }

    /// Sees to it that a VM of a project runs by a plan. Returns when the hypervisor runs; the guest still boots then.
    pub fn bring_up(
        &self,
        how: Bringing<'_>,
        request: &RunRequest,
        draft: DraftPlan,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Brought, EngineError> {
        let Bringing { project, grace, variable } = how;
        let name = draft.plan().workload.clone();
        let mut brought = Brought::Made;
        if let Some(directory) = self.member(project, &name)? {
            let same = same_content(&stored_plan(&directory)?, draft.plan())
                && same_launch(&directory.record()?, request);
            let ended = directory.state()?.ended();
            if same && !ended {
                return Ok(Brought::Kept);
            }
            if same {
                self.start_vm(&name, Start { detached: true, variable }, progress, cancel)?;
                return Ok(Brought::Started);
            }
            brought = Brought::Replaced;
            self.stop(&name, grace)?;
            self.remove_vm(&name, true)?;
        }
        if cancel.requested() {
            return Err(EngineError::Interrupted);
        }
        let signed = self.sign_draft(draft, &request.signers)?;
        let launch = LaunchRequest {
            name: Some(name),
            policy: request.policy.clone(),
            secrets: request.secrets.clone(),
            detached: true,
            restart: request.restart,
            project: Some(project.clone()),
            ..LaunchRequest::default()
        };
        self.launch_signed(&signed, launch, progress, cancel)?;
        Ok(brought)
    }

    /// Makes a volume of a project unless it is there. Returns whether it was made.
    pub fn bring_volume(&self, volume: &VolumeDefinition) -> Result<bool, EngineError> {
        match self.volume(&volume.name) {
            Ok(_) => return Ok(false),
            Err(EngineError::Store(StoreError::NoVolume { .. })) => {}
            Err(error) => return Err(error),
        }
        if volume.external {
            return Err(ProjectError::NoVolume(volume.name.clone()).into());
        }
        let size = volume.size_mib.map(|mebibytes| Size::new(u64::from(mebibytes) << 20));
        match self.create_volume(&volume.name, size) {
            Ok(_) => Ok(true),
            // Somebody else was quicker.
            Err(EngineError::Store(StoreError::VolumeExists { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a volume of a project with all that is in it. Returns whether there was one.
    pub fn drop_volume(&self, volume: &VolumeDefinition) -> Result<bool, EngineError> {
        match self.remove_volume(&volume.name) {
            Ok(_) => Ok(true),
            Err(EngineError::Store(StoreError::NoVolume { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the VMs of a project, by name.
    pub fn project_vms(&self, project: &VmName) -> Result<Vec<VmName>, EngineError> {
        let mut names = Vec::new();
        for directory in self.vms.list()? {
            match directory.record() {
                Ok(record) if record.project.as_ref() == Some(project) => names.push(record.name),
                Ok(_) => {}
                // It was removed since the directory was read; or nobody knows whose it is.
                Err(VmError::NotFound(_) | VmError::Record { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(names)
    }

    /// Finds a VM that must be the project's, if there is one of that name.
    fn member(&self, project: &VmName, name: &VmName) -> Result<Option<VmDirectory>, EngineError> {
        let directory = match self.vms.get(name) {
            Err(VmError::NotFound(_)) => return Ok(None),
            directory => directory?,
        };
        if directory.record()?.project.as_ref() != Some(project) {
            return Err(ProjectError::NotOurs { name: name.clone(), project: project.clone() }.into());
        }
        Ok(Some(directory))
    }
}

/// How many images are pulled at once; each has several layers under way.
const AT_ONCE: usize = 3;

/// Says whether a VM was launched with what is asked for beside its plan. A secret's new value is no difference.
fn same_launch(record: &Record, request: &RunRequest) -> bool {
    let secrets = request.secrets.iter().map(|secret| &secret.named);
    record.policy == request.policy && record.restart == request.restart && record.secrets.iter().eq(secrets)
}

/// Says whether two plans make the same VM, whenever they may be launched.
fn same_content(one: &Plan, other: &Plan) -> bool {
    let essence = |plan: &Plan| {
        let mut plan = plan.clone();
        plan.validity = other.validity;
        // What a name stands for changes all the time, and a VM goes on with what it was told.
        if let Network::User { egress, host } = &mut plan.network {
            for rule in egress.iter_mut().flatten().chain(host) {
                rule.addresses.clear();
            }
        }
        plan
    };
    essence(one) == essence(other)
}
