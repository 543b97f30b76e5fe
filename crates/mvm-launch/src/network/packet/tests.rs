use super::super::{GATEWAY, HELPER_MAC, RESOLVER};
use super::*;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// Returns a frame from the guest with a protocol's message to an address.
fn frame(destination: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(IPV4 + body.len()).unwrap();
    let mut frame = [&HELPER_MAC[..], &GUEST_MAC, &TYPE_IPV4].concat();
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(GUEST.octets());
    frame.extend(destination.octets());
    frame.extend(body);
    frame
}

/// Returns the first frame of a connection.
pub(in super::super) fn tcp(destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut segment = [0; 20];
    segment[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[12..14].copy_from_slice(&[0x50, 0x02]);
    frame(destination, PROTOCOL_TCP, &segment)
}

pub(in super::super) fn udp(destination: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = 4000_u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend(u16::try_from(UDP + payload.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    frame(destination, PROTOCOL_UDP, &datagram)
}

pub(in super::super) fn echo(destination: Ipv4Addr) -> Vec<u8> {
    frame(destination, PROTOCOL_ICMP, &[8, 0, 0, 0, 0, 1, 0, 1])
}

pub(in super::super) fn arp(target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &GUEST_MAC, &TYPE_ARP].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(GUEST_MAC);
    frame.extend(GUEST.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

#[test]
fn what_is_understood() {
    let transport = |frame: &[u8]| match parse(frame) {
        Some(Frame::Ip(packet)) => {
            assert_eq!(packet.bytes, &frame[ETHERNET..]);
            packet.transport.name(packet.destination)
        }
        other => format!("{other:?}"),
    };
    assert_eq!(transport(&tcp(OUTSIDE, 443)), "tcp 203.0.113.7:443");
    assert_eq!(transport(&udp(RESOLVER, 53, b"x")), "udp 10.0.2.3:53");
    assert_eq!(transport(&echo(GATEWAY)), "icmp 10.0.2.2");
    assert_eq!(parse(&arp(GATEWAY)), Some(Frame::Arp));
}

/// What follows the packet's stated length, as a short frame's padding does, is no part of it.
#[test]
fn padding_is_no_content() {
    let sent = udp(OUTSIDE, 7, b"ab");
    let padded = [&sent[..], &[0; 20]].concat();
    let Some(Frame::Ip(packet)) = parse(&padded) else { panic!("not a packet") };
    assert_eq!(packet.bytes, &sent[ETHERNET..]);
    assert_eq!(packet.transport, Transport::Udp { source: 4000, port: 7, payload: b"ab" });
}

#[test]
fn what_goes_nowhere() {
    let changed = |mut frame: Vec<u8>, at: usize, bytes: &[u8]| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let whole = tcp(OUTSIDE, 443);
    let cases = [
        ("another sender's hardware address", changed(whole.clone(), 6, &[2; 6])),
        ("IPv6", changed(whole.clone(), 12, &[0x86, 0xdd])),
        ("a VLAN", changed(whole.clone(), 12, &[0x81, 0x00])),
        ("version 6 in an IPv4 frame", changed(whole.clone(), 14, &[0x65])),
        ("options", changed(whole.clone(), 14, &[0x46])),
        ("a header that is too short", changed(whole.clone(), 14, &[0x44])),
        ("a length beyond the frame", changed(whole.clone(), 16, &[0, 41])),
        ("a length below the header", changed(whole.clone(), 16, &[0, 19])),
        ("a first fragment", changed(whole.clone(), 20, &[0x20, 0])),
        ("a later fragment", changed(whole.clone(), 20, &[0, 1])),
        ("another source", changed(whole.clone(), 26, &[127, 0, 0, 1])),
        ("SCTP", changed(whole.clone(), 23, &[132])),
        ("half a TCP header", changed(whole[..50].to_vec(), 16, &[0, 36])),
        ("a datagram longer than its packet", changed(udp(OUTSIDE, 7, b"ab"), 38, &[0, 11])),
        ("a datagram shorter than its header", changed(udp(OUTSIDE, 7, b"ab"), 38, &[0, 7])),
        ("an echo reply", changed(echo(OUTSIDE), 34, &[0])),
        ("ARP about a stranger", arp(OUTSIDE)),
        ("ARP from another address", changed(arp(GATEWAY), 28, &OUTSIDE.octets())),
        ("ARP from another hardware address", changed(arp(GATEWAY), 22, &[2; 6])),
        ("ARP for another kind of hardware", changed(arp(GATEWAY), 14, &[0, 6])),
    ];
    for (what, frame) in cases {
        assert_eq!(parse(&frame), None, "{what}");
    }
}

#[test]
fn a_frame_cut_short_goes_nowhere() {
    for frame in [tcp(OUTSIDE, 443), udp(OUTSIDE, 7, b""), echo(OUTSIDE), arp(GATEWAY)] {
        for length in 0..frame.len() {
            assert_eq!(parse(&frame[..length]), None, "{length} of {} bytes", frame.len());
        }
    }
}
