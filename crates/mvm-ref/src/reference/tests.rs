use super::*;

const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    text.parse()
}

#[test]
fn names_are_normalised_as_docker_does() {
    let long = format!("a/{}", "a".repeat(242));
    let at = format!("@sha256:{HEX}");
    let cases = [
        // text, canonical, familiar
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim", "debian:bookworm-slim"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("user/app:1", "docker.io/user/app:1", "user/app:1"),
        ("index.docker.io/user/app:1", "docker.io/user/app:1", "user/app:1"),
        ("docker.io/library/foo/bar", "docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
        ("docker/docker", "docker.io/docker/docker:latest", "docker/docker:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest", "127.0.0.1:5000/app:latest"),
        ("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000/repo:latest", "[2001:db8::1]:5000/repo:latest"),
        ("[::1]/repo:tag", "[::1]/repo:tag", "[::1]/repo:tag"),
        ("test.com:8080/test", "test.com:8080/test:latest", "test.com:8080/test:latest"),
        ("test:5000", "docker.io/library/test:5000", "test:5000"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com/myimage:xn--n3h.com",
        ),
        ("foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080", "foo/foo_bar.com:8080"),
        ("foo.com/a/b-c/d__e/f.g", "foo.com/a/b-c/d__e/f.g:latest", "foo.com/a/b-c/d__e/f.g:latest"),
        ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
        ("app:_T.a-g", "docker.io/library/app:_T.a-g", "app:_T.a-g"),
        ("docker.io/localhost/app", "docker.io/localhost/app:latest", "docker.io/localhost/app:latest"),
        ("sha256:ffff", "docker.io/library/sha256:ffff", "sha256:ffff"),
    ];
    for (text, canonical, familiar) in cases {
        let reference = parse(text).expect(text);
        assert_eq!(
            (reference.to_string(), reference.familiar()),
            (canonical.to_owned(), familiar.to_owned())
        );
        assert_eq!(parse(canonical), Ok(reference.clone()), "{text}");
        assert_eq!(parse(familiar), Ok(reference), "{text}");
    }
    assert_eq!(parse(&long).map(|r| r.to_string()), Ok(format!("docker.io/{long}:latest")));
    assert_eq!(parse(&format!("app{at}")).map(|r| r.to_string()), Ok(format!("docker.io/library/app{at}")));
}

#[test]
fn tag_and_digest_are_both_kept() {
    let text = format!("test.com:5000/repo:tag@sha256:{HEX}");
    let reference = parse(&text).unwrap();
    assert_eq!(reference.registry(), "test.com:5000");
    assert_eq!(reference.repository(), "repo");
    assert_eq!(reference.tag(), Some("tag"));
    assert_eq!(reference.digest(), Some(Digest::from_sha256([0xff; 32])));
    assert!(reference.is_pinned());
    assert_eq!(reference.to_string(), text);

    let pinned =
        parse("debian@sha256:0000000000000000000000000000000000000000000000000000000000000000").unwrap();
    assert_eq!((pinned.tag(), pinned.is_pinned()), (None, true));
    let mutable = parse("debian").unwrap();
    assert!(!mutable.is_pinned());
    assert_eq!(
        mutable.pinned(Digest::from_sha256([0xff; 32])).familiar(),
        format!("debian:latest@sha256:{HEX}")
    );
}

#[test]
fn bad_references_are_refused() {
    type Case = (&'static str, fn(&ReferenceError) -> bool);
    let cases: &[Case] = &[
        ("", |e| matches!(e, ReferenceError::Empty(_))),
        (":justtag", |e| matches!(e, ReferenceError::Empty(_))),
        ("@sha256:0000", |e| matches!(e, ReferenceError::Digest { .. })),
        ("repo@sha256:ffff", |e| matches!(e, ReferenceError::Digest { source: DigestError::Value(_), .. })),
        ("repo@sha512:ffff", |e| {
            matches!(e, ReferenceError::Digest { source: DigestError::Algorithm(_), .. })
        }),
        ("repo@", |e| matches!(e, ReferenceError::Digest { .. })),
        ("validname@invaliddigest:ff", |e| matches!(e, ReferenceError::Digest { .. })),
        ("Debian", |e| matches!(e, ReferenceError::Uppercase { .. })),
        ("test:5000/Uppercase/lowercase:tag", |e| matches!(e, ReferenceError::Uppercase { .. })),
        ("docker.io/Library/app", |e| matches!(e, ReferenceError::Uppercase { .. })),
        ("aa/asdf$$^/aa", |e| matches!(e, ReferenceError::Repository { .. })),
        ("a//b", |e| matches!(e, ReferenceError::Repository { .. })),
        ("docker.io/docker///app", |e| matches!(e, ReferenceError::Repository { .. })),
        ("foo/", |e| matches!(e, ReferenceError::Repository { .. })),
        ("/foo", |e| matches!(e, ReferenceError::Repository { .. })),
        ("foo.com/", |e| matches!(e, ReferenceError::Empty(_))),
        ("_foo", |e| matches!(e, ReferenceError::Repository { .. })),
        ("foo_", |e| matches!(e, ReferenceError::Repository { .. })),
        ("foo___bar", |e| matches!(e, ReferenceError::Repository { .. })),
        ("foo..bar", |e| matches!(e, ReferenceError::Repository { .. })),
        ("foo._bar", |e| matches!(e, ReferenceError::Repository { .. })),
        ("-foo/bar", |e| matches!(e, ReferenceError::Repository { .. })),
        ("a^a", |e| matches!(e, ReferenceError::Repository { .. })),
        ("../../etc", |e| matches!(e, ReferenceError::Registry { .. })),
        ("a b", |e| matches!(e, ReferenceError::Repository { .. })),
        ("caf\u{e9}", |e| matches!(e, ReferenceError::Repository { .. })),
        ("a\n", |e| matches!(e, ReferenceError::Repository { .. })),
        ("app:", |e| matches!(e, ReferenceError::Tag { .. })),
        ("app:-tag", |e| matches!(e, ReferenceError::Tag { .. })),
        ("app:a b", |e| matches!(e, ReferenceError::Tag { .. })),
        ("app:a:b", |e| matches!(e, ReferenceError::Tag { .. })),
        ("-host.com/app", |e| matches!(e, ReferenceError::Registry { .. })),
        ("host.com:port/app", |e| matches!(e, ReferenceError::Registry { .. })),
        ("host.com:99999/app", |e| matches!(e, ReferenceError::Registry { .. })),
        ("a..b/app", |e| matches!(e, ReferenceError::Registry { .. })),
        ("[::1/app", |e| matches!(e, ReferenceError::Registry { .. })),
        ("[fe80::1%eth0]:5000/app", |e| matches!(e, ReferenceError::Registry { .. })),
        ("user:pass@host.com/app", |e| matches!(e, ReferenceError::Digest { .. })),
        (HEX, |e| matches!(e, ReferenceError::ImageId(_))),
        (DIGEST, |e| matches!(e, ReferenceError::ImageId(hex) if hex == HEX)),
    ];
    for (text, fits) in cases {
        let error = parse(text).expect_err(text);
        assert!(fits(&error), "{text:?}: {error:?}");
    }
    assert_eq!(parse(&format!("a/{}", "a".repeat(244))), Err(ReferenceError::TooLong { length: 256 }));
    let (longest, longer) = ("t".repeat(128), "t".repeat(129));
    assert_eq!(parse(&format!("app:{longest}")).unwrap().tag(), Some(longest.as_str()));
    assert!(matches!(parse(&format!("app:{longer}")), Err(ReferenceError::Tag { .. })));
}

#[test]
fn references_are_strings_in_json() {
    let reference = parse("debian:12").unwrap();
    let json = serde_json::to_string(&reference).unwrap();
    assert_eq!(json, "\"docker.io/library/debian:12\"");
    assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
    assert!(serde_json::from_str::<Reference>("\"A B\"").is_err());
}
