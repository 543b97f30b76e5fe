//! What an `mvm.toml` says, parsed.

use crate::network::Destination;
use crate::run::{PullPolicy, Surroundings, Workload};
use crate::secrets::NamedSource;
use crate::vm::RestartPolicy;
use mvm_plan::plan::{Group, HealthCheck, Mount, MountSource, Port, RequiredIsolation, Service, User};
use mvm_ref::{ImageSource, Platform, VmName, VolumeName};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// The VMs and volumes that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Its name, which those of its VMs and volumes begin with.
    pub name: VmName,
    /// Its VMs in the order in which they start.
    pub vms: Vec<VmDefinition>,
    /// Its volumes.
    pub volumes: Vec<VolumeDefinition>,
}

/// One VM of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmDefinition {
    /// What the file calls it.
    pub key: VmName,
    /// What the store calls it.
    pub name: VmName,
    /// What must have come about before it starts.
    pub after: Vec<After>,
    /// The image.
    pub image: ImageSource,
    /// The platform to choose from the image; the host's if absent.
    pub platform: Option<Platform>,
    /// When to ask the registry.
    pub pull: PullPolicy,
    /// The isolation that it needs.
    pub isolation: RequiredIsolation,
    /// The kernel, by a digest or its beginning; the default one if absent.
    pub kernel: Option<String>,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Space for what the guest writes over its root, in MiB.
    pub scratch_mib: u32,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Whether the image's own command, or what replaces it, is run beside the services.
    pub main: bool,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command unless empty.
    pub command: Vec<String>,
    /// Files of variables, absolute, read before `env`.
    pub env_files: Vec<PathBuf>,
    /// Variables of the command and of all services, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Seconds between the stop signal and the end.
    pub stop_grace_secs: u32,
    /// When it is launched again after it ended.
    pub restart: RestartPolicy,
    /// Its network.
    pub network: NetworkChoice,
    /// What it may reach, all else being denied, as `HOST[:PORT]`; everything but the host if absent.
    #[serde(serialize_with = "as_texts")]
    pub egress: Option<Vec<Destination>>,
    /// What it may reach although it is an address of the host or on its link, as `HOST[:PORT]`.
    #[serde(serialize_with = "each_as_text")]
    pub allow_host: Vec<Destination>,
    /// The ports that the host forwards.
    pub ports: Vec<Port>,
    /// What is mounted, with volumes by the names that the store has for them.
    pub mounts: Vec<Mount>,
    /// Its secrets and where they come from.
    pub secrets: Vec<NamedSource>,
    /// What is kept running.
    pub services: Vec<Service>,
    /// How the guest tells whether it is well.
    pub health_checks: Vec<HealthCheck>,
    /// Users beside those of the image.
    pub users: Vec<User>,
    /// The group of services and secrets.
    pub service_group: Option<Group>,
}

/// A VM that must have come so far before another starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct After {
    /// What the file calls it.
    pub vm: VmName,
    /// How far.
    pub until: Until,
}

/// How far a VM must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// It has booted, and what it runs has been started.
    Started,
    /// Its health checks say that it is well.
    Healthy,
}

/// The kind of network that a VM is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    /// Loopback only.
    None,
    /// An interface whose traffic an ordinary process of the host sends on.
    User,
}

/// A volume of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeDefinition {
    /// What the file calls it.
    pub key: VolumeName,
    /// What the store calls it.
    pub name: VolumeName,
    /// Its size in MiB, where it has to be made; that of any new volume if absent.
    pub size_mib: Option<u32>,
    /// Whether it was there before the project and outlives `down -v`.
    pub external: bool,
}

impl Project {
    /// Returns a VM by the name that the file has for it.
    pub fn vm(&self, key: &VmName) -> Option<&VmDefinition> {
        self.vms.iter().find(|vm| vm.key == *key)
    }

    /// Returns the VMs of these names and all that they start after; all VMs without names.
    ///
    /// The error is the first name that no VM has.
    pub fn chosen(&self, keys: &[VmName]) -> Result<Vec<&VmDefinition>, VmName> {
        if let Some(unknown) = keys.iter().find(|key| self.vm(key).is_none()) {
            return Err(unknown.clone());
        }
        let mut wanted: Vec<&VmName> = keys.iter().collect();
        let mut next = 0;
        while let Some(vm) = wanted.get(next).and_then(|key| self.vm(key)) {
            let further: Vec<&VmName> =
                vm.after.iter().map(|after| &after.vm).filter(|key| !wanted.contains(key)).collect();
            wanted.extend(further);
            next += 1;
        }
        Ok(self.vms.iter().filter(|vm| keys.is_empty() || wanted.contains(&&vm.key)).collect())
    }
}

impl VmDefinition {
    /// Returns what is to be run, given the variables that its files and its table come to.
    pub fn workload(&self, env: Vec<String>) -> Workload {
        Workload {
            entrypoint: self.entrypoint.clone(),
            command: self.command.clone(),
            env,
            working_dir: self.working_dir.clone(),
            user: self.user.clone(),
            terminal: false,
            stdin: false,
            health: crate::run::WorkloadHealth::default(),
        }
    }

    /// Returns the volumes that it mounts, by the names that the store has for them.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumeName> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume { name } => Some(name),
            MountSource::HostDirectory { .. } | MountSource::Tmpfs { .. } | MountSource::Image { .. } => None,
        })
    }

    /// Returns what is beside its main process, without its network, given the variables of all services.
    pub fn surroundings(&self, env: &[String]) -> Surroundings {
        let with_env = |own: &[String]| crate::run::merge_env(env, own);
        let mut services = self.services.clone();
        for service in &mut services {
            service.process.env = with_env(&service.process.env);
        }
        let mut health_checks = self.health_checks.clone();
        for check in &mut health_checks {
            check.process.env = with_env(&check.process.env);
        }
        Surroundings {
            main: self.main,
            services,
            health_checks,
            users: self.users.clone(),
            service_group: self.service_group.clone(),
            mounts: self.mounts.clone(),
            secrets: self.secrets.iter().map(|secret| secret.name.clone()).collect(),
            ports: self.ports.clone(),
            read_only: self.read_only,
            ..Surroundings::default()
        }
    }
}

fn as_texts<S: Serializer>(items: &Option<Vec<Destination>>, serializer: S) -> Result<S::Ok, S::Error> {
    items.as_deref().map(texts).serialize(serializer)
}

fn each_as_text<S: Serializer>(items: &[Destination], serializer: S) -> Result<S::Ok, S::Error> {
    texts(items).serialize(serializer)
}

fn texts(items: &[Destination]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
        })
    }
}
