//! The part of an address that says which host, and rules that name hosts.

use reqwest::Url;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host, with one port or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
}

/// Says why a text names no host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a host name with an optional port")]
pub struct HostPatternError(String);

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let refuse = || HostPatternError(text.to_owned());
        if text.contains(['/', '\\', '@', '?', '#']) || text.contains(char::is_whitespace) {
            return Err(refuse());
        }
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| refuse())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        // The port that goes without saying is left out of an address, but not of a rule.
        let port = url.port().or_else(|| text.ends_with(":80").then_some(80));
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl HostPattern {
    /// Says whether the address is one of that host and port.
    pub(crate) fn matches(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.host)
            && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

/// Returns host and port, without a port that goes without saying.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default();
    name == "localhost"
        || name.ends_with(".localhost")
        || address(url).is_some_and(|address| address.is_loopback())
}

pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// Returns the address that stands in the place of a name.
pub(crate) fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_hosts_and_ports() {
        let cases = [
            ("r.example", "http://r.example/v2/", true),
            ("r.example", "https://r.example:5000/", true),
            ("R.example", "https://r.example/", true),
            ("r.example:5000", "http://r.example:5000/", true),
            ("r.example:5000", "http://r.example:5001/", false),
            ("r.example:80", "http://r.example/", true),
            ("r.example:80", "https://r.example/", false),
            ("r.example:443", "https://r.example/", true),
            ("[::2]:5000", "http://[::2]:5000/", true),
            ("example", "http://r.example/", false),
            ("r.example", "http://r.example.evil/", false),
        ];
        for (pattern, url, expected) in cases {
            let pattern: HostPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&Url::parse(url).unwrap()), expected, "{pattern} {url}");
        }
        for text in ["", "a/b", "http://a", "user@a", "a b", "a:99999", ":5000", "a?b"] {
            assert_eq!(text.parse::<HostPattern>(), Err(HostPatternError(text.to_owned())), "{text}");
        }
    }
}
