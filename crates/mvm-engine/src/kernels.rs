//! Guest kernels: imported, built, chosen; and whether KVM runs them here.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::kernel_build::{self, KernelBuild, Progress};
use crate::settings::Settings;
use crate::vm::{self, Phase, VmError, write_atomically};
use mvm_launch::kernel::{ImportedKernel, KernelInfo, import_elf, import_package};
use mvm_launch::{Accelerator, Probe, Qemu, initramfs};
use mvm_plan::SignedPlan;
use mvm_plan::audit::{Event, Subject};
use mvm_ref::{Digest, VmName};
use mvm_store::{Kernel, KernelError, NewKernel};
use serde::Serialize;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a KVM guest may take to say that it runs.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Where distributions put kernel sources.
const SOURCES: &str = "/usr/src";

/// One line of a list of kernels.
#[derive(Clone, Debug, Serialize)]
pub struct KernelListing {
    /// Digest of the kernel's file.
    pub digest: Digest,
    /// Its release.
    pub version: String,
    /// The machine that it is booted on.
    pub machine: String,
    /// How many modules the initramfs carries for it.
    pub modules: usize,
    /// Length of its file in bytes.
    pub size: u64,
    /// Whether it is booted when nothing else is asked for.
    pub default: bool,
}

impl Engine {
    /// Imports a kernel from an unpacked distribution package, or from a vmlinux and its configuration.
    ///
    /// It becomes the default if there is none, if it has everything built in, or if `default` says so.
    pub fn import_kernel(
        &self,
        path: &Path,
        config: Option<&Path>,
        default: bool,
    ) -> Result<KernelListing, EngineError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| EngineError::Io { act: "read", path: path.to_owned(), source })
        };
        let kernel = if path.is_dir() {
            import_package(path, None)
                .map_err(|source| EngineError::KernelImport { path: path.to_owned(), source })?
        } else {
            let config = config.map_or_else(|| config_beside(path), Path::to_owned);
            import_elf(read(path)?, &read(&config)?)
                .map_err(|source| EngineError::KernelImport { path: path.to_owned(), source })?
        };
        self.store_kernel(&kernel, default)
    }

    /// Builds the tuned kernel and imports it as the default. `directory` is kept for the next build.
    pub fn build_kernel(
        &self,
        source: Option<&Path>,
        directory: Option<&Path>,
        jobs: Option<usize>,
        say: &dyn Fn(&str),
    ) -> Result<KernelListing, EngineError> {
        let source = match source {
            Some(source) => source.to_owned(),
            None => newest_source(Path::new(SOURCES))?,
        };
        let work = directory.map_or_else(|| self.settings.root.join("cache/kernel-build"), Path::to_owned);
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let build = KernelBuild {
            source,
            output: work.join("out"),
            work,
            jobs: jobs.and_then(NonZeroUsize::new).unwrap_or(cores),
            search_path: self.settings.program_path.clone(),
        };
        let built = kernel_build::build(&build, &mut |progress| {
            if let Progress::Step(step) = progress {
                say(&step.to_string());
            }
        })?;
        self.import_kernel(&built.vmlinux, Some(&built.config), true)
    }

    fn store_kernel(&self, kernel: &ImportedKernel, default: bool) -> Result<KernelListing, EngineError> {
        let digest = Digest::of(&kernel.image);
        let info = serde_json::to_vec(&kernel.info)
            .map_err(|source| EngineError::KernelRecord { digest, source })?;
        let modules = (!kernel.modules.is_empty()).then(|| initramfs::modules(&kernel.modules));
        let imported = Event::Import { subject: Subject::Kernel { digest } };
        self.audit.append(&self.settings.scope, vec![imported])?;
        let new = NewKernel { digest, image: &kernel.image, modules: modules.as_deref(), info: &info };
        let stored = self.store.put_kernel(&new)?;
        let first = self.store.default_kernel()?.is_none();
        if first || default || kernel.info.modules.is_empty() {
            self.audit_default(digest)?;
            self.store.set_default_kernel(&digest)?;
        }
        self.kernel_listing(&stored)
    }

    /// Lists kernels.
    pub fn kernels(&self) -> Result<Vec<KernelListing>, EngineError> {
        self.store.kernels()?.iter().map(|kernel| self.kernel_listing(kernel)).collect()
    }

    /// Makes a kernel the default and returns its digest.
    pub fn set_default_kernel(&self, asked: &str) -> Result<Digest, EngineError> {
        let digest = self.store.find_kernel(asked)?.digest();
        self.audit_default(digest)?;
        self.store.set_default_kernel(&digest)?;
        Ok(digest)
    }

    /// Has the audit log tell which kernel is the default from now on.
    fn audit_default(&self, digest: Digest) -> Result<(), EngineError> {
        let subject = Subject::Kernel { digest };
        let set = Event::Set { subject, setting: "default".to_owned(), value: "true".to_owned() };
        Ok(self.audit.append(&self.settings.scope, vec![set])?)
    }

    /// Removes a kernel and returns its digest.
    ///
    /// Refused for one that a VM uses which has not ended, and for the default one while there are others.
    pub fn remove_kernel(&self, asked: &str) -> Result<Digest, EngineError> {
        let kernel = self.store.find_kernel(asked)?;
        let digest = kernel.digest();
        let vms = self.users_of_kernel(&digest)?;
        if !vms.is_empty() {
            return Err(EngineError::KernelInUse { digest, vms });
        }
        if kernel.is_default() && self.store.kernels()?.len() > 1 {
            return Err(EngineError::DefaultKernel(digest));
        }
        self.store.remove_kernel(&digest)?;
        let deleted = Event::Delete { subject: Subject::Kernel { digest } };
        self.audit.append(&self.settings.scope, vec![deleted])?;
        Ok(digest)
    }

    /// Returns the VMs that have not ended and whose plan names a kernel.
    fn users_of_kernel(&self, digest: &Digest) -> Result<Vec<VmName>, EngineError> {
        let mut users = Vec::new();
        for listing in
            self.vms()?.0.into_iter().filter(|vm| !matches!(vm.phase, Phase::Exited | Phase::Failed))
        {
            let path = match self.vms.get(&listing.name) {
                Ok(directory) => directory.file(vm::PLAN),
                // It was removed since they were listed.
                Err(VmError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let plan = match fs::read(&path) {
                Ok(plan) => plan,
                // It was removed, or is just being made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(EngineError::Io { act: "read", path, source }),
            };
            let plan = SignedPlan::parse(&plan)
                .map_err(|source| EngineError::Plan { act: "read", source: source.into() })?;
            if plan.unverified_plan().kernel.digest == *digest {
                users.push(listing.name);
            }
        }
        Ok(users)
    }

    /// Returns the kernel that was asked for, or the default one.
    pub(crate) fn choose_kernel(&self, asked: Option<&str>) -> Result<Kernel, EngineError> {
        match asked {
            Some(asked) => Ok(self.store.find_kernel(asked)?),
            None => self.store.default_kernel()?.ok_or(EngineError::NoKernel),
        }
    }

    /// Returns the kernel with a digest.
    pub(crate) fn kernel(&self, digest: &Digest) -> Result<Kernel, EngineError> {
        let missing = || EngineError::Kernels(KernelError::None { asked: digest.to_string() });
        self.store.kernel(digest)?.ok_or_else(missing)
    }

    /// Returns what a launch must know of a kernel.
    pub(crate) fn kernel_info(&self, kernel: &Kernel) -> Result<KernelInfo, EngineError> {
        serde_json::from_slice(kernel.info())
            .map_err(|source| EngineError::KernelRecord { digest: kernel.digest(), source })
    }

    /// Returns the initramfs for a kernel, before any guest document: the agent, and the modules if it needs some.
    pub(crate) fn base_initramfs(&self, kernel: &Kernel) -> Result<Vec<u8>, EngineError> {
        let mut archive = initramfs::base(self.settings.guest);
        if let Some(path) = kernel.modules() {
            let modules = fs::read(&path).map_err(|source| EngineError::Io { act: "read", path, source })?;
            archive.extend(modules);
        }
        Ok(archive)
    }

    /// Decides between KVM and emulation. What a probe found holds until the next boot of this host.
    ///
    /// The second value is what the user is to be told, the first time only.
    pub(crate) fn accelerator(
        &self,
        qemu: &Qemu,
        kernel: &Kernel,
        info: &KernelInfo,
        initramfs: &[u8],
    ) -> Result<(Accelerator, Option<String>), EngineError> {
        let path = probe_file(&self.settings, qemu, kernel)?;
        if let Some(probe) = read_probe(&path) {
            return Ok((accelerator_of(&probe), None));
        }
        // No guest boots an unverified kernel, not even one that is only to say that it runs.
        kernel.verify()?;
        let probe =
            mvm_launch::probe_kvm(qemu, &self.settings.kvm, &kernel.image(), info, initramfs, PROBE_LIMIT)?;
        self.remember(&path, &probe)?;
        let notice = (!probe.usable).then(|| {
            format!("no usable KVM ({}); emulating, which is slower and no security boundary", probe.reason)
        });
        Ok((accelerator_of(&probe), notice))
    }

    fn remember(&self, path: &Path, probe: &Probe) -> Result<(), EngineError> {
        let failed = |source| EngineError::Io { act: "write", path: path.to_owned(), source };
        let text = serde_json::to_vec(probe).map_err(io::Error::from).map_err(failed)?;
        fs::create_dir_all(self.settings.root.join("cache"))
            .and_then(|()| write_atomically(path, &text))
            .map_err(failed)
    }

    /// Makes a VM's writable disk from a blank that is formatted once.
    pub(crate) fn make_scratch(&self, path: &Path, size_mib: u64) -> Result<(), EngineError> {
        let cache = self.settings.root.join("cache");
        let blank = cache.join(format!("blank-{size_mib}.img"));
        if !mvm_launch::is_blank(&blank, size_mib)? {
            let failed = |source| EngineError::Io { act: "create", path: blank.clone(), source };
            fs::create_dir_all(&cache).map_err(failed)?;
            let temporary = cache.join(format!("blank-{size_mib}.{}.new", std::process::id()));
            mvm_launch::make_blank(&self.settings.program_path, &temporary, size_mib)?;
            fs::rename(&temporary, &blank).map_err(failed)?;
        }
        Ok(mvm_launch::copy_sparse(&blank, path)?)
    }

    fn kernel_listing(&self, kernel: &Kernel) -> Result<KernelListing, EngineError> {
        let info = self.kernel_info(kernel)?;
        let path = kernel.image();
        let size = fs::metadata(&path).map_err(|source| EngineError::Io { act: "read", path, source })?.len();
        Ok(KernelListing {
            digest: kernel.digest(),
            version: info.version,
            machine: info.machine.to_string(),
            modules: info.modules.len(),
            size,
            default: kernel.is_default(),
        })
    }
}

/// Finds the `linux-source-*.tar.xz` of the highest version.
fn newest_source(directory: &Path) -> Result<PathBuf, EngineError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EngineError::NoKernelSource(directory.to_owned()));
        }
        Err(source) => return Err(EngineError::Io { act: "read", path: directory.to_owned(), source }),
    };
    let mut sources: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let version = name.strip_prefix("linux-source-")?.strip_suffix(".tar.xz")?;
            // 5.10 is newer than 5.9; a part that is no number counts as 0.
            let parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0)).collect();
            Some((parts, path))
        })
        .collect();
    sources.sort();
    sources.pop().map(|(_, path)| path).ok_or_else(|| EngineError::NoKernelSource(directory.to_owned()))
}

/// Returns what a probe of KVM with a kernel found since this host was booted, if there was one.
pub(crate) fn known_probe(settings: &Settings, kernel: &Kernel) -> Option<Probe> {
    let qemu = Qemu::find(&settings.program_path).ok()?;
    read_probe(&probe_file(settings, &qemu, kernel).ok()?)
}

fn probe_file(settings: &Settings, qemu: &Qemu, kernel: &Kernel) -> Result<PathBuf, EngineError> {
    let key = mvm_launch::probe_key(qemu, &settings.kvm, kernel.digest())?;
    Ok(settings.root.join("cache").join(format!("kvm-{}.json", Digest::of(key.as_bytes()).hex())))
}

/// Reads what a probe found; what can't be read is found out anew.
fn read_probe(path: &Path) -> Option<Probe> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn accelerator_of(probe: &Probe) -> Accelerator {
    if probe.usable { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// Looks for a kernel's configuration where builds leave it.
fn config_beside(kernel: &Path) -> PathBuf {
    let directory = kernel.parent().unwrap_or(Path::new("."));
    let candidates = [directory.join("config"), directory.join(".config")];
    candidates.iter().find(|path| path.is_file()).unwrap_or(&candidates[0]).clone()
}

#[cfg(test)]
mod tests;
