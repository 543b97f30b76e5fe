//! Frames that the filter itself sends to the guest.

use super::packet::{ETHERNET, IPV4, PROTOCOL_TCP, PROTOCOL_UDP, Packet, TYPE_IPV4, Transport, UDP};
use super::{GATEWAY, GUEST, GUEST_MAC, HELPER_MAC};
use std::net::Ipv4Addr;

const PROTOCOL_ICMP: u8 = 1;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Returns the frame that tells the guest that a packet was not let through: whoever sent it hears of it at once, instead
/// of waiting for an answer. A connection is refused, as an ICMP message may be overlooked while it begins.
pub(super) fn refusal(packet: &Packet<'_>) -> Option<Vec<u8>> {
    match packet.transport {
        Transport::Tcp { port } => reset(packet, port),
        Transport::Udp { .. } | Transport::Echo => Some(prohibited(packet)),
    }
}

/// Returns the answer of a host that knows no such connection (RFC 9293 section 3.10.7.1).
fn reset(packet: &Packet<'_>, port: u16) -> Option<Vec<u8>> {
    let segment: &[u8; 20] = packet.bytes.get(IPV4..)?.first_chunk()?;
    let number =
        |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let flags = segment[13];
    if flags & RST != 0 {
        return None;
    }
    let header = usize::from(segment[12] >> 4) * 4;
    let data = u32::try_from(packet.bytes.len().saturating_sub(IPV4 + header)).ok()?;
    let length = data + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let (sequence, acknowledged, flags) =
        if flags & ACK != 0 { (number(8), 0, RST) } else { (0, number(4).wrapping_add(length), RST | ACK) };
    let mut answer = Vec::with_capacity(20);
    answer.extend(port.to_be_bytes());
    answer.extend(&segment[..2]);
    answer.extend(sequence.to_be_bytes());
    answer.extend(acknowledged.to_be_bytes());
    // Five words of header; then window, sum and urgent pointer.
    answer.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    let sum = transport_checksum(packet.destination, PROTOCOL_TCP, &answer);
    answer[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(frame(packet.destination, PROTOCOL_TCP, &answer))
}

/// Returns the checksum of a message to the guest, with the addresses that it covers.
fn transport_checksum(source: Ipv4Addr, protocol: u8, message: &[u8]) -> u16 {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    checksum(&[&source.octets(), &GUEST.octets(), &[0, protocol], &length, message])
}

/// Returns a message of RFC 1812 section 5.2.7.1.
fn prohibited(packet: &Packet<'_>) -> Vec<u8> {
    // Destination unreachable, communication administratively prohibited; then the packet's header and 64 bits more.
    let mut message = vec![3, 13, 0, 0, 0, 0, 0, 0];
    message.extend(&packet.bytes[..packet.bytes.len().min(IPV4 + 8)]);
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame(GATEWAY, PROTOCOL_ICMP, &message)
}

/// Returns the frame of a datagram to the guest. `payload` is shorter than 65,000 bytes.
pub(super) fn datagram(source: (Ipv4Addr, u16), port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(UDP + payload.len()).unwrap_or(u16::MAX);
    let mut message = Vec::with_capacity(UDP + payload.len());
    message.extend(source.1.to_be_bytes());
    message.extend(port.to_be_bytes());
    message.extend(length.to_be_bytes());
    message.extend([0, 0]);
    message.extend(payload);
    // A sum of zero would mean that there is none.
    let sum = match transport_checksum(source.0, PROTOCOL_UDP, &message) {
        0 => u16::MAX,
        sum => sum,
    };
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    frame(source.0, PROTOCOL_UDP, &message)
}

fn frame(source: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + IPV4 + body.len());
    frame.extend(GUEST_MAC);
    frame.extend(HELPER_MAC);
    frame.extend(TYPE_IPV4);
    let length = u16::try_from(IPV4 + body.len()).unwrap_or(u16::MAX);
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&GUEST.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(body);
    frame
}

/// Returns the checksum of the parts put together, all but the last of even length (RFC 1071).
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::RESOLVER;
    use super::super::packet::{Frame, Transport, parse, tests as packets};
    use super::*;

    #[test]
    fn a_prohibited_packet_comes_back_inside_an_icmp_message() {
        let sent = packets::udp(Ipv4Addr::new(192, 0, 2, 1), 80, b"x");
        let Some(Frame::Ip(packet)) = parse(&sent) else { panic!("not a packet") };
        let reply = refusal(&packet).unwrap();
        assert_eq!(reply[..14], [&GUEST_MAC[..], &HELPER_MAC, &TYPE_IPV4].concat()[..]);
        assert_eq!(reply[14..16], [0x45, 0]);
        assert_eq!(checksum(&[&reply[14..34]]), 0, "the header's sum");
        assert_eq!(reply[26..30], GATEWAY.octets());
        assert_eq!(reply[34..36], [3, 13]);
        assert_eq!(checksum(&[&reply[34..]]), 0, "the message's sum");
        assert_eq!(reply[42..], packet.bytes[..28]);
    }

    #[test]
    fn a_connection_is_refused_as_by_a_host_without_it() {
        let other = Ipv4Addr::new(192, 0, 2, 1);
        for (flags, expected) in [
            (SYN, Some((0, 1001, RST | ACK))),
            (FIN, Some((0, 1001, RST | ACK))),
            (0, Some((0, 1000, RST | ACK))),
            (SYN | ACK, Some((2000, 0, RST))),
            (ACK, Some((2000, 0, RST))),
            (RST, None),
            (RST | ACK, None),
        ] {
            let mut sent = packets::tcp(other, 80);
            sent[38..42].copy_from_slice(&1000_u32.to_be_bytes());
            sent[42..46].copy_from_slice(&2000_u32.to_be_bytes());
            sent[47] = flags;
            let Some(Frame::Ip(packet)) = parse(&sent) else { panic!("not a packet") };
            let reply = refusal(&packet);
            let got = reply.as_ref().map(|reply| {
                assert_eq!(reply.len(), 54);
                let pseudo = [&reply[26..34], &[0, PROTOCOL_TCP, 0, 20], &reply[34..]].concat();
                assert_eq!(checksum(&[&pseudo]), 0, "the segment's sum");
                assert_eq!(reply[26..30], other.octets());
                assert_eq!(reply[34..38], [0, 80, 0x9c, 0x40]);
                let number = |at: usize| u32::from_be_bytes(*reply[at..].first_chunk().unwrap());
                (number(38), number(42), reply[47])
            });
            assert_eq!(got, expected, "{flags:#x}");
        }
    }

    #[test]
    fn a_datagram_is_one_that_a_stack_accepts() {
        for payload in [&b"odd"[..], b"even", b""] {
            let sent = datagram((RESOLVER, 53), 4000, payload);
            let length = u16::from_be_bytes([sent[38], sent[39]]);
            let pseudo =
                [&sent[26..34], &[0, PROTOCOL_UDP][..], &length.to_be_bytes()[..], &sent[34..]].concat();
            assert_eq!(checksum(&[&pseudo]), 0, "{payload:?}");
            // Seen from the other side it would be a packet like any other.
            let mut turned = sent.clone();
            turned[6..12].copy_from_slice(&GUEST_MAC);
            turned[26..30].copy_from_slice(&GUEST.octets());
            let Some(Frame::Ip(packet)) = parse(&turned) else { panic!("not a packet") };
            assert_eq!(packet.transport, Transport::Udp { source: 53, port: 4000, payload });
        }
    }
}
