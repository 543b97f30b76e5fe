use super::*;
use serde_json::json;

fn text(value: &Value) -> String {
    String::from_utf8(to_vec(value).unwrap()).unwrap()
}

#[test]
fn members_stand_in_the_order_of_utf16_units() {
    // RFC 8785 section 3.2.3: an emoji (surrogates from D83D) comes before a letter at FB33.
    let value = json!({
        "\u{20ac}": "Euro Sign",
        "\r": "Carriage Return",
        "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\u{1f600}": "Emoji: Grinning Face",
        "\u{80}": "Control",
        "\u{f6}": "Latin Small Letter O With Diaeresis",
    });
    let expected = concat!(
        r#"{"\r":"Carriage Return","1":"One","#,
        "\"\u{80}\":\"Control\",\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",",
        "\"\u{20ac}\":\"Euro Sign\",\"\u{1f600}\":\"Emoji: Grinning Face\",",
        "\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
    );
    assert_eq!(text(&value), expected);
}

#[test]
fn the_test_data_of_the_scheme_comes_out_as_it_should() {
    // The files of the scheme's own test data that have no floating point, and its structures without theirs.
    let table = [
        (r#"[ 56, { "d": true, "10": null, "1": [ ] } ]"#, r#"[56,{"1":[],"10":null,"d":true}]"#),
        (
            r#"{"peach": "This sorting order", "p\u00e9ch\u00e9": "is wrong according to French",
                "p\u00eache": "but canonicalization MUST", "sin": "ignore locale"}"#,
            "{\"peach\":\"This sorting order\",\"p\u{e9}ch\u{e9}\":\"is wrong according to French\",\
             \"p\u{ea}che\":\"but canonicalization MUST\",\"sin\":\"ignore locale\"}",
        ),
        (
            r#"{"1": {"f": {"f": "hi", "F": 5}, "\n": 56}, "10": {}, "": "empty", "a": {},
                "111": [{"e": "yes", "E": "no"}], "A": {}}"#,
            r#"{"":"empty","1":{"\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}"#,
        ),
        (r#"{ "Unnormalized Unicode":"A\u030a" }"#, "{\"Unnormalized Unicode\":\"A\u{30a}\"}"),
        (
            r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\u000a": "Newline", "1": "One", "\u0080": "Control\u007f",
                "\ud83d\ude02": "Smiley", "\u00f6": "Latin Small Letter O With Diaeresis",
                "\ufb33": "Hebrew Letter Dalet With Dagesh", "</script>": "Browser Challenge"}"#,
            "{\"\\n\":\"Newline\",\"\\r\":\"Carriage Return\",\"1\":\"One\",\"</script>\":\"Browser Challenge\",\
             \"\u{80}\":\"Control\u{7f}\",\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\
             \"\u{20ac}\":\"Euro Sign\",\"\u{1f602}\":\"Smiley\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        ),
    ];
    for (input, expected) in table {
        assert_eq!(text(&serde_json::from_str(input).unwrap()), expected, "{input}");
    }
}

#[test]
fn strings_have_one_form() {
    // The first is the string of RFC 8785 section 3.2.2.
    let table = [
        ("\u{20ac}$\u{f}\nA'B\"\\\\\"/", "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\""),
        ("\u{0}\u{1}\u{8}\u{9}\u{a}\u{b}\u{c}\u{d}\u{1f}", r#""\u0000\u0001\b\t\n\u000b\f\r\u001f""#),
        ("\u{7f}\u{2028}\u{feff}</script>", "\"\u{7f}\u{2028}\u{feff}</script>\""),
        ("", "\"\""),
    ];
    for (string, expected) in table {
        assert_eq!(text(&json!(string)), expected);
    }
}

#[test]
fn literals_integers_and_nesting_have_one_form() {
    let table = [
        (json!(null), "null"),
        (json!([true, false, [], {}]), "[true,false,[],{}]"),
        (json!({"b": {"d": 1, "c": -1}, "a": [0]}), r#"{"a":[0],"b":{"c":-1,"d":1}}"#),
        (json!(MAX_INTEGER), "9007199254740991"),
        (json!(-9_007_199_254_740_991i64), "-9007199254740991"),
    ];
    for (value, expected) in table {
        assert_eq!(text(&value), expected);
    }
}

#[test]
fn other_numbers_are_refused_with_their_place() {
    let table = [
        (json!(1.5), "", "1.5"),
        (json!({"a": [0, 1.0]}), "/a/1", "1.0"),
        (json!({"a": {"b": MAX_INTEGER + 1}}), "/a/b", "9007199254740992"),
        (json!([i64::MIN]), "/0", "-9223372036854775808"),
        (json!([u64::MAX]), "/0", "18446744073709551615"),
    ];
    for (value, expected_path, expected_number) in table {
        match to_vec(&value) {
            Err(CanonicalError::Number { path, number }) => {
                assert_eq!((path.as_str(), number.as_str()), (expected_path, expected_number));
            }
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn only_the_canonical_text_is_read() {
    assert_eq!(from_slice::<Value>(br#"{"a":1,"b":"x"}"#).unwrap(), json!({"a": 1, "b": "x"}));
    let table: [(&[u8], usize); 8] = [
        (br#"{"b":"x","a":1}"#, 2),
        (br#"{"a":1, "b":"x"}"#, 7),
        (br#" {"a":1,"b":"x"}"#, 0),
        (b"{\"a\":1,\"b\":\"x\"}\n", 15),
        (br#"{"a":0,"a":1,"b":"x"}"#, 5),
        (br#"{"a":1,"b":"\u0078"}"#, 12),
        (br#"{"a":-0}"#, 5),
        (br#""\/""#, 1),
    ];
    for (bytes, expected) in table {
        match from_slice::<Value>(bytes) {
            Err(CanonicalError::NotCanonical { offset }) => assert_eq!(offset, expected, "{bytes:?}"),
            // serde_json reads -0 as floating point.
            Err(CanonicalError::Number { .. }) if bytes.contains(&b'-') => {}
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(matches!(from_slice::<Value>(&deep), Err(CanonicalError::Parse(_))));
}
