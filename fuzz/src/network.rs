//! Frames from a guest: what the filter of its network does with them.

use mvm_launch::fuzzing::judge_frame;

/// Longest answer: a name server's, in UDP, IPv4 and Ethernet.
const LONGEST: usize = 14 + 20 + 8 + 512;

/// Judges the input as a frame of a guest that may reach everything, and of one that may reach one port of one host.
pub fn body(data: &[u8]) {
    for listed in [false, true] {
        let (to, answer) = judge_frame(data, listed);
        assert_eq!((to, answer.clone()), judge_frame(data, listed));
        if let Some(to) = to {
            assert!(answer.is_none(), "passed on and answered");
            // The resolver and the gateway are no addresses of a host; all others are odd there.
            let near = to.octets()[..3] == [10, 0, 2];
            assert!(near || !listed || to.octets() == [203, 0, 113, 8], "{to} is not listed");
            assert!(near || to.octets()[3] % 2 == 0, "{to} is the host's");
            assert!(!to.is_loopback() && !to.is_link_local() && !to.is_multicast(), "{to}");
        }
        if let Some(answer) = answer {
            assert!((34..=LONGEST).contains(&answer.len()), "{} bytes", answer.len());
            assert_eq!(sum(&answer[14..34]), 0xffff, "the header's checksum");
        }
    }
}

/// Adds up words as RFC 1071 does.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    (sum & 0xffff) + (sum >> 16)
}

/// One frame of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let syn = [&[0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2][..], &[0; 6]].concat();
    let question = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
    let datagram = [&[0x0f, 0xa0, 0, 53, 0, 8 + question.len() as u8, 0, 0], &question[..]].concat();
    let arp = [
        &b"\xff\xff\xff\xff\xff\xff\x52\x54\0\x6d\x76\x6d\x08\x06\0\x01\x08\0\x06\x04\0\x01\x52\x54\0\x6d\x76\x6d"[..],
        &[10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2],
    ];
    vec![
        packet([203, 0, 113, 8], 6, &syn),
        packet([203, 0, 113, 7], 6, &syn),
        packet([169, 254, 169, 254], 6, &syn),
        packet([10, 0, 2, 3], 17, &datagram),
        packet([203, 0, 113, 8], 1, &[8, 0, 0, 0, 0, 1, 0, 1]),
        arp.concat(),
    ]
}

/// Returns a frame with an IPv4 packet from the guest.
fn packet(to: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + body.len()).unwrap_or(0).to_be_bytes();
    [
        &b"\x52\x55\x0a\0\x02\x02\x52\x54\0\x6d\x76\x6d\x08\0\x45\0"[..],
        &length,
        &[0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 2, 15],
        &to,
        body,
    ]
    .concat()
}
