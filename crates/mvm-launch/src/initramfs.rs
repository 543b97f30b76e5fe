//! The initramfs: the guest's PID 1, the modules that a distribution's kernel needs, and the guest document.
//!
//! Each is an archive of its own, since the kernel unpacks several in a row: the base depends on the agent alone, the
//! modules on the kernel, and the document on the plan. A launch boots their concatenation in this order.

use crate::cpio::{self, Archive, CpioError};
use crate::kernel::Module;
use mvm_wire::{DocumentError, GuestDocument};

/// Where the guest finds the list of modules: one absolute path a line, in load order.
const MODULE_ORDER: &str = "lib/modules/mvm.order";

/// Returns the archive that holds `guest` as `/init`, and `/dev/console` so that it can speak before it mounts.
pub fn base(guest: &[u8]) -> Vec<u8> {
    built(|archive| {
        archive.directory("dev", 0o755)?;
        archive.character_device("dev/console", 0o600, (5, 1))?;
        archive.file("init", 0o755, guest)
    })
}

/// Returns what follows the archive of [`base`] in an initramfs, if that begins with such an archive: the modules' archive, or
/// nothing.
pub fn after_base(initramfs: &[u8]) -> Option<&[u8]> {
    initramfs.get(cpio::first_end(initramfs)?..)
}

/// Returns the archive that holds `modules` below `/lib/modules/mvm`, and their order in `/lib/modules/mvm.order`.
pub fn modules(modules: &[Module]) -> Vec<u8> {
    built(|archive| {
        for directory in ["lib", "lib/modules", "lib/modules/mvm"] {
            archive.directory(directory, 0o755)?;
        }
        let mut order = String::new();
        for module in modules {
            let path = format!("lib/modules/mvm/{}.ko", module.name);
            archive.file(&path, 0o644, &module.bytes)?;
            order.push_str(&format!("/{path}\n"));
        }
        archive.file(MODULE_ORDER, 0o644, order.as_bytes())
    })
}

/// Returns the archive that holds `document` as `/mvm/guest.json`.
///
/// An invalid document is refused here, before a machine is started with it.
pub fn document_archive(document: &GuestDocument) -> Result<Vec<u8>, DocumentError> {
    let bytes = document.to_bytes()?;
    Ok(built(|archive| {
        archive.directory("mvm", 0o755)?;
        archive.file("mvm/guest.json", 0o444, &bytes)
    }))
}

/// Names here are literals or module names, which come from single path components, and no content comes near 4 GiB.
fn built(fill: impl FnOnce(&mut Archive) -> Result<(), CpioError>) -> Vec<u8> {
    let mut archive = Archive::new();
    fill(&mut archive).expect("every name is a plain path and every file is small");
    archive.finish()
}

#[cfg(test)]
mod tests;
