use super::*;

#[test]
fn names_are_safe_as_file_names() {
    let longest = "a".repeat(63);
    for text in ["a", "0", "web-1", "a_b.c", "a..", longest.as_str()] {
        assert_eq!(text.parse::<VmName>().map(|name| name.to_string()), Ok(text.to_owned()));
    }
    let longer = "a".repeat(64);
    for text in ["", ".", "..", ".a", "-a", "_a", "A", "a/b", "a b", "a\n", "caf\u{e9}", longer.as_str()] {
        let error = NameError { kind: "VM", name: text.to_owned() };
        assert_eq!(text.parse::<VmName>(), Err(error));
    }
}

#[test]
fn names_in_json_are_checked() {
    assert_eq!(serde_json::to_string(&ScopeName::default()).unwrap(), "\"default\"");
    assert_eq!(serde_json::from_str::<ScopeName>("\"a\"").unwrap().as_str(), "a");
    assert!(serde_json::from_str::<ScopeName>("\"../a\"").is_err());
}
