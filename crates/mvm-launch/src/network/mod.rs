//! The guest's network: an Ethernet link to a helper program, and a filter on it.
//!
//! ```text
//!           frames              frames             sockets
//! QEMU ◄─ socket pair ─► filter ◄─ socket ─► slirp4netns ◄─► the host's network
//!                        (a thread of ours)
//! ```
//!
//! The helper makes connections on the guest's behalf, from the host, and would make them to wherever the guest says. Which
//! those may be is decided by the filter, frame by frame, and by nothing that the helper or the guest is trusted with. It
//! reads headers only, and holds one frame for each direction.
//!
//! The guest's side is fixed: a link of its own, the same for every guest, on which nobody but the helper is.

mod denials;
mod dns;
mod filter;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod helper;
mod packet;
mod pins;
mod reply;
mod routes;
mod rules;

pub use denials::Denials;
pub use filter::UserNetwork;
pub use helper::{Slirp, clear};
pub use pins::{PinError, pin};
pub use rules::Reason;

use crate::confinement::ConfinementError;
use crate::exec::ExecError;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The address that the guest sends everything to that is not for a neighbour.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The address of the guest's name server.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// How many bits of an address name the guest's network.
pub const PREFIX_LENGTH: u8 = 24;
/// The longest packet. No wire has to take it, and each costs as much as a short one.
pub const MTU: u16 = 65_520;
/// The hardware address of the guest's interface, locally administered.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x6d, 0x76, 0x6d];
/// The hardware address that the helper gives itself.
const HELPER_MAC: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];
const NETWORK_MASK: u32 = u32::MAX << (32 - PREFIX_LENGTH);

/// Says why a guest can't have a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The helper is not on this host.
    #[error("{program} is not installed, and a guest has no network without it")]
    NotInstalled {
        /// The helper's program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// Where it was looked for.
        source: ExecError,
    },
    /// Something that the helper needs could not be done.
    #[error("cannot {act} the network helper")]
    Helper {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The helper ended before it carried anything.
    #[error("the network helper ended ({status}){said}")]
    Ended {
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// The filter could not be set up.
    #[error("cannot {act} the network filter")]
    Filter {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The helper can't be confined.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// The helper can't be started.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// What a guest's network is made with.
#[derive(Debug)]
pub struct NetworkConfig<'a> {
    /// The helper.
    pub slirp: &'a Slirp,
    /// A directory for the helper's socket, which is made and removed. Nothing is there, or what a launch before left.
    pub directory: PathBuf,
    /// Hears of what was not let through.
    pub denials: DenialSink,
}

/// Is told of what was not let through, from a thread of the network, which carries nothing meanwhile.
#[derive(Clone)]
pub struct DenialSink(Arc<dyn Fn(Denials) + Send + Sync>);

impl DenialSink {
    /// Wraps what is to be done with a report.
    pub fn new(act: impl Fn(Denials) + Send + Sync + 'static) -> Self {
        Self(Arc::new(act))
    }

    fn tell(&self, denials: Denials) {
        (self.0)(denials);
    }
}

impl fmt::Debug for DenialSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DenialSink")
    }
}
