use super::*;
use crate::audit::{Chain, Record};
use crate::key::tests::signing_key;
use crate::plan::tests::digest;

/// A line of a witness file, frozen: a change is another format.
const GOLDEN: &str = include_str!("golden.jsonl");

fn time() -> UtcTime {
    UtcTime::from_unix_millis(1_700_000_000_123).unwrap()
}

fn statement() -> Statement {
    Statement { entries: 35, head: digest(8), origin: digest(1), time: time() }
}

#[test]
fn the_golden_line_is_the_checkpoint() {
    let (checkpoint, line) = Checkpoint::sign(statement(), &signing_key(1)).unwrap();
    assert_eq!(String::from_utf8(line).unwrap(), GOLDEN);
    assert_eq!(Checkpoint::parse(GOLDEN.as_bytes()).unwrap(), checkpoint);
    assert_eq!(Checkpoint::parse(GOLDEN.trim_end().as_bytes()).unwrap(), checkpoint);
}

#[test]
fn an_entry_holds_the_same_checkpoint() {
    let (checkpoint, _) = Checkpoint::sign(statement(), &signing_key(1)).unwrap();
    let mut chain = Chain::after(35, digest(8));
    let record = Record {
        time: time(),
        uid: 0,
        login: None,
        scope: None,
        event: checkpoint.event(),
        detail: Default::default(),
    };
    let entry = Entry::parse(&chain.append(record).unwrap()).unwrap();
    assert_eq!(Checkpoint::of(&entry), Some(checkpoint));
    assert_eq!(Checkpoint::of(&Entry { event: Event::Unwitnessed, ..entry }), None);
}

#[test]
fn signatures_are_worth_what_the_keys_say() {
    let [one, two, three] = [1, 2, 3].map(|byte| signing_key(byte).public_key());
    let (checkpoint, _) = Checkpoint::sign(statement(), &signing_key(1)).unwrap();
    let changed = Checkpoint { statement: Statement { entries: 34, ..statement() }, ..checkpoint.clone() };
    let mut broken = checkpoint.clone();
    broken.seals[0].sig = "*".to_owned();
    let mut renamed = checkpoint.clone();
    renamed.seals[0].keyid = two.id();
    let mut doubled = renamed.clone();
    doubled.seals.extend(checkpoint.seals.clone());
    let table = [
        ("as signed", &checkpoint, vec![two, one], Seals::Valid(one.id())),
        ("a key that is not known", &checkpoint, vec![two, three], Seals::Unknown(Some(one.id()))),
        ("no keys", &checkpoint, vec![], Seals::Unknown(Some(one.id()))),
        ("another statement", &changed, vec![one], Seals::Forged(one.id())),
        ("no base64", &broken, vec![one], Seals::Forged(one.id())),
        ("another key's name", &renamed, vec![one, two], Seals::Forged(two.id())),
        ("one of two", &doubled, vec![one, two], Seals::Valid(one.id())),
    ];
    for (case, checkpoint, keys, expected) in table {
        assert_eq!(checkpoint.seals(&keys).unwrap(), expected, "{case}");
    }
    let none = Checkpoint { seals: vec![], ..checkpoint };
    assert_eq!(none.seals(&[one]).unwrap(), Seals::Unknown(None));
}

#[test]
fn what_is_no_checkpoint_is_told() {
    let envelope = |payload_type: &str, payload: &[u8]| {
        let envelope = Envelope::sign(payload_type, payload.to_vec(), &[&signing_key(1)]).unwrap();
        envelope.to_json().unwrap()
    };
    let text = crate::canonical::to_vec(&statement()).unwrap();
    let id = signing_key(1).public_key().id().to_string();
    let named = GOLDEN.replace(&id, "somebody");
    assert_ne!(named, GOLDEN);
    let table: [(Vec<u8>, &str); 5] = [
        (b"{".to_vec(), "reading a checkpoint's envelope"),
        (
            envelope("text/plain", &text),
            r#"the envelope holds "text/plain"; expected "application/vnd.mvm.audit-checkpoint.v1+json""#,
        ),
        (envelope(PAYLOAD_TYPE, b"{}"), "reading a checkpoint"),
        (envelope(PAYLOAD_TYPE, &[b" ", &text[..]].concat()), "reading a checkpoint"),
        (named.into_bytes(), r#"a checkpoint's signature names its key "somebody", which is no key ID"#),
    ];
    for (line, expected) in table {
        assert_eq!(Checkpoint::parse(&line).unwrap_err().to_string(), expected);
    }
}
