use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn plain_http_needs_leave() {
    use FirstTry::{NoConnection, NotHttp, NotTls, Settled};
    let cases = [
        // Loopback: HTTP first, TLS if that is what it turns out to speak.
        ("http://127.0.0.1:5000/", false, Scheme::Http, NotHttp, Some(Scheme::Https)),
        ("http://localhost:5000/", false, Scheme::Http, Settled, None),
        ("http://[::1]:5000/", false, Scheme::Http, NoConnection, None),
        // With certificates of its own: TLS and nothing else.
        ("https://127.0.0.1:5000/", true, Scheme::Https, NotTls, None),
        // Unless it is said by name to do without.
        ("https://localhost:5001/", true, Scheme::Https, NotTls, Some(Scheme::Http)),
        ("https://localhost:5001/", true, Scheme::Https, Settled, None),
        // Allowed to do without: TLS first.
        ("https://insecure.example/", false, Scheme::Https, NotTls, Some(Scheme::Http)),
        ("https://insecure.example:5000/", false, Scheme::Https, NoConnection, Some(Scheme::Http)),
        ("https://insecure.example/", false, Scheme::Https, Settled, None),
        ("https://one.example:5000/", false, Scheme::Https, NotTls, Some(Scheme::Http)),
        ("https://one.example:5001/", false, Scheme::Https, NotTls, None),
        // All others: TLS and nothing else.
        ("https://r.example/", false, Scheme::Https, NotTls, None),
        ("https://r.example/", false, Scheme::Https, NoConnection, None),
        ("https://127.0.0.1.example/", false, Scheme::Https, NotTls, None),
    ];
    for (address, has_certificates, first, outcome, other) in cases {
        let insecure =
            ["insecure.example", "one.example:5000", "localhost:5001"].map(|text| text.parse().unwrap());
        let rules = Rules::new(insecure.to_vec());
        let url = url(address);
        assert_eq!(rules.scheme(&url, has_certificates), first, "{address}");
        assert_eq!(rules.other(&url, has_certificates, outcome), other, "{address}");
        rules.answered(&url);
        assert_eq!(rules.other(&url, has_certificates, outcome), None, "{address} has answered");
        assert_eq!(rules.scheme(&url, has_certificates).as_str(), url.scheme());
    }
}

#[test]
fn hops_go_where_they_may() {
    let rules = Rules::new(vec!["insecure.example".parse().unwrap()]);
    let cases = [
        ("https://r.example/", "https://storage.example/", None),
        ("https://r.example/", "http://r.example/", Some("it would go on without encryption")),
        ("https://r.example/", "http://insecure.example/", Some("it would go on without encryption")),
        ("http://insecure.example/", "http://insecure.example/b", None),
        ("http://insecure.example/", "https://r.example/", None),
        (
            "http://insecure.example/",
            "http://r.example/",
            Some("the host may not be spoken to without encryption"),
        ),
        ("https://127.0.0.1:1/", "http://127.0.0.1:2/", None),
        ("https://r.example/", "https://127.0.0.1/", Some("the address is this machine's own")),
        ("https://r.example/", "https://x.localhost/", Some("the address is this machine's own")),
        ("https://r.example/", "https://[::ffff:169.254.1.1]/", Some("the address is one of the local link")),
        ("https://r.example/", "https://2852039166/", Some("the address is one of the local link")),
        ("https://r.example/", "file:///etc/passwd", Some("it is no web address")),
        ("https://r.example/", "https://user@r.example/", Some("it holds credentials")),
    ];
    for (from, to, expected) in cases {
        let reason = match rules.check_hop(&url(from), &url(to)) {
            Ok(()) => None,
            Err(RegistryError::Redirect { reason, .. }) => Some(reason),
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(reason, expected, "{from} to {to}");
    }
}
