//! Where a guest's packets may go.

use super::packet::{Frame, Packet, Transport, is_neighbour};
use super::pins::Pin;
use super::{GATEWAY, RESOLVER};
use mvm_plan::plan::EgressRule;
use std::fmt;
use std::net::Ipv4Addr;

/// The port of name servers.
const DOMAIN: u16 = 53;

/// Addresses outside 169.254.0.0/16 at which providers tell a machine about itself, credentials among it: Azure's
/// WireServer, Alibaba Cloud, Oracle Cloud.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// It goes on.
    Pass,
    /// It goes nowhere, and nobody needs to hear of it.
    Ignore,
    /// It asks for a name, and is answered here.
    Resolve {
        /// The port that the answer goes to.
        source: u16,
        /// The question.
        query: &'a [u8],
    },
    /// It goes nowhere, and its sender is told.
    Deny(Reason, Packet<'a>),
}

/// Why a packet was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The host's loopback.
    Loopback,
    /// An address of the host.
    OwnAddress,
    /// 169.254.0.0/16, metadata services among it.
    LinkLocal,
    /// A metadata service elsewhere.
    Metadata,
    /// An address that no machine has.
    Reserved,
    /// An address of the guest's own network, where nothing but a name server is.
    Neighbour,
    /// An address or port that is not on the list.
    Unlisted,
    /// A name that is not on the list.
    Name,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Loopback => "the host's loopback",
            Self::OwnAddress => "an address of the host",
            Self::LinkLocal => "link-local",
            Self::Metadata => "a metadata service",
            Self::Reserved => "reserved",
            Self::Neighbour => "the guest's own network",
            Self::Unlisted => "not allowed by --egress",
            Self::Name => "a name not allowed by --egress",
        })
    }
}

/// Knows the host's own addresses.
pub(super) trait OwnAddresses {
    /// Says whether the host would take a packet to this address for itself; in doubt it does.
    fn has(&mut self, address: Ipv4Addr) -> bool;
}

/// The rules of one guest.
#[derive(Debug)]
pub(super) struct Rules<O> {
    /// All that may be reached, if not everything may be that isn't the host's.
    listed: Option<Vec<Pin>>,
    /// What may be reached although it is the host's.
    of_host: Vec<Pin>,
    own: O,
}

impl<O: OwnAddresses> Rules<O> {
    pub fn new(egress: Option<&[EgressRule]>, of_host: &[EgressRule], own: O) -> Self {
        let pins = |rules: &[EgressRule]| rules.iter().map(Pin::new).collect();
        Self { listed: egress.map(pins), of_host: pins(of_host), own }
    }

    /// Returns what names stand for that a guest may ask for which may ask for no others.
    pub fn names(&self) -> impl Iterator<Item = &Pin> {
        self.listed.iter().flatten().chain(&self.of_host)
    }

    /// Decides on a frame.
    pub fn judge<'a>(&mut self, frame: Option<Frame<'a>>) -> Verdict<'a> {
        let packet = match frame {
            None => return Verdict::Ignore,
            Some(Frame::Arp) => return Verdict::Pass,
            Some(Frame::Ip(packet)) => packet,
        };
        let to = packet.destination;
        if to.is_multicast() || to.is_broadcast() {
            // Noise of discovery protocols, which has nobody to reach.
            return Verdict::Ignore;
        }
        if is_neighbour(to) {
            return self.judge_neighbour(packet);
        }
        match self.refusal(&packet) {
            None => Verdict::Pass,
            Some(reason) => Verdict::Deny(reason, packet),
        }
    }

    fn judge_neighbour<'a>(&self, packet: Packet<'a>) -> Verdict<'a> {
        match (packet.destination, packet.transport) {
            (RESOLVER, Transport::Udp { source, port: DOMAIN, payload }) if self.listed.is_some() => {
                Verdict::Resolve { source, query: payload }
            }
            (RESOLVER, Transport::Udp { port: DOMAIN, .. } | Transport::Tcp { port: DOMAIN })
                if self.listed.is_none() =>
            {
                Verdict::Pass
            }
            (RESOLVER | GATEWAY, Transport::Echo) => Verdict::Pass,
            _ => Verdict::Deny(Reason::Neighbour, packet),
        }
    }

    /// Returns why a packet to an address outside the guest's own network goes nowhere, if it does.
    fn refusal(&mut self, packet: &Packet<'_>) -> Option<Reason> {
        let to = packet.destination;
        if to.is_loopback() {
            return Some(Reason::Loopback);
        }
        let port = packet.transport.port();
        if self.of_host.iter().any(|pin| pin.allows(to, port)) {
            return None;
        }
        if let Some(listed) = &self.listed {
            let mut allowing = listed.iter().filter(|pin| pin.allows(to, port)).peekable();
            if allowing.peek().is_none() {
                return Some(Reason::Unlisted);
            }
            // Who writes an address means it. What a name means is said by others.
            if allowing.any(|pin| pin.name.is_none()) {
                return None;
            }
        }
        protected(to).or_else(|| self.own.has(to).then_some(Reason::OwnAddress))
    }
}

/// Returns why no guest may reach an address, whatever machine this is, unless it is allowed by name of the address.
pub(super) fn protected(address: Ipv4Addr) -> Option<Reason> {
    match address.octets() {
        [0, ..] | [240..=255, ..] => Some(Reason::Reserved),
        [127, ..] => Some(Reason::Loopback),
        [169, 254, ..] => Some(Reason::LinkLocal),
        _ if METADATA.contains(&address) => Some(Reason::Metadata),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
