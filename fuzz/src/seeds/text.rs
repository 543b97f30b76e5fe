//! Names and header values.

/// References and image sources, digests, platforms.
pub fn references() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let pinned = format!("registry.example.com:5000/a/b__c:tag.1@{digest}");
    [
        "debian",
        "debian:12",
        "docker.io/library/debian",
        "index.docker.io/debian",
        "localhost:5000/a/b-c:v1.0_x",
        "[::1]:5000/app",
        &pinned,
        &digest,
        "docker://ghcr.io/a/b:c",
        "oci:/var/x:tag",
        "oci:./x",
        "oci-archive:a.tar:@sha256:0",
        "docker-archive:a.tar:a:b",
        "linux/arm/v7",
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        "web-1",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// Values of `WWW-Authenticate`, one a line.
pub fn challenges() -> Vec<Vec<u8>> {
    [
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull""#,
        r#"Basic realm="a, \"b\"""#,
        r#"Negotiate, Basic realm=x, Bearer realm=https://a/b"#,
        "Digest qop=\"auth\"\nbearer Realm = \"x\" , scope=y",
        "NTLM TlRMTVNTUAACAAAA==",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
