//! What the store holds, and what of it goes: collection, usage of the disk, pins.

mod leftovers;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::images::deletion;
use crate::store_settings::StoreSettings;
use crate::vm::{self, VmError};
use crate::vms::stored_plan;
use mvm_plan::audit::{Event, Subject};
use mvm_ref::{Digest, ScopeName};
use mvm_store::{CollectedKind, GcOptions, GcReport, Tally};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is on the disk: of one scope, and of the store as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct DiskUsage {
    /// The scope.
    pub scope: ScopeName,
    /// Bytes that the scope may hold, if there is a limit.
    pub quota: Option<u64>,
    /// Bytes that the scope's layers may hold for themselves.
    pub layer_budget: u64,
    /// What there is, by kind.
    pub kinds: Vec<KindUsage>,
    /// Bytes of all kinds; what two of them share counts once.
    pub total: u64,
    /// Bytes that would become free.
    pub reclaimable: u64,
    /// How many other scopes there are, which are not counted here.
    pub other_scopes: usize,
}

/// What there is of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindUsage {
    /// Its name.
    pub kind: &'static str,
    /// How many things.
    pub count: u64,
    /// Bytes of disk.
    pub size: u64,
    /// Those of them that another kind has too.
    pub shared: u64,
    /// Bytes that `gc` would free now, and those in the directories of VMs that have ended.
    pub reclaimable: u64,
}

impl Engine {
    /// Removes what no name, pin, VM or running command needs, in the scope and outside of all scopes; with a `budget` for layers
    /// other than the one that is set.
    ///
    /// A dry run changes nothing.
    pub fn collect_garbage(&self, dry_run: bool, budget: Option<u64>) -> Result<GcReport, EngineError> {
        let budget = match budget {
            Some(budget) => budget,
            None => StoreSettings::of(&self.store)?.layer_budget(),
        };
        if !dry_run {
            // What died without a word is noted as ended, and its disk goes.
            self.vms()?;
        }
        let used = self.images_of_vms()?;
        let options = GcOptions { dry_run, segment_budget: Some(budget) };
        let mut report = self.scope.gc(&options, &|root| used.contains_key(root))?;
        let leftovers = self.collect_leftovers(dry_run)?;
        report.freed += leftovers.iter().map(|item| item.bytes).sum::<u64>();
        report.removed.extend(leftovers);
        if !dry_run {
            report.freed += self.store.sweep_scopes()?;
            self.audit.append(&self.settings.scope, report.removed.iter().filter_map(deletion).collect())?;
        }
        Ok(report)
    }

    /// Removes layers that were unused longest, if all of them hold more than they may.
    pub(crate) fn trim_layers(&self, settings: &StoreSettings) -> Result<(), EngineError> {
        let report = self.scope.trim_segments(settings.layer_budget())?;
        Ok(self.audit.append(&self.settings.scope, report.removed.iter().filter_map(deletion).collect())?)
    }

    /// Returns what the scope and the store as a whole hold on the disk. Changes nothing.
    pub fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        let usage = self.scope.usage()?;
        let report = self.collect_garbage(true, None)?;
        let freed =
            |kind| report.removed.iter().filter(|item| item.kind == kind).map(|item| item.bytes).sum();
        let of = |kind, tally: Tally, reclaimable| {
            let Tally { count, bytes, shared } = tally;
            KindUsage { kind, count, size: bytes, shared, reclaimable }
        };
        let mut kinds = vec![
            of("images", usage.images, freed(CollectedKind::Image)),
            of("layers", usage.segments, freed(CollectedKind::Segment)),
            of("documents", usage.documents, freed(CollectedKind::Document)),
            of("volumes", usage.volumes, 0),
            of("staging", usage.staging, freed(CollectedKind::Leftover)),
        ];
        let mut total = usage.total;
        let mut add = |kind, size, count, reclaimable| {
            total += size;
            kinds.push(KindUsage { kind, count, size, shared: 0, reclaimable });
        };
        let kernels = self.store.root().join("kernels");
        add("kernels", size_below(&kernels)?, self.store.kernels()?.len() as u64, 0);
        let vms = self.vms_on_disk()?;
        add("vms", vms.files, vms.count, vms.ended_files);
        add("scratch", vms.scratch, vms.scratch_count, vms.ended_scratch);
        let (cache, audit) = (self.store.cache(), self.store.audit());
        add("cache", size_below(&cache)?, entries(&cache)?.len() as u64, freed(CollectedKind::Signatures));
        let plans = [self.initramfs_directory(), self.settings.root.join("used-plans")];
        let (mut size, mut count) = (0, 0);
        for directory in &plans {
            (size, count) = (size + size_below(directory)?, count + entries(directory)?.len() as u64);
        }
        add("plans", size, count, freed(CollectedKind::Initramfs) + freed(CollectedKind::UsedPlan));
        add("audit", size_below(&audit)?, entries(&audit)?.len() as u64, 0);
        let scopes = self.store.scopes()?;
        Ok(DiskUsage {
            scope: self.settings.scope.clone(),
            quota: self.scope.quota()?,
            layer_budget: StoreSettings::of(&self.store)?.layer_budget(),
            reclaimable: kinds.iter().map(|kind| kind.reclaimable).sum(),
            kinds,
            total,
            other_scopes: scopes.iter().filter(|scope| **scope != self.settings.scope).count(),
        })
    }

    /// Pins an image, so that it stays whatever becomes of its names. Returns its manifest.
    pub fn pin_image(&self, name: &str) -> Result<Digest, EngineError> {
        let manifest = self.find_image(name)?.manifest;
        self.audit_pin(manifest, true)?;
        self.scope.pin(&manifest)?;
        Ok(manifest)
    }

    /// Takes back the pin of an image. Returns its manifest.
    pub fn unpin_image(&self, name: &str) -> Result<Digest, EngineError> {
        let image = self.find_image(name)?;
        if !image.pinned {
            return Err(EngineError::NotPinned(name.to_owned()));
        }
        self.audit_pin(image.manifest, false)?;
        self.scope.unpin(&image.manifest)?;
        Ok(image.manifest)
    }

    pub(crate) fn audit_pin(&self, manifest: Digest, pinned: bool) -> Result<(), EngineError> {
        let subject = Subject::Blob { digest: manifest };
        let set = Event::Set { subject, setting: "pinned".to_owned(), value: pinned.to_string() };
        Ok(self.audit.append(&self.settings.scope, vec![set])?)
    }

    /// Returns the root hashes that VMs need, running or not, and who needs each: what a VM is started from, and what
    /// `vm rollback` goes back to. Changes nothing.
    pub(crate) fn images_of_vms(&self) -> Result<BTreeMap<Digest, BTreeSet<String>>, EngineError> {
        let mut used = BTreeMap::<Digest, BTreeSet<String>>::new();
        for path in entries(&self.store.vms())? {
            let directory = vm::VmDirectory::open(&path)?;
            let record = match directory.record() {
                // It is being made, or was removed meanwhile; or nothing can be started by it.
                Err(VmError::NotFound(_) | VmError::Record { .. }) => continue,
                record => record?,
            };
            let before = directory.generation_before(record.generation).map(|(before, _)| before.root_hash);
            let plan = stored_plan(&directory).ok();
            let mounted = plan.iter().flat_map(|plan| plan.mounted_images()).map(|(_, root)| root.root_hash);
            for root in [record.root_hash].into_iter().chain(before).chain(mounted) {
                used.entry(root).or_default().insert(format!("vm:{}", directory.name()));
            }
        }
        Ok(used)
    }

    fn vms_on_disk(&self) -> Result<VmsOnDisk, EngineError> {
        let mut found = VmsOnDisk::default();
        for path in entries(&self.store.vms())? {
            let is_over =
                vm::VmDirectory::open(&path).and_then(|directory| directory.is_over()).unwrap_or(false);
            let scratch = size_below(&path.join(vm::SCRATCH))?;
            let files = size_below(&path)?.saturating_sub(scratch);
            found.count += 1;
            found.files += files;
            found.scratch += scratch;
            found.scratch_count += u64::from(scratch > 0);
            if is_over {
                found.ended_files += files;
                found.ended_scratch += scratch;
            }
        }
        Ok(found)
    }
}

/// What the directories of VMs hold: bytes, and those of VMs that have ended.
#[derive(Default)]
struct VmsOnDisk {
    count: u64,
    files: u64,
    ended_files: u64,
    scratch: u64,
    scratch_count: u64,
    ended_scratch: u64,
}

/// Returns the paths in a directory; of an absent one none.
pub(crate) fn entries(directory: &Path) -> Result<Vec<std::path::PathBuf>, EngineError> {
    let fail = |source| EngineError::Io { act: "list", path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => {
            let found = found.map_err(fail)?.map(|entry| entry.map_err(fail));
            // A VM that was removed counts no more, one that is being made not yet; whoever lists VMs next removes what is
            // left of either.
            let is_there = |entry: &fs::DirEntry| {
                let name = entry.file_name();
                ![vm::GONE, vm::NEW].iter().any(|start| name.as_bytes().starts_with(start.as_bytes()))
            };
            found
                .filter(|entry| entry.as_ref().map_or(true, is_there))
                .map(|entry| Ok(entry?.path()))
                .collect()
        }
    }
}

/// Returns the bytes of disk of a file, or of all files in a directory and those in it. What goes meanwhile counts nothing.
pub(crate) fn size_below(path: &Path) -> Result<u64, EngineError> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        metadata => {
            metadata.map_err(|source| EngineError::Io { act: "inspect", path: path.to_owned(), source })?
        }
    };
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    entries(path)?.iter().map(|entry| size_below(entry)).sum()
}

#[cfg(test)]
mod tests;
