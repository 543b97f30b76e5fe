//! Interfaces, addresses and routes (rtnetlink(7)).

use mvm_wire::document::mounts::Address;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// The index that the loopback interface always has.
pub(super) const LOOPBACK: u32 = 1;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// NLM_F_REQUEST and NLM_F_ACK.
const ASK: u16 = 5;
/// NLM_F_EXCL and NLM_F_CREATE.
const CREATE: u16 = 0x600;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const HEADER: usize = 16;

/// A socket to the kernel's network configuration.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// Brings an interface up, with the longest packet that it is to take.
    pub fn raise(&self, index: u32, mtu: Option<u32>) -> io::Result<()> {
        // ifinfomsg: family, padding and type; index; flags; mask of the flags to change.
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        if let Some(mtu) = mtu {
            attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
        }
        self.ask(RTM_NEWLINK, 0, &body)
    }

    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let (family, bytes) = family_and_bytes(address.address);
        // ifaddrmsg: family, bits of the network, flags, scope, index.
        let mut body = vec![family, address.prefix, 0, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &bytes);
        attribute(&mut body, IFA_ADDRESS, &bytes);
        self.ask(RTM_NEWADDR, CREATE, &body)
    }

    pub fn add_default_route(&self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let (family, bytes) = family_and_bytes(gateway);
        // rtmsg: family, bits of destination and source, service; the main table, of the boot, everywhere, unicast; flags.
        let mut body = vec![family, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        attribute(&mut body, RTA_GATEWAY, &bytes);
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        self.ask(RTM_NEWROUTE, CREATE, &body)
    }

    /// Sends a request and reads the answer.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        sendto(&self.0, &message(kind, flags, body), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 1024];
        let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        // nlmsgerr: the error, negative, follows the header.
        let error = answer[..length.min(answer.len())]
            .get(HEADER..HEADER + 4)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| i32::from_ne_bytes(*bytes));
        match error {
            Some(0) => Ok(()),
            Some(error) => Err(Errno::from_raw_os_error(error.saturating_neg()).into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Returns a request: length, type, flags, sequence and port, then what it is about.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((ASK | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Appends an attribute; values have whole words.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, address.octets().to_vec()),
        IpAddr::V6(address) => (10, address.octets().to_vec()),
    }
}
