//! The guest's name, its interfaces and the network's defaults.

use super::netlink::{LOOPBACK, Netlink};
use mvm_wire::document::mounts::Interface;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

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
    #[error("{act} interface {name} failed")]
    Interface {
        act: &'static str,
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("writing {path} failed")]
    Setting {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// How often is looked for an interface that is not there yet.
const POLL: Duration = Duration::from_millis(5);

/// Sets the host name, brings the loopback interface up, and lets every user ping and serve on low ports, as
/// container engines do. Then the guest's own interface, which may take up to `wait` to appear.
pub(crate) fn set_up(
    hostname: &str,
    interface: Option<&Interface>,
    wait: Duration,
) -> Result<(), NetworkError> {
    rustix::system::sethostname(hostname.as_bytes())
        .map_err(|error| NetworkError::Hostname { name: hostname.to_owned(), source: error.into() })?;
    let netlink = Netlink::open().map_err(NetworkError::Loopback)?;
    netlink.raise(LOOPBACK, None).map_err(NetworkError::Loopback)?;
    for (path, value) in [
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ] {
        write_setting(path, value)?;
    }
    interface.map_or(Ok(()), |interface| configure(&netlink, interface, wait))
}

/// Gives an interface its addresses and routes.
fn configure(netlink: &Netlink, interface: &Interface, wait: Duration) -> Result<(), NetworkError> {
    let name = interface.name.as_str();
    let failed = |act| move |source| NetworkError::Interface { act, name: name.to_owned(), source };
    let index = find(name, wait).map_err(failed("finding"))?;
    if interface.addresses.iter().all(|address| address.address.is_ipv4()) {
        // What nobody answers need not be asked.
        write_setting(&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    netlink.raise(index, interface.mtu).map_err(failed("raising"))?;
    for address in &interface.addresses {
        netlink.add_address(index, address).map_err(failed("giving an address to"))?;
    }
    for gateway in &interface.gateways {
        netlink.add_default_route(index, *gateway).map_err(failed("making a route by"))?;
    }
    Ok(())
}

/// Returns the index of an interface, when it is there.
fn find(name: &str, wait: Duration) -> io::Result<u32> {
    let until = Instant::now() + wait;
    loop {
        // The document allows letters and digits only.
        match std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")) {
            Ok(text) => return text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Older versions took no network driver from a distribution's modules.
            Err(error) if Instant::now() >= until => {
                let why = "this kernel brings no driver for it, which importing the kernel again may mend";
                return Err(io::Error::new(error.kind(), why));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Writes a setting of the kernel, if it has that.
fn write_setting(path: &str, value: &str) -> Result<(), NetworkError> {
    if !Path::new(path).exists() {
        return Ok(());
    }
    std::fs::write(path, value).map_err(|source| NetworkError::Setting { path: path.to_owned(), source })
}
