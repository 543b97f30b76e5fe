use super::*;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Thing {
    tasks: Vec<String>,
    inner: Option<Box<Thing>>,
    many: Vec<Thing>,
    notes: BTreeMap<String, String>,
    size: Option<u64>,
}

fn read(text: &str) -> Result<Thing, String> {
    from_slice(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn names_are_read_in_any_case() {
    let tasks = || Thing { tasks: vec!["x".to_owned()], ..Thing::default() };
    for text in [
        r#"{"tasks":["x"]}"#,
        r#"{"TaSkS":["x"]}"#,
        r#"{"ta\u017f\u212as":["x"]}"#,
        r#"{"tasks":["x"],"other":1,"other":[{}],"Other":null}"#,
    ] {
        assert_eq!(read(text), Ok(tasks()), "{text}");
    }
    let deep = r#"{"INNER":{"MANY":[{"Tasks":["x"]}]}}"#;
    let inner = Thing { many: vec![tasks()], ..Thing::default() };
    assert_eq!(read(deep), Ok(Thing { inner: Some(Box::new(inner)), ..Thing::default() }));
    // Keys of the maker's choice are what they are.
    let notes = [("a", "1"), ("A", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let with_notes = Thing { notes: notes.into(), ..Thing::default() };
    assert_eq!(read(r#"{"notes":{"a":"1","A":"2"}}"#), Ok(with_notes));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let twice =
        |name: &str, column: usize| format!("{name:?} comes twice in one object at line 1 column {column}");
    let cases = [
        (r#"{"tasks":[],"tasks":[]}"#, twice("tasks", 19)),
        (r#"{"tasks":[],"Tasks":[]}"#, twice("Tasks", 19)),
        (r#"{"inner":{"size":1,"SIZE":1}}"#, twice("SIZE", 25)),
        (r#"{"many":[{"size":1,"size":1}]}"#, twice("size", 25)),
        (r#"{"notes":{"a":"1","a":"2"}}"#, twice("a", 21)),
        (r#"["x"]"#, "invalid type: sequence, expected struct Thing at line 1 column 0".to_owned()),
        (r#"{} {}"#, "trailing characters at line 1 column 4".to_owned()),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), Err(expected), "{text}");
    }
    for text in [
        r#"{"inner":["x"]}"#,
        r#"{"size":-1}"#,
        r#"{"size":1.0}"#,
        r#"{"size":1e3}"#,
        r#"{"size":"1"}"#,
        r#"{"size":18446744073709551616}"#,
        r#"{"size":NaN}"#,
        "\u{feff}{}",
        "{\"tasks\":[],}",
        "",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn nesting_is_counted_outside_of_texts() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(!nests_too_deep(nested(MAX_NESTING).as_bytes()));
    assert!(nests_too_deep(nested(MAX_NESTING + 1).as_bytes()));
    assert!(nests_too_deep("{\"a\":".repeat(MAX_NESTING + 1).as_bytes()));
    let texts = format!(r#"["{}","\"{}"]"#, "[".repeat(200), "{".repeat(200));
    assert!(!nests_too_deep(texts.as_bytes()));
    assert!(!nests_too_deep("[]".repeat(1000).as_bytes()));
    assert!(from_slice::<IgnoredAny>(nested(MAX_NESTING).as_bytes()).is_ok());
}
