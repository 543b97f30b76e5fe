//! What a list of allowed destinations stands for: names looked up once, on the host, and kept.

use super::routes::Routes;
use super::rules::{OwnAddresses, Reason, protected};
use mvm_plan::plan::EgressRule;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

/// Most addresses that are kept of one name.
const MAX_ADDRESSES: usize = 64;

/// A destination and the addresses that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pin {
    /// The name, in lower case; none for what was given as an address.
    pub(super) name: Option<String>,
    pub addresses: Vec<Ipv4Addr>,
    pub port: Option<u16>,
}

/// Says why a destination can't be allowed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The name means nothing here.
    #[error("cannot look up {host}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The name has no address that a guest could use.
    #[error("{host} has no IPv4 address, and a guest uses no others")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// All addresses of the name are kept from guests.
    #[error("{host} stands for {address} ({reason}); allow that by its address if it is meant")]
    Protected {
        /// The name.
        host: String,
        /// The first of its addresses.
        address: Ipv4Addr,
        /// Why guests don't get there.
        reason: Reason,
    },
    /// The kernel can't be asked which addresses are the host's own.
    #[error("cannot ask for the host's own addresses")]
    Routes(#[source] io::Error),
    /// The host's loopback can't be reached.
    #[error(
        "{address} is the host's loopback, which no guest reaches; let the service listen on another address"
    )]
    Loopback {
        /// The address.
        address: Ipv4Addr,
    },
}

impl Pin {
    /// Reads a rule of a plan. Its IPv6 addresses are left out: the guest's network has none.
    pub fn new(rule: &EgressRule) -> Self {
        let addresses = rule.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        match rule.host.parse::<IpAddr>() {
            // Who reads such a rule reads the address, so that nothing else may go by it.
            Ok(meant) => Self {
                name: None,
                addresses: addresses.filter(|address| meant == *address).collect(),
                port: rule.port,
            },
            Err(_) => {
                Self { name: Some(canonical(&rule.host)), addresses: addresses.collect(), port: rule.port }
            }
        }
    }

    /// Says whether a packet may go to an address; one without ports only where all are allowed.
    pub fn allows(&self, address: Ipv4Addr, port: Option<u16>) -> bool {
        self.addresses.contains(&address) && self.port.is_none_or(|allowed| port == Some(allowed))
    }
}

/// Returns the rule that lets a guest reach a host, by its name or IPv4 address, with what the name stands for now.
///
/// A name that stands for nothing but what guests are kept from is refused: who means that says so by its address. For
/// `host`, which is meant to be the host itself, it may stand for anything but the loopback. May take as long as the host's
/// resolver does.
pub fn pin(host: &str, port: Option<u16>, of_host: bool) -> Result<EgressRule, PinError> {
    let mut routes = Routes::open().map_err(PinError::Routes)?;
    pin_with(host, port, of_host, &mut routes, ask_resolver)
}

fn pin_with(
    host: &str,
    port: Option<u16>,
    of_host: bool,
    own: &mut impl OwnAddresses,
    look_up: impl Fn(&str) -> io::Result<Vec<Ipv4Addr>>,
) -> Result<EgressRule, PinError> {
    let rule = |addresses: Vec<Ipv4Addr>| EgressRule {
        host: host.to_owned(),
        port,
        addresses: addresses.into_iter().map(IpAddr::V4).collect(),
    };
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        if address.is_loopback() {
            return Err(PinError::Loopback { address });
        }
        return Ok(rule(vec![address]));
    }
    let found = look_up(host).map_err(|source| PinError::Lookup { host: host.to_owned(), source })?;
    let found: BTreeSet<Ipv4Addr> = found.into_iter().collect();
    let first = *found.first().ok_or_else(|| PinError::NoAddress { host: host.to_owned() })?;
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        let reason = match protected(address).or_else(|| own.has(address).then_some(Reason::OwnAddress)) {
            Some(Reason::Loopback) => Some(Reason::Loopback),
            reason => reason.filter(|_| !of_host),
        };
        match reason {
            Some(reason) => refused = refused.or(Some(reason)),
            None if addresses.len() < MAX_ADDRESSES => addresses.push(address),
            None => {}
        }
    }
    match refused {
        Some(reason) if addresses.is_empty() => {
            Err(PinError::Protected { host: host.to_owned(), address: first, reason })
        }
        _ => Ok(rule(addresses)),
    }
}

/// Returns a host name as names are compared (RFC 4343).
pub(super) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Asks the host's resolver, which may take its time.
fn ask_resolver(host: &str) -> io::Result<Vec<Ipv4Addr>> {
    let found = (host, 0).to_socket_addrs()?;
    Ok(found
        .filter_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::OneAddress;
    use super::*;

    fn look_up(host: &str) -> io::Result<Vec<Ipv4Addr>> {
        let at = |last| Ipv4Addr::new(203, 0, 113, last);
        let own = Ipv4Addr::new(192, 0, 2, 2);
        match host {
            "Two.Example." => Ok(vec![at(9), at(7), at(9)]),
            "six.example" => Ok(Vec::new()),
            "half.example" => Ok(vec![own, at(7)]),
            "own.example" => Ok(vec![own]),
            "local.example" => Ok(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 0, 1)]),
            _ => Err(io::Error::other("no such name")),
        }
    }

    fn pin_text(host: &str, of_host: bool) -> String {
        match pin_with(host, Some(80), of_host, &mut OneAddress, look_up) {
            Ok(rule) => format!("{:?}", Pin::new(&rule)),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_and_addresses() {
        let pin = |name: Option<&str>, addresses: &[[u8; 4]]| {
            let addresses = addresses.iter().map(|address| Ipv4Addr::from(*address)).collect();
            format!("{:?}", Pin { name: name.map(str::to_owned), addresses, port: Some(80) })
        };
        let own = [192, 0, 2, 2];
        let loopback = "127.0.0.1 is the host's loopback, which no guest reaches; let the service listen on another address";
        let protected = |host: &str, what: &str| {
            format!("{host} stands for {what}; allow that by its address if it is meant")
        };
        let only_loopback = protected("local.example", "127.0.0.1 (the host's loopback)");
        for (host, expected, of_host) in [
            (
                "Two.Example.",
                pin(Some("two.example"), &[[203, 0, 113, 7], [203, 0, 113, 9]]),
                pin(Some("two.example"), &[[203, 0, 113, 7], [203, 0, 113, 9]]),
            ),
            (
                "half.example",
                pin(Some("half.example"), &[[203, 0, 113, 7]]),
                pin(Some("half.example"), &[own, [203, 0, 113, 7]]),
            ),
            (
                "own.example",
                protected("own.example", "192.0.2.2 (an address of the host)"),
                pin(Some("own.example"), &[own]),
            ),
            ("local.example", only_loopback, pin(Some("local.example"), &[[169, 254, 0, 1]])),
            ("192.0.2.2", pin(None, &[own]), pin(None, &[own])),
            ("169.254.169.254", pin(None, &[[169, 254, 169, 254]]), pin(None, &[[169, 254, 169, 254]])),
            ("127.0.0.1", loopback.to_owned(), loopback.to_owned()),
            (
                "six.example",
                "six.example has no IPv4 address, and a guest uses no others".to_owned(),
                "six.example has no IPv4 address, and a guest uses no others".to_owned(),
            ),
            (
                "gone.example",
                "cannot look up gone.example".to_owned(),
                "cannot look up gone.example".to_owned(),
            ),
        ] {
            assert_eq!(pin_text(host, false), expected);
            assert_eq!(pin_text(host, true), of_host);
        }
    }

    #[test]
    fn an_address_stands_for_itself() {
        let addresses =
            ["192.0.2.2", "203.0.113.7", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec();
        let pin = |host: &str| {
            Pin::new(&EgressRule { host: host.to_owned(), port: None, addresses: addresses.clone() })
                .addresses
        };
        assert_eq!(pin("203.0.113.7"), [Ipv4Addr::new(203, 0, 113, 7)]);
        assert!(pin("203.0.113.8").is_empty());
        assert_eq!(pin("a.example"), [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(203, 0, 113, 7)]);
    }

    #[test]
    fn what_a_pin_allows() {
        let address = Ipv4Addr::new(203, 0, 113, 7);
        let any = Pin { name: None, addresses: vec![address], port: None };
        let one = Pin { port: Some(80), ..any.clone() };
        let other = Ipv4Addr::new(203, 0, 113, 8);
        assert!(any.allows(address, Some(1)) && any.allows(address, None) && !any.allows(other, None));
        assert!(one.allows(address, Some(80)) && !one.allows(address, Some(81)));
        assert!(!one.allows(address, None) && !one.allows(other, Some(80)));
    }
}
