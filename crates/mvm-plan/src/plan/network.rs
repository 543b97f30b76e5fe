//! The guest's network, what it may reach, and which of its ports the host forwards to.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// The guest's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// Loopback only.
    None,
    /// An interface whose traffic an ordinary process of the host sends on.
    User {
        /// What the guest may reach, all else being denied; if absent, all but the host itself and what is only
        /// reachable from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        egress: Option<Vec<EgressRule>>,
        /// What the guest may reach although it is the host's own: its addresses, its loopback, its link.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        host: Vec<EgressRule>,
    },
}

/// Something that a guest may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// The name or address as the user gave it.
    pub host: String,
    /// The one port, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the name stood for when the plan was made, sorted; the guest reaches no other address by it.
    pub addresses: Vec<IpAddr>,
}

/// The kinds of network that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// Loopback only.
    None,
    /// An interface served by an ordinary process.
    User,
}

/// A port of the guest that the host forwards to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The host's address to listen on.
    pub address: IpAddr,
    /// The host's port; 0 stands for one that is free.
    pub host: u16,
    /// The guest's port, at least 1.
    pub guest: u16,
    /// What is forwarded.
    pub protocol: Protocol,
}

/// The transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Network {
    /// Returns the network with nothing said about what may be reached.
    pub const fn user() -> Self {
        Self::User { egress: None, host: Vec::new() }
    }

    /// Returns what kind of network it is.
    pub fn kind(&self) -> NetworkKind {
        match self {
            Self::None => NetworkKind::None,
            Self::User { .. } => NetworkKind::User,
        }
    }
}

impl fmt::Display for NetworkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::User => "user",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
