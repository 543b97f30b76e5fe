use super::*;

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[test]
fn spellings_are_normalised() {
    let cases = [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86.64", "linux/x86.64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/s390x", "linux/s390x"),
    ];
    for (text, normalized) in cases {
        assert_eq!(platform(text).normalized(), platform(normalized), "{text}");
    }
    assert_eq!(Platform::new("Linux", "x86_64", None).normalized(), platform("linux/amd64"));
}

#[test]
fn older_variants_run_on_newer_processors() {
    let cases = [
        ("linux/amd64", "linux/amd64", Some(0)),
        ("linux/amd64", "linux/amd64/v1", Some(0)),
        ("linux/amd64", "linux/amd64/v2", None),
        ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
        ("linux/amd64/v3", "linux/amd64", Some(2)),
        ("linux/amd64", "linux/arm64", None),
        ("linux/amd64", "windows/amd64", None),
        ("linux/amd64", "linux/386", None),
        ("linux/arm64", "linux/arm64/v8", Some(0)),
        ("linux/arm64/v8", "linux/arm64", Some(0)),
        ("linux/arm64", "linux/arm64/v9", None),
        ("linux/arm", "linux/arm/v6", Some(1)),
        ("linux/arm/v7", "linux/arm/v5", Some(2)),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/ppc64le", "linux/ppc64le/power9", None),
    ];
    for (wanted, offered, distance) in cases {
        assert_eq!(platform(wanted).distance(&platform(offered)), distance, "{wanted} {offered}");
    }
}

#[test]
fn bad_platforms_are_refused() {
    for text in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "Linux/amd64", "linux/am d64"] {
        assert_eq!(text.parse::<Platform>(), Err(PlatformError(text.to_owned())));
    }
}
