//! Asks the kernel which addresses are the host's own (rtnetlink(7), RTM_GETROUTE).
//!
//! The answer is the routing decision itself, so that addresses count that come and go, and whole ranges that a local
//! route claims.

use super::rules::OwnAddresses;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const AF_INET: u8 = 2;
/// Where a message's route type is: after the header and seven bytes of `rtmsg`.
const ROUTE_TYPE: usize = 16 + 7;
/// The type of a route to another machine, or to the one that forwards to it.
const RTN_UNICAST: u8 = 1;
/// How long an answer holds. Connections last longer, but are not made anew in that time.
const KEEP: Duration = Duration::from_secs(1);
/// Answers that are kept.
const KEPT: usize = 64;

/// The kernel's routing table, asked.
#[derive(Debug)]
pub(super) struct Routes {
    socket: OwnedFd,
    kept: Vec<(Ipv4Addr, bool, Instant)>,
}

impl Routes {
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, kept: Vec::new() })
    }

    /// Returns the type of the route to an address; nothing, where there is none.
    fn route_type(&self, address: Ipv4Addr) -> io::Result<Option<u8>> {
        let mut message = Vec::with_capacity(36);
        // nlmsghdr: length, type, flags, sequence, port.
        message.extend(36_u32.to_ne_bytes());
        message.extend(RTM_GETROUTE.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        message.extend([0; 8]);
        // rtmsg: family, bits of the destination, the rest unsaid; then one attribute.
        message.extend([AF_INET, 32]);
        message.extend([0; 10]);
        message.extend(8_u16.to_ne_bytes());
        message.extend(RTA_DST.to_ne_bytes());
        message.extend(address.octets());
        sendto(&self.socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 1024];
        let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        let answer = &answer[..length.min(answer.len())];
        let kind =
            answer.get(4..6).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes));
        match kind {
            Some(RTM_NEWROUTE) => Ok(answer.get(ROUTE_TYPE).copied()),
            Some(NLMSG_ERROR) => {
                let error = answer.get(16..20).and_then(|bytes| bytes.first_chunk());
                let error = error.map_or(0, |bytes| i32::from_ne_bytes(*bytes).saturating_neg());
                match Errno::from_raw_os_error(error) {
                    Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS => Ok(None),
                    error => Err(error.into()),
                }
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl OwnAddresses for Routes {
    fn has(&mut self, address: Ipv4Addr) -> bool {
        let now = Instant::now();
        self.kept.retain(|(.., asked)| now.duration_since(*asked) < KEEP);
        if let Some((_, own, _)) = self.kept.iter().find(|(known, ..)| *known == address) {
            return *own;
        }
        // Where no way leads, the helper finds that too and tells the guest. Local and broadcast routes are the host's.
        let own = !matches!(self.route_type(address), Ok(None | Some(RTN_UNICAST | 6..)));
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push((address, own, now));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_hosts_own_addresses() {
        let mut routes = Routes::open().unwrap();
        assert!(routes.has(Ipv4Addr::LOCALHOST));
        // All of it, although one address is configured.
        assert!(routes.has(Ipv4Addr::new(127, 1, 2, 3)));
        // Set aside for documentation: nobody's, with or without a default route.
        assert!(!routes.has(Ipv4Addr::new(203, 0, 113, 1)));
        // What a packet to elsewhere would have as its source.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("203.0.113.1:9").is_ok() {
            let std::net::IpAddr::V4(own) = socket.local_addr().unwrap().ip() else { panic!("not IPv4") };
            assert!(routes.has(own), "{own}");
        }
        for last in 0..=255 {
            assert!(!routes.has(Ipv4Addr::new(203, 0, 113, last)));
        }
        assert_eq!(routes.kept.len(), KEPT);
    }
}
