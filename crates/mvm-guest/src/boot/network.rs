//! The guest's name, its loopback interface and the network's defaults.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::path::Path;

/// A network that can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("setting the host name {name:?} failed")]
    Hostname {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("bringing the loopback interface up failed")]
    Loopback(#[source] io::Error),
    #[error("writing {path} failed")]
    Setting {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Sets the host name, brings the loopback interface up, and lets every user ping and serve on low ports, as
/// container engines do.
pub(crate) fn set_up(hostname: &str) -> Result<(), NetworkError> {
    rustix::system::sethostname(hostname.as_bytes())
        .map_err(|error| NetworkError::Hostname { name: hostname.to_owned(), source: error.into() })?;
    raise_loopback().map_err(NetworkError::Loopback)?;
    for (path, value) in [
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ] {
        if Path::new(path).exists() {
            std::fs::write(path, value).map_err(|source| NetworkError::Setting { path, source })?;
        }
    }
    Ok(())
}

/// Sends RTM_NEWLINK for interface 1, which is always the loopback, and reads the answer (rtnetlink(7)).
fn raise_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(32);
    // nlmsghdr: length, type RTM_NEWLINK, flags REQUEST and ACK, sequence, port.
    message.extend(32u32.to_ne_bytes());
    message.extend(16u16.to_ne_bytes());
    message.extend(5u16.to_ne_bytes());
    message.extend([0; 8]);
    // ifinfomsg: family and type, index, flags IFF_UP, mask of the flags to change.
    message.extend([0; 4]);
    message.extend(1i32.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;

    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // nlmsgerr: the error, negative, follows the header.
    let error = answer[..length]
        .get(16..20)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| i32::from_ne_bytes(*bytes));
    match error {
        Some(0) => Ok(()),
        Some(error) => Err(Errno::from_raw_os_error(error.saturating_neg()).into()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
