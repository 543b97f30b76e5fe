use super::*;
use serde_json::json;

fn users() -> Users {
    Users([(0, "root".to_owned()), (1000, "al\u{1b}ice".to_owned())].into())
}

#[test]
fn entries_are_lines() {
    let hex = "ab".repeat(32);
    let digest = format!("sha256:{hex}");
    let table = [
        (
            json!({
                "seq": 7, "time": "2023-11-14T22:13:20.003Z", "uid": 0, "login": 1000, "scope": "default",
                "event": {"kind": "launch", "plan": digest, "nonce": "07".repeat(16), "vm": "web"},
            }),
            "2023-11-14T22:13:20.003Z       7  root(al\\u{1b}ice)  launch      vm=web nonce=070707070707 plan=abababababab",
        ),
        (
            json!({
                "seq": 8, "time": "t", "uid": 5, "scope": "other",
                "event": {"kind": "delete", "subject": {"kind": "image", "root_hash": digest}},
                "detail": {"note": "two words", "empty": ""},
            }),
            "t       8  5         delete      image=abababababab scope=other empty=\"\" note=\"two words\"",
        ),
        (
            json!({
                "seq": 9, "time": "t", "uid": 0,
                "event": {"kind": "recover", "subject": {"kind": "audit-log"}},
            }),
            "t       9  root      recover     subject=audit-log",
        ),
        (
            json!({
                "seq": 10, "time": "t", "uid": 0,
                "event": {"kind": "refuse", "rules": ["a", "b"], "policy": "p\u{202e}\n", "signers": [hex]},
            }),
            "t      10  root      refuse      policy=p\\u{202e}\\u{a} rules=a,b signers=abababababab",
        ),
        (
            json!({
                "seq": 11, "time": "t", "uid": 0,
                "event": {"kind": "checkpoint", "signatures": [{"keyid": hex, "sig": "x"}], "entries": 3},
            }),
            "t      11  root      checkpoint  entries=3 signatures=abababababab",
        ),
        (
            json!({"seq": 12, "time": "t", "uid": 0, "event": {"kind": "unwitnessed"}}),
            "t      12  root      unwitnessed",
        ),
    ];
    for (entry, expected) in table {
        assert_eq!(line(entry.to_string().as_bytes(), &users()), expected);
    }
    assert_eq!(line(b"{\"seq\":0}\x1b[2J\xff\n", &users()), "not an entry: {\"seq\":0}\\u{1b}[2J\u{fffd}");
    assert_eq!(line(b"", &users()), "not an entry: ");
}

#[test]
fn nothing_steers_a_terminal() {
    let hostile = "a\u{1b}[2J\u{9b}1m\r\n\u{7f}\u{202e}b\u{200b}\u{e0041}ü";
    assert_eq!(visible(hostile), "a\\u{1b}[2J\\u{9b}1m\\u{d}\\u{a}\\u{7f}\\u{202e}b\\u{200b}\\u{e0041}ü");
    let json = json!({ "name": hostile }).to_string();
    let shown = visible_json(format!("{json}\n").as_bytes());
    assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), json!({ "name": hostile }));
}
