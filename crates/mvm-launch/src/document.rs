//! The guest document of a plan.

use mvm_plan::plan::{FileSystem, Scratch};
use mvm_plan::{AdmittedPlan, Plan};
use mvm_wire::document::{HashAlgorithm, Schema};
use mvm_wire::{Filesystem, GuestDocument, Hex, Overlay, Process, Root, Verity};

/// The serial of the disk that holds the root image.
pub const ROOT_SERIAL: &str = "root";

/// The serial of the disk that takes what the guest writes over its root.
pub const SCRATCH_SERIAL: &str = "scratch";

/// The name of the document's one process.
pub const MAIN_PROCESS: &str = "main";

/// The name of the document's one root, which its process runs in.
pub const ROOT: &str = "root";

/// The block size of images, in bytes.
const BLOCK: u32 = 4096;

/// Returns what the guest is to mount and run: a pure function of the plan and of `salt`, the dm-verity salt that the
/// plan's image generation fixes.
pub fn guest_document(plan: &AdmittedPlan, salt: &[u8]) -> GuestDocument {
    document(plan.plan(), salt)
}

fn document(plan: &Plan, salt: &[u8]) -> GuestDocument {
    let overlay = match plan.resources.scratch {
        Scratch::Disk => Overlay::Disk { serial: SCRATCH_SERIAL.to_owned() },
        Scratch::Tmpfs => {
            Overlay::Tmpfs { size_mib: u32::try_from(plan.resources.scratch_mib).unwrap_or(u32::MAX) }
        }
    };
    let root = Root {
        name: ROOT.to_owned(),
        disk: ROOT_SERIAL.to_owned(),
        filesystem: match plan.root.fs {
            FileSystem::Erofs => Filesystem::Erofs,
        },
        verity: Verity {
            root_hash: Hex::new(*plan.root.root_hash.as_bytes()),
            salt: Hex::new(salt),
            data_blocks: plan.root.data_blocks,
            hash_start_block: plan.root.hash_start / u64::from(BLOCK),
            algorithm: HashAlgorithm::Sha256,
            block_size: BLOCK,
        },
        overlay,
    };
    let process = Process {
        name: MAIN_PROCESS.to_owned(),
        root: ROOT.to_owned(),
        argv: plan.process.argv.clone(),
        env: plan.process.env.clone(),
        working_dir: plan.process.working_dir.clone(),
        user: plan.process.user.clone(),
        stop_signal: plan.process.stop_signal.number(),
        terminal: plan.process.tty,
    };
    GuestDocument {
        schema: Schema::V1,
        hostname: plan.hostname.clone(),
        roots: vec![root],
        processes: vec![process],
    }
}

#[cfg(test)]
pub(crate) mod tests;
