use super::*;
use reqwest::header::HeaderValue;

fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Challenge, String> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
}

#[test]
fn challenges_are_read() {
    let long = format!("Bearer realm=\"{}\"", "a".repeat(MAX_HEADER));
    let cases: &[(&[&str], Result<Challenge, String>)] = &[
        (
            &[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            ],
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push"),
            ),
        ),
        (&[r#"bearer Realm = "r" , scope=s"#], bearer("r", None, Some("s"))),
        (&[r#"Bearer realm="a \"b\" c""#], bearer("a \"b\" c", None, None)),
        (&[r#"Basic realm="x", Bearer realm="r""#], bearer("r", None, None)),
        (&[r#"Basic realm="x""#, r#"Bearer realm="r""#], bearer("r", None, None)),
        (&[r#"Negotiate, Basic realm="Registry""#], Ok(Challenge::Basic)),
        (&["BASIC"], Ok(Challenge::Basic)),
        (&[r#"Bearer realm="unterminated"#], bearer("unterminated", None, None)),
        (&["Bearer service=x"], Err("Bearer service=x".to_owned())),
        (&["Digest nonce=1"], Err("Digest nonce=1".to_owned())),
        (&["=,=,\"\\"], Err("=,=,\"\\".to_owned())),
        (&[","], Err(",".to_owned())),
        (&[""], Err(String::new())),
        (&[], Err(String::new())),
        (&[&long], Err(String::new())),
    ];
    for (texts, expected) in cases {
        let mut headers = HeaderMap::new();
        for text in *texts {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
        }
        assert_eq!(&Challenge::from_headers(&headers), expected, "{texts:?}");
    }
}
