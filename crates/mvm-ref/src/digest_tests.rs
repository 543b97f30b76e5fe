use super::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn digests_parse_and_print() {
    let digest = Digest::of(b"");
    assert_eq!(EMPTY.parse(), Ok(digest));
    assert_eq!(digest.to_string(), EMPTY);
    assert_eq!(digest.hex(), EMPTY["sha256:".len()..]);
    assert_eq!(digest.short(), "e3b0c44298fc");
    assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
    assert_eq!(serde_json::from_str::<Digest>(&format!("\"{EMPTY}\"")).unwrap(), digest);
}

#[test]
fn what_could_be_a_path_or_a_second_spelling_is_refused() {
    let value = |text: &str| DigestError::Value(text.to_owned());
    let upper = EMPTY[7..].to_uppercase();
    let long = format!("{}0", &EMPTY[7..]);
    let cases = [
        ("", DigestError::NoAlgorithm(String::new())),
        (&EMPTY[7..], DigestError::NoAlgorithm(EMPTY[7..].to_owned())),
        ("sha512:00", DigestError::Algorithm("sha512".to_owned())),
        ("SHA256:00", DigestError::Algorithm("SHA256".to_owned())),
        ("sha256:", value("")),
        ("sha256:../../../../etc/passwd", value("../../../../etc/passwd")),
        (&format!("sha256:{upper}"), value(&upper)),
        (&format!("sha256:{long}"), value(&long)),
        (&format!("sha256:{}\u{e9}", &EMPTY[7..69]), value(&format!("{}\u{e9}", &EMPTY[7..69]))),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
    }
}
