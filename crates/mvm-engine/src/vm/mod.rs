//! VMs as the store knows them: directories, records, states, and the connection to a running one.

mod directory;
mod process;
mod record;
mod restart;

pub use directory::{
    CONSOLE, GONE, INITRD, NETWORK, NEW, PLAN, SCRATCH, SUPERVISOR_LOG, VmDirectory, VmError, VmRegistry,
    write_atomically,
};
pub use process::ProcessIdentity;
pub use record::{Phase, Record, State};
pub use restart::{Backoff, RestartPolicy, RestartPolicyError};
