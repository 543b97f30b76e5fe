//! The proxies between this machine and registries.

use reqwest::{NoProxy, Proxy, Url};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Hosts that no proxy is asked for, whatever the configuration.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// Which proxy leads to which addresses; without any, connections are direct.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For addresses with TLS, through a tunnel.
    pub https: Option<ProxyAddress>,
    /// For addresses without.
    pub http: Option<ProxyAddress>,
    /// Hosts, domains and networks to which no proxy leads, separated by commas; `*` for all.
    pub direct: String,
}

/// The address of a proxy; never shown, since it may hold a password.
#[derive(Clone)]
pub struct ProxyAddress(Zeroizing<String>);

/// Says why a text is no proxy's address. The text is left out, since it may hold a password.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProxyError {
    /// There is no host, or a bad one.
    #[error("the proxy's address is not [SCHEME://][USER:PASSWORD@]HOST[:PORT]")]
    Address,
    /// The proxy speaks something else.
    #[error("the proxy's scheme is not one of http, https, socks4, socks4a, socks5 and socks5h")]
    Scheme,
}

impl FromStr for ProxyAddress {
    type Err = ProxyError;

    /// Reads an address; without a scheme it is HTTP, as curl has it.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let text =
            Zeroizing::new(if text.contains("://") { text.to_owned() } else { format!("http://{text}") });
        let url = Url::parse(&text).map_err(|_| ProxyError::Address)?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(ProxyError::Scheme);
        }
        let named = url.host_str().is_some_and(|host| !host.is_empty());
        if named { Ok(Self(text)) } else { Err(ProxyError::Address) }
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(proxy)")
    }
}

impl Proxies {
    /// Returns the proxies in the HTTP client's terms; the error holds no address.
    pub(crate) fn rules(&self) -> Result<Vec<Proxy>, reqwest::Error> {
        let direct: Vec<&str> = self.direct.split([',', ' ']).filter(|part| !part.is_empty()).collect();
        if direct.contains(&"*") {
            return Ok(Vec::new());
        }
        let direct = direct.into_iter().map(without_port).collect::<Vec<_>>().join(",");
        let direct = NoProxy::from_string(&format!("{LOOPBACK},{direct}"));
        let https = self.https.as_ref().map(|ProxyAddress(address)| Proxy::https(address.as_str()));
        let http = self.http.as_ref().map(|ProxyAddress(address)| Proxy::http(address.as_str()));
        let rules = [https, http].into_iter().flatten();
        rules.map(|rule| Ok(rule.map_err(reqwest::Error::without_url)?.no_proxy(direct.clone()))).collect()
    }
}

/// Returns a host without its port and the `*` of `*.domain`: the client's list knows neither.
fn without_port(part: &str) -> &str {
    let part = part.strip_prefix('*').unwrap_or(part);
    match part.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_not_shown() {
        for text in
            ["proxy", "proxy:3128", "http://u:p@proxy:1", "https://proxy", "socks5h://[::2]:1080", " p "]
        {
            let address: ProxyAddress = text.parse().unwrap();
            assert_eq!(format!("{address:?}"), "(proxy)");
        }
        for (text, error) in [
            ("", ProxyError::Address),
            ("http://", ProxyError::Address),
            ("http://a b", ProxyError::Address),
            ("ftp://proxy", ProxyError::Scheme),
            ("file:///x", ProxyError::Scheme),
        ] {
            assert_eq!(text.parse::<ProxyAddress>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn rules_follow_what_is_direct() {
        let proxies = |direct: &str| Proxies {
            https: "proxy".parse().ok(),
            http: "proxy".parse().ok(),
            direct: direct.to_owned(),
        };
        assert_eq!(proxies("").rules().unwrap().len(), 2);
        assert_eq!(proxies("a, *").rules().unwrap().len(), 0);
        let cases = [
            ("a.example:80", "a.example"),
            ("*.example", ".example"),
            ("::1", "::1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("a:b", "a:b"),
        ];
        for (part, expected) in cases {
            assert_eq!(without_port(part), expected);
        }
    }
}
