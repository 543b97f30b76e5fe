//! Looking at a scope's builder, collecting what it has built, and removing it.

use super::error::BuilderError;
use super::record::BuilderRecord;
use super::{BuilderInputs, store_volume};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::OutputStream;
use crate::policies::PolicySource;
use crate::progress::{Cancel, Progress};
use crate::size::Size;
use mvm_ref::VmName;
use mvm_store::{StoreError, VolumeRecord};
use mvm_wire::ExitStatus;
use serde::Serialize;

/// Blocks that became free are given back with the next commit of the volume's journal, and by this at once.
const COLLECT: &str = "nix-collect-garbage && sync && { fstrim /nix 2>/dev/null || true; }";

/// What can be said of a scope's builder.
#[derive(Clone, Debug, Serialize)]
pub struct BuilderStatus {
    /// What it is; nothing if there is none.
    #[serde(flatten)]
    pub record: Option<BuilderRecord>,
    /// Whether its image is in the store.
    pub image_present: bool,
    /// The volume with what was built.
    pub store: Option<VolumeRecord>,
    /// The name of its VM.
    pub vm: VmName,
    /// Who uses it now.
    pub holder: Option<String>,
}

/// What a collection in the builder gave back.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BuilderCollected {
    /// Bytes of the host's disk that the store held before.
    pub before: u64,
    /// Bytes that it holds now.
    pub after: u64,
}

impl Engine {
    /// Says what the scope's builder is and whether it is in use.
    pub fn builder_status(&self) -> Result<BuilderStatus, EngineError> {
        let record = self.builder()?;
        let image_present = match &record {
            Some(record) => self.pulled(&record.image, &record.manifest)?.is_some(),
            None => false,
        };
        let store = match self.scope.volume(&store_volume()?) {
            Ok(volume) => Some(volume),
            Err(StoreError::NoVolume { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let (vm, holder) = (self.builder_vm()?, self.scope.builder_holder()?);
        Ok(BuilderStatus { record, image_present, store, vm, holder })
    }

    /// Removes from the builder's store what nothing in it needs, which is all that was built, and gives the space back.
    /// What was made of it here stays.
    pub fn collect_builder(
        &self,
        policy: &[PolicySource],
        output: &mut dyn FnMut(OutputStream, &[u8]),
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderCollected, EngineError> {
        let inputs = BuilderInputs { source: None, online: false, purpose: "mvmctl builder gc", policy };
        let mut session = self.open_builder(inputs, progress, cancel)?;
        let volume = store_volume()?;
        let before = self.scope.volume(&volume)?.used;
        let status = session.run(&["/bin/sh", "-c", COLLECT], output, cancel)?;
        session.close()?;
        if status != ExitStatus::Code(0) {
            let words = format!("nix-collect-garbage ended with {status:?}");
            return Err(BuilderError::NoNix { image: self.builder_or_error()?.image, words }.into());
        }
        Ok(BuilderCollected { before, after: self.scope.volume(&volume)?.used })
    }

    /// Makes the builder's store larger; its file system follows at its next start.
    pub fn grow_builder(&self, size: Size) -> Result<VolumeRecord, EngineError> {
        self.builder_or_error()?;
        let _lock = self.take_builder("mvmctl builder grow")?;
        self.grow_volume(&store_volume()?, size)
    }

    /// Removes the builder with all that was built. Returns the bytes of disk that its store held.
    pub fn remove_builder(&self) -> Result<u64, EngineError> {
        let lock = self.take_builder("mvmctl builder rm")?;
        let vm = self.builder_vm()?;
        self.clear_leftover(&vm, &crate::progress::Silent, &Cancel::default())?;
        // One whose record can't be read can be removed all the same.
        let record = self.builder();
        let freed = match self.remove_volume(&store_volume()?) {
            Ok(freed) => Some(freed),
            Err(EngineError::Store(StoreError::NoVolume { .. })) => None,
            Err(error) => return Err(error),
        };
        if let Ok(Some(record)) = &record {
            if self.scope.unpin(&record.manifest)? {
                self.audit_pin(record.manifest, false)?;
            }
            for row in self.images()?.into_iter().filter(|row| row.manifest == record.manifest) {
                match row.reference {
                    Some(name) if name.starts_with("mvm.local/builder:") => {
                        self.remove_image(&name)?;
                    }
                    _ => {}
                }
            }
        }
        if matches!(record, Ok(None)) && freed.is_none() {
            return Err(BuilderError::None(self.settings.scope.clone()).into());
        }
        lock.remove_record()?;
        Ok(freed.unwrap_or(0))
    }
}
