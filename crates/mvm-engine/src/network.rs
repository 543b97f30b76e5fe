//! The network that is asked for a guest, in the words of its user.

use crate::error::EngineError;
use mvm_launch::network::pin;
use mvm_plan::plan::{EgressRule, Network, Port, Protocol};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Most ports that one mapping names.
const MAX_RANGE: u16 = 1024;

/// A host, or one port of it: `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    host: String,
    port: Option<u16>,
}

/// Says what is wrong with a destination or a mapping of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}")]
pub struct NetworkWordError {
    text: String,
    problem: &'static str,
}

fn wrong<T>(text: &str, problem: &'static str) -> Result<T, NetworkWordError> {
    Err(NetworkWordError { text: text.to_owned(), problem })
}

impl FromStr for Destination {
    type Err = NetworkWordError;

    fn from_str(text: &str) -> Result<Self, NetworkWordError> {
        if text.starts_with('[') || text.parse::<std::net::Ipv6Addr>().is_ok() {
            return wrong(text, "is an IPv6 address, and guests have IPv4 only");
        }
        let (host, port) = match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => match parse_port(port) {
                Some(port) => (host, Some(port)),
                None => return wrong(text, "is not HOST[:PORT] with a port from 1 to 65535"),
            },
        };
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=253).contains(&host.len()) || !host.bytes().all(sound) {
            return wrong(text, "is not HOST[:PORT], with a name or an IPv4 address as its host");
        }
        // Resolvers read such forms in more than one way.
        let numeric = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        if host.bytes().all(numeric) && host.parse::<Ipv4Addr>().is_err() {
            return wrong(text, "has an incomplete IPv4 address");
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Returns a guest's network, the names looked up: what may be reached and all else not, if there is a list; and what may
/// be reached although it is an address of the host, or on its link.
pub fn user_network(egress: Option<&[Destination]>, host: &[Destination]) -> Result<Network, EngineError> {
    let pinned = |destinations: &[Destination], option, of_host| -> Result<Vec<EgressRule>, EngineError> {
        destinations
            .iter()
            .map(|destination| {
                pin(&destination.host, destination.port, of_host).map_err(|error| {
                    let problem = format!("{destination}: {}", crate::error::chain(&error));
                    EngineError::Option { option, problem }
                })
            })
            .collect()
    };
    Ok(Network::User {
        egress: match egress {
            Some(destinations) => Some(pinned(destinations, "--egress", false)?),
            None => None,
        },
        host: pinned(host, "--allow-host", true)?,
    })
}

/// Ports of the host that are forwarded to ports of the guest: `[[IP:]HOST:]GUEST[/udp]`, also of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping(Vec<Port>);

impl PortMapping {
    /// Returns the ports, in order.
    pub fn ports(&self) -> &[Port] {
        &self.0
    }
}

impl FromStr for PortMapping {
    type Err = NetworkWordError;

    fn from_str(text: &str) -> Result<Self, NetworkWordError> {
        const FORM: &str = "is not [[IP:]HOST:]GUEST[/tcp|/udp], with ports or ranges of ports";
        let (rest, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return wrong(text, "names another protocol than tcp or udp"),
        };
        let (address, ports) = match rest.strip_prefix('[').map(|rest| rest.split_once("]:")) {
            Some(Some((address, ports))) => (Some(address), ports),
            Some(None) => return wrong(text, FORM),
            None if rest.matches(':').count() == 2 => match rest.split_once(':') {
                Some((address, ports)) => (Some(address), ports),
                None => return wrong(text, FORM),
            },
            None => (None, rest),
        };
        let address: IpAddr = match address.map(str::parse) {
            None => Ipv4Addr::LOCALHOST.into(),
            Some(Ok(address)) => address,
            Some(Err(_)) => return wrong(text, "doesn't begin with an IP address"),
        };
        let (host, guest) = match ports.split_once(':') {
            Some((host, guest)) => (host, guest),
            None => ("", ports),
        };
        let Some((first, last)) = parse_range(guest) else { return wrong(text, FORM) };
        if last - first >= MAX_RANGE {
            return wrong(text, "names more than 1024 ports");
        }
        let host = match host {
            // Each gets a free one.
            "" | "0" => None,
            host => match parse_range(host) {
                Some((from, to)) if to - from == last - first => Some(from),
                Some(_) => return wrong(text, "has two ranges of different length"),
                None => return wrong(text, FORM),
            },
        };
        let port = |guest: u16| Port {
            address,
            host: host.map_or(0, |from| from + (guest - first)),
            guest,
            protocol,
        };
        Ok(Self((first..=last).map(port).collect()))
    }
}

/// Reads a port, or the first and last of a range.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    (first <= last).then_some((first, last))
}

fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (text, expected) in [
            ("a.example", "a.example"),
            ("a.example:443", "a.example:443"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("", "\"\" is not HOST[:PORT], with a name or an IPv4 address as its host"),
            (":80", "\":80\" is not HOST[:PORT], with a name or an IPv4 address as its host"),
            ("a b", "\"a b\" is not HOST[:PORT], with a name or an IPv4 address as its host"),
            ("a.example:", "\"a.example:\" is not HOST[:PORT] with a port from 1 to 65535"),
            ("a.example:0", "\"a.example:0\" is not HOST[:PORT] with a port from 1 to 65535"),
            ("a.example:+1", "\"a.example:+1\" is not HOST[:PORT] with a port from 1 to 65535"),
            ("a.example:65536", "\"a.example:65536\" is not HOST[:PORT] with a port from 1 to 65535"),
            ("127.1", "\"127.1\" has an incomplete IPv4 address"),
            ("2130706433:80", "\"2130706433:80\" has an incomplete IPv4 address"),
            ("[2001:db8::1]:80", "\"[2001:db8::1]:80\" is an IPv6 address, and guests have IPv4 only"),
            ("2001:db8::1", "\"2001:db8::1\" is an IPv6 address, and guests have IPv4 only"),
        ] {
            let got = text.parse::<Destination>();
            assert_eq!(got.map_or_else(|error| error.to_string(), |it| it.to_string()), expected);
        }
    }

    fn mapping(text: &str) -> String {
        match text.parse::<PortMapping>() {
            Ok(mapping) => mapping
                .ports()
                .iter()
                .map(|port| format!("{} {}>{}/{}", port.address, port.host, port.guest, port.protocol))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn mappings() {
        let form = |text: &str| {
            format!("{text:?} is not [[IP:]HOST:]GUEST[/tcp|/udp], with ports or ranges of ports")
        };
        for (text, expected) in [
            ("8080:80", "127.0.0.1 8080>80/tcp"),
            ("80", "127.0.0.1 0>80/tcp"),
            ("0:80", "127.0.0.1 0>80/tcp"),
            ("80/tcp", "127.0.0.1 0>80/tcp"),
            ("5353:53/udp", "127.0.0.1 5353>53/udp"),
            ("0.0.0.0:8080:80", "0.0.0.0 8080>80/tcp"),
            ("192.0.2.7::80", "192.0.2.7 0>80/tcp"),
            ("[::1]:8080:80/udp", "::1 8080>80/udp"),
            ("[::]::80", ":: 0>80/tcp"),
            ("8000-8002:80-82", "127.0.0.1 8000>80/tcp, 127.0.0.1 8001>81/tcp, 127.0.0.1 8002>82/tcp"),
            ("80-81", "127.0.0.1 0>80/tcp, 127.0.0.1 0>81/tcp"),
        ] {
            assert_eq!(mapping(text), expected, "{text}");
        }
        for text in
            ["", ":", "x", "80:", "80:0", "-1", "80-79", "70000", "+80", "[::1]", "[::1:80:80", "1:2-"]
        {
            assert_eq!(mapping(text), form(text));
        }
        for (text, problem) in [
            ("80/sctp", "names another protocol than tcp or udp"),
            ("80/", "names another protocol than tcp or udp"),
            ("host:80:80", "doesn't begin with an IP address"),
            ("::80", "doesn't begin with an IP address"),
            ("8000-8010:80", "has two ranges of different length"),
            ("1-2000", "names more than 1024 ports"),
        ] {
            assert_eq!(mapping(text), format!("{text:?} {problem}"));
        }
    }
}
