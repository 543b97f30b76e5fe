use super::super::packet::{parse, tests as packets};
use super::*;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);

/// A host with one address.
pub(in super::super) struct OneAddress;

impl OwnAddresses for OneAddress {
    fn has(&mut self, address: Ipv4Addr) -> bool {
        address == OWN
    }
}

fn rule(name: Option<&str>, address: Ipv4Addr, port: Option<u16>) -> EgressRule {
    let host = name.map_or_else(|| address.to_string(), str::to_owned);
    EgressRule { host, port, addresses: vec![address.into()] }
}

/// Judges a frame and says what came of it.
fn judge(egress: Option<&[EgressRule]>, of_host: &[EgressRule], frame: &[u8]) -> String {
    match Rules::new(egress, of_host, OneAddress).judge(parse(frame)) {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Ignore => "ignore".to_owned(),
        Verdict::Resolve { source, query } => format!("resolve {query:?} for {source}"),
        Verdict::Deny(reason, packet) => format!("{}: {reason}", packet.transport.name(packet.destination)),
    }
}

#[test]
fn without_a_list_everything_may_be_reached_that_is_not_the_hosts() {
    let at = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    for (frame, expected) in [
        (packets::tcp(OUTSIDE, 443), "pass"),
        (packets::udp(OUTSIDE, 123, b"x"), "pass"),
        (packets::echo(OUTSIDE), "pass"),
        (packets::tcp(at(10, 0, 3, 1), 80), "pass"),
        (packets::tcp(at(192, 168, 1, 1), 80), "pass"),
        (packets::arp(GATEWAY), "pass"),
        (packets::udp(RESOLVER, 53, b"x"), "pass"),
        (packets::tcp(RESOLVER, 53), "pass"),
        (packets::echo(GATEWAY), "pass"),
        (packets::tcp(at(127, 0, 0, 1), 80), "tcp 127.0.0.1:80: the host's loopback"),
        (packets::udp(at(127, 255, 0, 1), 80, b""), "udp 127.255.0.1:80: the host's loopback"),
        (packets::tcp(OWN, 80), "tcp 192.0.2.2:80: an address of the host"),
        (packets::echo(OWN), "icmp 192.0.2.2: an address of the host"),
        (packets::tcp(at(169, 254, 169, 254), 80), "tcp 169.254.169.254:80: link-local"),
        (packets::tcp(at(168, 63, 129, 16), 80), "tcp 168.63.129.16:80: a metadata service"),
        (packets::tcp(at(0, 0, 0, 0), 80), "tcp 0.0.0.0:80: reserved"),
        (packets::tcp(at(240, 0, 0, 1), 80), "tcp 240.0.0.1:80: reserved"),
        // What is an alias of the host's loopback for some helpers, and the name server's other ports.
        (packets::tcp(GATEWAY, 80), "tcp 10.0.2.2:80: the guest's own network"),
        (packets::udp(GATEWAY, 53, b"x"), "udp 10.0.2.2:53: the guest's own network"),
        (packets::tcp(RESOLVER, 80), "tcp 10.0.2.3:80: the guest's own network"),
        (packets::udp(RESOLVER, 54, b"x"), "udp 10.0.2.3:54: the guest's own network"),
        (packets::tcp(at(10, 0, 2, 77), 80), "tcp 10.0.2.77:80: the guest's own network"),
        (packets::udp(at(255, 255, 255, 255), 67, b""), "ignore"),
        (packets::udp(at(224, 0, 0, 251), 5353, b""), "ignore"),
        (packets::tcp(OUTSIDE, 443)[..30].to_vec(), "ignore"),
    ] {
        assert_eq!(judge(None, &[], &frame), expected);
    }
}

#[test]
fn with_a_list_only_what_is_on_it() {
    let list = [
        rule(None, OUTSIDE, Some(443)),
        rule(Some("other.example"), OTHER, None),
        rule(None, OWN, Some(8000)),
        rule(None, Ipv4Addr::new(169, 254, 169, 254), Some(80)),
        // A name that came to mean the host.
        rule(Some("rebound.example"), OWN, Some(22)),
        rule(None, Ipv4Addr::LOCALHOST, None),
    ];
    let unlisted = |what: &str| format!("{what}: not allowed by --egress");
    for (frame, expected) in [
        (packets::tcp(OUTSIDE, 443), "pass".to_owned()),
        (packets::udp(OUTSIDE, 443, b""), "pass".to_owned()),
        (packets::tcp(OUTSIDE, 80), unlisted("tcp 203.0.113.7:80")),
        (packets::echo(OUTSIDE), unlisted("icmp 203.0.113.7")),
        (packets::tcp(OTHER, 1), "pass".to_owned()),
        (packets::echo(OTHER), "pass".to_owned()),
        (packets::tcp(Ipv4Addr::new(203, 0, 113, 9), 443), unlisted("tcp 203.0.113.9:443")),
        (packets::tcp(OWN, 8000), "pass".to_owned()),
        (packets::tcp(OWN, 8001), unlisted("tcp 192.0.2.2:8001")),
        (packets::tcp(OWN, 22), "tcp 192.0.2.2:22: an address of the host".to_owned()),
        (packets::tcp(Ipv4Addr::new(169, 254, 169, 254), 80), "pass".to_owned()),
        (packets::tcp(Ipv4Addr::LOCALHOST, 80), "tcp 127.0.0.1:80: the host's loopback".to_owned()),
        (packets::udp(RESOLVER, 53, b"x"), "resolve [120] for 4000".to_owned()),
        (packets::tcp(RESOLVER, 53), "tcp 10.0.2.3:53: the guest's own network".to_owned()),
        (packets::arp(GATEWAY), "pass".to_owned()),
    ] {
        assert_eq!(judge(Some(&list), &[], &frame), expected);
    }
    assert_eq!(judge(Some(&[]), &[], &packets::tcp(OUTSIDE, 443)), unlisted("tcp 203.0.113.7:443"));
}

#[test]
fn what_is_the_hosts_may_be_allowed() {
    let of_host =
        [rule(Some("host.example"), OWN, Some(8000)), rule(None, Ipv4Addr::new(169, 254, 0, 9), None)];
    for (egress, frame, expected) in [
        (None, packets::tcp(OWN, 8000), "pass"),
        (None, packets::tcp(OWN, 8001), "tcp 192.0.2.2:8001: an address of the host"),
        (None, packets::echo(Ipv4Addr::new(169, 254, 0, 9)), "pass"),
        (None, packets::tcp(OUTSIDE, 80), "pass"),
        (Some(&[][..]), packets::tcp(OWN, 8000), "pass"),
        (Some(&[][..]), packets::tcp(OUTSIDE, 80), "tcp 203.0.113.7:80: not allowed by --egress"),
    ] {
        assert_eq!(judge(egress, &of_host, &frame), expected);
    }
}
