use super::*;

fn named(text: &str) -> NamedSource {
    text.parse().unwrap()
}

fn nothing(_: &str) -> Option<OsString> {
    None
}

#[test]
fn sources_as_they_are_written() {
    let file = |path: &str| Some(SecretSource::File { path: path.into() });
    for (text, expected) in [
        ("db=/run/db", file("/run/db")),
        ("db=a=b", file("a=b")),
        ("db=env:DB", Some(SecretSource::Environment { variable: "DB".to_owned() })),
        ("db=-", Some(SecretSource::Stdin)),
        ("db=./-", file("./-")),
        ("db=", None),
        ("db=env:", None),
        ("db", None),
        ("../db=/x", None),
        ("=/x", None),
    ] {
        assert_eq!(text.parse::<NamedSource>().ok().map(|named| named.source), expected, "{text}");
    }
}

#[test]
fn secrets_are_read_handed_over_and_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![7; MAX_SECRET]).unwrap();
    let sources =
        [named(&format!("large={}", path.display())), named("small=env:SMALL"), named("empty=env:EMPTY")];
    let variable = |name: &str| match name {
        "SMALL" => Some("hunter2".into()),
        "EMPTY" => Some(OsString::new()),
        _ => None,
    };
    let secrets = read_secrets(&sources, &variable, true).unwrap();
    assert!(!format!("{secrets:?}").contains("hunter2"), "{secrets:?}");
    let taken = unpack(&sources, pack(&secrets).unwrap()).unwrap();
    let values: Vec<_> = taken.iter().map(|secret| secret.value.bytes()).collect();
    assert_eq!(values, [&[7; MAX_SECRET][..], b"hunter2", b""]);
    assert!(unpack(&[named("a=-")], &b"\x05\0\0\0four"[..]).is_err());
    assert!(unpack(&[named("a=-")], &b""[..]).is_err());

    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<SecretName>>();
    let ordered = in_order(&names(&["small", "empty", "large"]), secrets.clone()).unwrap();
    assert_eq!(ordered[2].named, sources[0]);
    for (wanted, words) in [
        (names(&["small", "empty"]), "the plan names no secret large"),
        (names(&["small", "empty", "large", "more"]), "the plan names secret more, and it was not given"),
    ] {
        assert_eq!(in_order(&wanted, secrets.clone()).unwrap_err().to_string(), words);
    }

    std::fs::write(&path, vec![7; MAX_SECRET + 1]).unwrap();
    for (sources, first, words) in [
        (vec![sources[0].clone()], true, "secret large has more than 1048576 bytes".to_owned()),
        (vec![named("a=/nowhere/x")], true, "read secret a from /nowhere/x".to_owned()),
        (vec![named("a=env:NONE")], true, "the variable NONE for secret a is not set".to_owned()),
        (vec![named("a=-")], false, "secret a came from standard input, and can't be read again".to_owned()),
        (vec![named("a=-"), named("b=-")], true, "only one secret can come from standard input".to_owned()),
    ] {
        assert_eq!(read_secrets(&sources, &nothing, first).unwrap_err().to_string(), words);
    }
}
