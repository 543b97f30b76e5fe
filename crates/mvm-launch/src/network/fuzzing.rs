//! What the filter does with a frame, on bytes in memory.

use super::packet::{self, Frame};
use super::rules::{OwnAddresses, Rules, Verdict};
use super::{RESOLVER, dns, reply};
use mvm_plan::plan::EgressRule;
use std::net::Ipv4Addr;

/// A host that has every address whose last byte is odd.
struct OddAddresses;

impl OwnAddresses for OddAddresses {
    fn has(&mut self, address: Ipv4Addr) -> bool {
        address.octets()[3] % 2 == 1
    }
}

/// Judges a frame of a guest that may reach everything, or only a short list. Returns where it may go, if it is a packet
/// that may go somewhere, and what the filter answers.
pub fn judge_frame(frame: &[u8], listed: bool) -> (Option<Ipv4Addr>, Option<Vec<u8>>) {
    let addresses = vec![Ipv4Addr::new(203, 0, 113, 8).into()];
    let list = [EgressRule { host: "a.example".to_owned(), port: Some(443), addresses }];
    let mut rules = Rules::new(listed.then_some(&list[..]), &[], OddAddresses);
    let parsed = packet::parse(frame);
    match rules.judge(parsed) {
        Verdict::Pass => {
            let to = match parsed {
                Some(Frame::Ip(packet)) => Some(packet.destination),
                _ => None,
            };
            (to, None)
        }
        Verdict::Ignore => (None, None),
        Verdict::Deny(_, packet) => (None, reply::refusal(&packet)),
        Verdict::Resolve { source, query } => {
            let answer = dns::answer(query, rules.names());
            (None, answer.map(|answer| reply::datagram((RESOLVER, 53), source, &answer.message)))
        }
    }
}
