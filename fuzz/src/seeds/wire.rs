//! Frames, messages and guest documents.

use mvm_wire::message::Decoded;
use mvm_wire::{Connection, Direction, Hello, Limits, Message, Role};

/// Every message whose form is frozen.
const MESSAGES: [&str; 17] = [
    include_str!("../../../crates/mvm-wire/schema/v1/event-ended.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/event-exited-code.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/event-exited-signal.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/event-failed.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/event-ready.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/hello.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-exec.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-resize.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-signal.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-start-detached.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-start.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-status.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/request-stop.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/response-done.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/response-error.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/response-started.json"),
    include_str!("../../../crates/mvm-wire/schema/v1/response-status.json"),
];
const GUEST_DOCUMENT: &str = include_str!("../../../crates/mvm-wire/schema/v1/guest-document.json");

/// Messages, and a request that no version knows.
pub fn messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = MESSAGES.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(br#"{"type":"request","id":7,"request":{"op":"fly"}}"#.to_vec());
    all
}

/// Guest documents.
pub fn guest_documents() -> Vec<Vec<u8>> {
    let tmpfs = GUEST_DOCUMENT.replace("\"kind\": \"disk\"", "\"kind\": \"tmpfs\"");
    vec![GUEST_DOCUMENT.into(), tmpfs.replace("\"serial\": \"scratch\"", "\"size_mib\": 16").into()]
}

/// What two honest sides say to each other, as one of them hears it, and single frames.
pub fn frames() -> Vec<Vec<u8>> {
    let mut all = vec![vec![0], vec![1]];
    for (role, shape) in [(Role::Host, 2), (Role::Guest, 3)] {
        let mut side = Connection::new(role, Limits { window: 512, ..Limits::default() });
        assert!(side.send(&Message::Hello(Hello::current("seed"))).is_ok());
        let mut streams = Vec::new();
        for direction in [Direction::Send, Direction::Both, Direction::Receive] {
            streams.extend(side.open_stream(direction));
        }
        for text in &MESSAGES {
            let decoded = Message::decode(text.as_bytes());
            if let Ok(Decoded::Message(message)) = decoded
                && !matches!(message, Message::Hello(_))
                && text.len() < 200
            {
                assert!(side.send(&message).is_ok());
            }
        }
        side.send_eof(streams[0]);
        side.reset(streams[2], mvm_wire::ResetReason::Closed);
        all.push([&[shape], side.output()].concat());
    }
    // After the hello: data, credit and an end on streams that the side opened.
    let frame = |length: u32, stream: u32, kind: u8, payload: &[u8]| {
        [&length.to_le_bytes()[..], &stream.to_le_bytes(), &[kind, 0, 0, 0], payload].concat()
    };
    all.push(
        [
            vec![1],
            frame(4, 2, 4, &[0, 1, 0, 0]),
            frame(3, 4, 3, b"abc"),
            frame(0, 4, 5, b""),
            frame(1, 6, 6, &[1]),
        ]
        .concat(),
    );
    all.push([vec![0], frame(4, 2, 2, &[0, 1, 0, 0]), frame(2, 2, 3, b"ab")].concat());
    all
}
