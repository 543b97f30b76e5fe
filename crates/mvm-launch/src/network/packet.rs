//! What a guest's Ethernet frame wants, as far as a rule can depend on it.
//!
//! Formats: Ethernet II, ARP (RFC 826), IPv4 (RFC 791), TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792). What a well-kept
//! network stack has no need to send is not understood and so goes nowhere: fragments, IP options, IPv6, foreign senders.

use super::{GUEST, GUEST_MAC, NETWORK_MASK};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Length of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// Length of an IPv4 header without options.
pub(super) const IPV4: usize = 20;
/// Length of a UDP header.
pub(super) const UDP: usize = 8;
pub(super) const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_ICMP: u8 = 1;
pub(super) const PROTOCOL_TCP: u8 = 6;
pub(super) const PROTOCOL_UDP: u8 = 17;
const ECHO_REQUEST: u8 = 8;

/// A frame that a rule can judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A question for a neighbour's hardware address, or an answer.
    Arp,
    /// An IPv4 packet.
    Ip(Packet<'a>),
}

/// An unfragmented IPv4 packet without options from the guest's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// Where it is to go.
    pub destination: Ipv4Addr,
    /// What it carries.
    pub transport: Transport<'a>,
    /// The whole packet, without what follows its stated length.
    pub bytes: &'a [u8],
}

/// What an IPv4 packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport<'a> {
    /// A segment to a port.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A datagram.
    Udp {
        /// The port that an answer goes to.
        source: u16,
        /// The port.
        port: u16,
        /// Its content.
        payload: &'a [u8],
    },
    /// An echo request.
    Echo,
}

impl Transport<'_> {
    /// Returns the port, where there are ports.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port } | Self::Udp { port, .. } => Some(*port),
            Self::Echo => None,
        }
    }

    /// Names the destination of such a packet.
    pub fn name(&self, destination: Ipv4Addr) -> String {
        match self {
            Self::Tcp { port } => format!("tcp {}", SocketAddrV4::new(destination, *port)),
            Self::Udp { port, .. } => format!("udp {}", SocketAddrV4::new(destination, *port)),
            Self::Echo => format!("icmp {destination}"),
        }
    }
}

/// Reads a frame that the guest sent; nothing, if it is none that may go anywhere.
pub(super) fn parse(frame: &[u8]) -> Option<Frame<'_>> {
    let (header, payload) = frame.split_first_chunk::<ETHERNET>()?;
    if header[6..12] != GUEST_MAC {
        return None;
    }
    match [header[12], header[13]] {
        TYPE_ARP => arp(payload),
        TYPE_IPV4 => ipv4(payload),
        _ => None,
    }
}

/// Lets through what concerns the guest's own network: from its own addresses, about a neighbour.
fn arp(payload: &[u8]) -> Option<Frame<'_>> {
    let message = payload.first_chunk::<28>()?;
    // Ethernet, IPv4, and the lengths of their addresses.
    if message[..6] != [0, 1, 8, 0, 6, 4] || message[8..14] != GUEST_MAC {
        return None;
    }
    let (sender, target) = (address(&message[14..18])?, address(&message[24..28])?);
    // Without an own address yet, one asks whether it is free (RFC 5227).
    let known = sender == GUEST || sender.is_unspecified();
    (known && is_neighbour(target)).then_some(Frame::Arp)
}

fn ipv4(payload: &[u8]) -> Option<Frame<'_>> {
    let header = payload.first_chunk::<IPV4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    // Version 4, no options; neither "more fragments" nor an offset.
    if header[0] != 0x45 || fragment & 0x3fff != 0 || address(&header[12..16])? != GUEST {
        return None;
    }
    let bytes = payload.get(..length)?;
    let body = bytes.get(IPV4..)?;
    let transport = match header[9] {
        PROTOCOL_TCP => {
            let ports = body.first_chunk::<20>()?;
            Transport::Tcp { port: u16::from_be_bytes([ports[2], ports[3]]) }
        }
        PROTOCOL_UDP => {
            let ports = body.first_chunk::<UDP>()?;
            let stated = usize::from(u16::from_be_bytes([ports[4], ports[5]]));
            Transport::Udp {
                source: u16::from_be_bytes([ports[0], ports[1]]),
                port: u16::from_be_bytes([ports[2], ports[3]]),
                payload: body.get(UDP..stated)?,
            }
        }
        PROTOCOL_ICMP if body.len() >= 8 && body[0] == ECHO_REQUEST => Transport::Echo,
        _ => return None,
    };
    Some(Frame::Ip(Packet { destination: address(&header[16..20])?, transport, bytes }))
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

/// Says whether an address is in the guest's own network.
pub(super) fn is_neighbour(address: Ipv4Addr) -> bool {
    (address.to_bits() ^ GUEST.to_bits()) & NETWORK_MASK == 0
}

#[cfg(test)]
pub(super) mod tests;
