//! A name server that knows the allowed names and no others (RFC 1035 section 4).
//!
//! It asks nobody, so that a question carries nothing out of the guest.

use super::pins::{Pin, canonical};
use std::net::Ipv4Addr;

/// Length of a message's header.
const HEADER: usize = 12;
/// Longest name as text (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest message without an agreement on more (RFC 1035 section 4.2.1).
const MAX_MESSAGE: usize = 512;
const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
/// How long an answer may be kept, in seconds.
const TTL: u32 = 60;

/// The answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The message to send back.
    pub message: Vec<u8>,
    /// The name that was asked for, if it is not allowed.
    pub refused: Option<String>,
}

/// A question, understood.
struct Question<'a> {
    id: [u8; 2],
    /// Its bytes, which an answer repeats.
    bytes: &'a [u8],
    name: String,
    kind: u16,
    class: u16,
    recursion_desired: u8,
}

/// Answers a query; nothing, if it is none.
pub(super) fn answer<'a>(query: &[u8], pins: impl Iterator<Item = &'a Pin>) -> Option<Answer> {
    let question = parse(query)?;
    let named: Vec<&Pin> = pins.filter(|pin| pin.name.as_deref() == Some(question.name.as_str())).collect();
    if named.is_empty() {
        // No such name (3). To refuse would have the guest ask again and again.
        return Some(Answer { message: message(&question, 3, &[]), refused: Some(question.name) });
    }
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    if question.class == CLASS_IN && matches!(question.kind, TYPE_A | TYPE_ANY) {
        for address in named.iter().flat_map(|pin| &pin.addresses) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
    }
    Some(Answer { message: message(&question, 0, &addresses), refused: None })
}

fn parse(query: &[u8]) -> Option<Question<'_>> {
    let header = query.first_chunk::<HEADER>()?;
    // A standard query (no response, opcode 0) with one question and no answers. What may follow, as EDNS does, only
    // says what the asker could take.
    if header[2] & 0xf8 != 0 || header[4..8] != [0, 1, 0, 0] {
        return None;
    }
    let mut rest = &query[HEADER..];
    let mut name = String::new();
    loop {
        let (&length, after) = rest.split_first()?;
        rest = after;
        if length == 0 {
            break;
        }
        // Questions have no compressed names; those are the lengths above 63.
        if length > 63 {
            return None;
        }
        let (label, after) = rest.split_at_checked(usize::from(length))?;
        rest = after;
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|&byte| match byte {
            b'-' | b'_' => char::from(byte),
            byte if byte.is_ascii_alphanumeric() => char::from(byte),
            _ => '?',
        }));
        if name.len() > MAX_NAME {
            return None;
        }
    }
    let tail = rest.first_chunk::<4>()?;
    let length = query.len() - rest.len() + tail.len();
    Some(Question {
        id: [header[0], header[1]],
        bytes: &query[HEADER..length],
        name: canonical(&name),
        kind: u16::from_be_bytes([tail[0], tail[1]]),
        class: u16::from_be_bytes([tail[2], tail[3]]),
        recursion_desired: header[2] & 1,
    })
}

fn message(question: &Question<'_>, code: u8, addresses: &[Ipv4Addr]) -> Vec<u8> {
    const RECORD: usize = 16;
    let room = MAX_MESSAGE.saturating_sub(HEADER + question.bytes.len()) / RECORD;
    let addresses = &addresses[..addresses.len().min(room)];
    let mut message = Vec::with_capacity(MAX_MESSAGE);
    message.extend(question.id);
    // A response, of one who asks for others.
    message.extend([0x80 | question.recursion_desired, 0x80 | code]);
    message.extend([0, 1]);
    message.extend(u16::try_from(addresses.len()).unwrap_or(0).to_be_bytes());
    message.extend([0; 4]);
    message.extend(question.bytes);
    for address in addresses {
        // The name is the one at the message's start.
        message.extend([0xc0, 12]);
        message.extend(TYPE_A.to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message.extend(TTL.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address.octets());
    }
    message
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a query, as a resolver sends it.
    pub fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.as_bytes());
        }
        query.push(0);
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    fn pins() -> Vec<Pin> {
        let at = |last| Ipv4Addr::new(203, 0, 113, last);
        let pin = |name: &str, addresses: &[Ipv4Addr], port| Pin {
            name: Some(name.to_owned()),
            addresses: addresses.to_vec(),
            port,
        };
        vec![
            pin("a.example", &[at(1), at(2)], Some(80)),
            pin("a.example", &[at(1), at(2)], Some(443)),
            pin("many.example", &(0..64).map(at).collect::<Vec<_>>(), None),
            Pin { name: None, addresses: vec![at(9)], port: None },
        ]
    }

    #[test]
    fn allowed_names_are_answered() {
        let asked = query("A.example", TYPE_A);
        let mut expected = vec![0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
        expected.extend(&asked[HEADER..]);
        for last in [1, 2] {
            expected.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, last]);
        }
        assert_eq!(answer(&asked, pins().iter()), Some(Answer { message: expected, refused: None }));
    }

    #[test]
    fn an_allowed_name_has_no_other_records() {
        let asked = query("a.example", 28);
        let expected = [&[0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0], &asked[HEADER..]].concat();
        assert_eq!(answer(&asked, pins().iter()), Some(Answer { message: expected, refused: None }));
    }

    #[test]
    fn other_names_do_not_exist() {
        for (name, told) in [
            ("b.example", "b.example"),
            ("x.a.example", "x.a.example"),
            ("example", "example"),
            ("nasty\n\u{1b}[2J.example", "nasty???2j.example"),
        ] {
            let asked = query(name, TYPE_A);
            let expected = [&[0xab, 0xcd, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0], &asked[HEADER..]].concat();
            let answered = answer(&asked, pins().iter());
            assert_eq!(answered, Some(Answer { message: expected, refused: Some(told.to_owned()) }));
        }
    }

    /// A message stays within what everyone takes, however many addresses there are.
    #[test]
    fn an_answer_has_a_limit() {
        let message = answer(&query("many.example", TYPE_A), pins().iter()).unwrap().message;
        assert_eq!(message.len(), 510);
        assert_eq!(message[6..8], [0, 30]);
    }

    #[test]
    fn what_is_no_question() {
        let whole = query("a.example", TYPE_A);
        let changed = |at: usize, byte: u8| {
            let mut changed = whole.clone();
            changed[at] = byte;
            changed
        };
        let long = query(&["abcdefgh"; 29].join("."), TYPE_A);
        for (what, query) in [
            ("a response", changed(2, 0x81)),
            ("another operation", changed(2, 0x29)),
            ("no question", changed(5, 0)),
            ("two questions", changed(5, 2)),
            ("an answer in it", changed(7, 1)),
            ("a compressed name", changed(12, 0xc0)),
            ("a label beyond the end", changed(12, 60)),
            ("a name that is too long", long),
        ] {
            assert_eq!(answer(&query, pins().iter()), None, "{what}");
        }
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length], pins().iter()), None, "{length} bytes");
        }
    }

    /// EDNS's record follows the question and changes nothing.
    #[test]
    fn what_follows_the_question_is_not_looked_at() {
        let mut asked = query("a.example", TYPE_A);
        let plain = answer(&asked, pins().iter()).unwrap();
        asked[11] = 1;
        asked.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer(&asked, pins().iter()), Some(plain));
    }
}
