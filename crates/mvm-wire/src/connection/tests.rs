use super::*;
use crate::message::{BootFacts, Failure, FailureKind, GuestEvent, Hello, Request};

fn hello() -> Message {
    Message::Hello(Hello::current("test 1"))
}

/// A pair whose hellos have been exchanged.
fn pair() -> (Connection, Connection) {
    pair_with(Limits::default())
}

fn pair_with(limits: Limits) -> (Connection, Connection) {
    let mut host = Connection::new(Role::Host, limits);
    let mut guest = Connection::new(Role::Guest, limits);
    host.send(&hello()).unwrap();
    guest.send(&hello()).unwrap();
    assert_eq!(flow(&mut host, &mut guest), [Event::Message(hello())]);
    assert_eq!(flow(&mut guest, &mut host), [Event::Message(hello())]);
    (host, guest)
}

/// Moves everything that `from` has to send, and returns what arrived.
fn flow(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let bytes = from.output().to_vec();
    from.advance(bytes.len());
    to.receive(&bytes).unwrap();
    std::iter::from_fn(|| to.next_event()).collect()
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(stream.to_le_bytes());
    bytes.extend([kind, flags, 0, 0]);
    bytes.extend(payload);
    bytes
}

/// What a host that has had a hello says to some bytes.
fn refusal(bytes: &[u8]) -> String {
    let (mut host, _) = pair();
    host.open_stream(Direction::Both).unwrap();
    host.advance(usize::MAX / 2);
    let mut words = String::new();
    let mut error: Option<&dyn std::error::Error> = None;
    let got = host.receive(bytes);
    if let Err(first) = &got {
        error = Some(first);
    }
    while let Some(e) = error {
        words = format!("{words}{}{e}", if words.is_empty() { "" } else { ": " });
        error = e.source();
    }
    assert!(got.is_ok() || matches!(host.receive(&[]), Err(ProtocolError::Failed)));
    words.replace(&format!("byte {}", host.received), "byte N")
}

#[test]
fn carries_a_stream_to_its_end() {
    let (mut host, mut guest) = pair();
    let stream = host.open_stream(Direction::Receive).unwrap();
    assert_eq!(stream, StreamId::new(2));
    assert_eq!(flow(&mut host, &mut guest), [Event::Opened { stream, direction: Direction::Send }]);
    guest.accept(stream, Direction::Send).unwrap();
    assert_eq!(guest.accept(stream, Direction::Send), Err(StreamError::InUse { stream }));
    assert_eq!(guest.send_data(stream, b"hello"), 5);
    guest.send_eof(stream);
    assert_eq!(guest.send_data(stream, b"late"), 0);
    let data = Event::Data { stream, bytes: b"hello".to_vec() };
    assert_eq!(flow(&mut guest, &mut host), [data, Event::Eof { stream }]);
    assert!(guest.streams.is_empty());
    assert_eq!(host.streams.len(), 1, "data is not consumed");
    host.consumed(stream, 5);
    assert!(host.streams.is_empty());
    assert_eq!(host.output(), b"");
}

#[test]
fn sends_no_more_than_was_granted() {
    let limits = Limits { window: 1000, output: 600, ..Limits::default() };
    let (mut host, mut guest) = pair_with(limits);
    let stream = host.open_stream(Direction::Send).unwrap();
    assert_eq!(host.sendable(stream), 0, "nothing is granted before the guest accepts");
    flow(&mut host, &mut guest);
    guest.accept(stream, Direction::Receive).unwrap();
    assert_eq!(flow(&mut guest, &mut host), [Event::Credit { stream }]);

    assert_eq!(host.send_data(stream, &[1; 2000]), 600, "the output is full");
    assert!(!host.is_congested(), "data alone must not stop a side from receiving");
    flow(&mut host, &mut guest);
    assert_eq!(host.send_data(stream, &[1; 2000]), 400, "the window is full");
    flow(&mut host, &mut guest);
    assert_eq!(host.send_data(stream, &[1; 2000]), 0);

    guest.consumed(stream, 499);
    assert_eq!(guest.output(), b"", "grants come by half windows");
    guest.consumed(stream, 1);
    assert_eq!(flow(&mut guest, &mut host), [Event::Credit { stream }]);
    assert_eq!(host.sendable(stream), 500);
}

#[test]
fn accepts_only_what_was_opened_that_way() {
    let (mut host, mut guest) = pair();
    let stream = host.open_stream(Direction::Send).unwrap();
    flow(&mut host, &mut guest);
    let wrong = StreamError::Direction { stream, expected: Direction::Send, got: Direction::Receive };
    assert_eq!(guest.accept(stream, Direction::Send), Err(wrong));
    let other = StreamId::new(4);
    assert_eq!(guest.accept(other, Direction::Send), Err(StreamError::NotOpen { stream: other }));
    assert_eq!(host.accept(stream, Direction::Send), Err(StreamError::InUse { stream }));
}

#[test]
fn accepts_what_has_ended_meanwhile() {
    let (mut host, mut guest) = pair();
    let stream = host.open_stream(Direction::Send).unwrap();
    host.send_eof(stream);
    let opened = Event::Opened { stream, direction: Direction::Receive };
    assert_eq!(flow(&mut host, &mut guest), [opened, Event::Eof { stream }]);
    guest.accept(stream, Direction::Receive).unwrap();
    assert!(host.streams.is_empty() && guest.streams.is_empty());
    assert_eq!(guest.accept(stream, Direction::Receive), Err(StreamError::NotOpen { stream }));
}

#[test]
fn drops_what_was_under_way_when_a_stream_was_reset() {
    let (mut host, mut guest) = pair();
    let stream = host.open_stream(Direction::Both).unwrap();
    flow(&mut host, &mut guest);
    guest.accept(stream, Direction::Both).unwrap();
    guest.send_data(stream, b"under way");
    guest.send_eof(stream);
    host.reset(stream, ResetReason::Closed);
    assert_eq!(flow(&mut guest, &mut host), []);
    assert_eq!(flow(&mut host, &mut guest), [Event::Reset { stream, reason: ResetReason::Closed }]);
    assert!(host.streams.is_empty() && guest.streams.is_empty());
}

#[test]
fn numbers_streams_by_the_side_that_opens_them() {
    let (mut host, mut guest) = pair();
    let numbers = |side: &mut Connection| -> Vec<u32> {
        (0..3).map(|_| side.open_stream(Direction::Both).unwrap().get()).collect()
    };
    assert_eq!(numbers(&mut host), [2, 4, 6]);
    assert_eq!(numbers(&mut guest), [1, 3, 5]);
    flow(&mut host, &mut guest);
    flow(&mut guest, &mut host);
    assert_eq!(host.streams.len(), 6);
}

#[test]
fn bounds_streams_and_their_windows() {
    let (mut host, mut guest) = pair();
    for _ in 0..256 {
        host.open_stream(Direction::Both).unwrap();
    }
    assert_eq!(host.open_stream(Direction::Both), Err(StreamError::TooMany { limit: 256 }));
    let windows: u32 = host.streams.values().map(|stream| stream.window).sum();
    assert!(windows <= 4 * 1024 * 1024 + 256 * 16 * 1024, "{windows}");
    flow(&mut host, &mut guest);
    assert_eq!(guest.open_stream(Direction::Both), Err(StreamError::TooMany { limit: 256 }));
}

#[test]
fn answers_an_unknown_request_itself() {
    let cases: [&[u8]; 4] = [
        br#"{"type":"request","id":7,"request":{"op":"fly"}}"#,
        br#"{"type":"request","id":7,"request":{"op":"status","height":3}}"#,
        br#"{"type":"request","id":7,"request":{"op":"signal","handle":-1,"signal":1}}"#,
        br#"{"type":"request","id":7,"request":[]}"#,
    ];
    for case in cases {
        let (mut host, mut guest) = pair();
        guest.receive(&raw(1, 0, 0, case)).unwrap();
        assert_eq!(guest.next_event(), None);
        let events = flow(&mut guest, &mut host);
        let [Event::Message(Message::Response { id: 7, result: Err(Failure { kind, .. }) })] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(*kind, FailureKind::Unsupported);
    }
}

#[test]
fn refuses_what_breaks_the_protocol() {
    let ready = br#"{"type":"event","event":{"event":"nothing"}}"#;
    let long = [b' '; 65_537];
    let cases: &[(&[u8], &str)] = &[
        (&[0; 12], "reading a frame header failed: frame at byte N: kind is 0, expected 1 to 6"),
        (
            &raw(3, 1, 2, b"x"),
            "reading a frame header failed: frame at byte N: flags of a data frame are 0x01, expected 0",
        ),
        (
            &raw(2, 4, 1, &[0; 4]),
            "reading a frame header failed: frame at byte N: flags of a open frame are 0x04, expected a direction, 1 to 3",
        ),
        (
            &[0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 1, 0],
            "reading a frame header failed: frame at byte N: reserved bytes are 0x0001, expected 0",
        ),
        (
            &raw(3, 0, 2, &long),
            "reading a frame header failed: frame at byte N: length of a data frame is 65537, expected 1 to 65536",
        ),
        (
            &raw(4, 0, 2, &[1]),
            "reading a frame header failed: frame at byte N: length of a credit frame is 1, expected 4 to 4",
        ),
        (
            &raw(1, 0, 1, b"{}"),
            "reading a frame header failed: frame at byte N: stream of a control frame is 1, expected 0",
        ),
        (
            &raw(3, 0, 0, b"x"),
            "reading a frame header failed: frame at byte N: stream of a data frame is 0, expected above 0",
        ),
        (&raw(3, 0, 1, b"x"), "frame at byte N: data for stream 1, which was never opened"),
        (&raw(4, 0, 4, &[1, 0, 0, 0]), "frame at byte N: credit for stream 4, which was never opened"),
        (&raw(6, 0, 4, &[1]), "frame at byte N: reset for stream 4, which was never opened"),
        (&raw(5, 0, 4, &[]), "frame at byte N: end-of-stream for stream 4, which was never opened"),
        (&raw(2, 3, 4, &[0; 4]), "frame at byte N: opens stream 4, expected an odd number above 0"),
        (&raw(4, 0, 2, &[0; 4]), "frame at byte N: credit of 0 for stream 2, which has 0"),
        (
            &[raw(5, 0, 2, &[]), raw(3, 0, 2, b"x")].concat(),
            "frame at byte N: data for stream 2, which the peer has ended",
        ),
        (
            &[raw(5, 0, 2, &[]), raw(5, 0, 2, &[])].concat(),
            "frame at byte N: end-of-stream for stream 2, which the peer has ended",
        ),
        (
            &[raw(2, 1, 3, &[0; 4]), raw(2, 1, 1, &[0; 4])].concat(),
            "frame at byte N: opens stream 1, expected an odd number above 3",
        ),
        (
            &[raw(2, 1, 3, &[0; 4]), raw(3, 0, 3, b"xy")].concat(),
            "frame at byte N: 2 bytes of data for stream 3, but 0 are allowed",
        ),
        (
            &raw(1, 0, 0, ready),
            "frame at byte N holds no message: parsing a control message failed: unknown variant `nothing`, \
             expected one of `ready`, `exited`, `failed`, `changed`, `ended`",
        ),
        (
            &raw(1, 0, 0, br#"{"type":"hello","min_version":1,"max_version":1,"software":""}"#),
            "frame at byte N: got a hello, expected no second hello",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(refusal(bytes), *expected);
    }
}

#[test]
fn expects_a_hello_first() {
    for (bytes, got) in [
        (raw(2, 1, 1, &[0; 4]), "open"),
        (raw(1, 0, 0, br#"{"type":"request","id":1,"request":{"op":"status"}}"#), "another message"),
    ] {
        let mut host = Connection::new(Role::Host, Limits::default());
        let error = host.receive(&bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("frame at byte 0: got {got}, expected a hello"));
    }
}

#[test]
fn ends_a_connection_whose_peer_does_not_read() {
    let limits = Limits { output: 1024, output_hard: 4096, ..Limits::default() };
    let (_, mut guest) = pair_with(limits);
    let request = raw(1, 0, 0, br#"{"type":"request","id":1,"request":{"op":"fly"}}"#);
    guest.receive(&request.repeat(11)).unwrap();
    assert!(guest.is_congested());
    let error = (0..1000).find_map(|_| guest.receive(&request).err()).unwrap();
    assert!(matches!(error, ProtocolError::NotReading { limit: 4096, .. }), "{error}");
    assert!(guest.output().len() < 2 * 4096);
    let message = Message::Request { id: 1, request: Request::Status {} };
    assert!(matches!(guest.send(&message), Err(SendError::Full { .. })));
}

#[test]
fn refuses_a_message_that_no_frame_holds() {
    let (mut host, _) = pair();
    let request = Request::Start { process: "x".repeat(300_000), streams: Default::default() };
    let error = host.send(&Message::Request { id: 1, request }).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { limit: 262_144, .. }), "{error}");
}

/// A small deterministic generator (Marsaglia, "Xorshift RNGs", 2003).
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A guest's bytes: a conversation with every kind of frame.
fn conversation() -> Vec<u8> {
    let (mut host, mut guest) = pair();
    let streams: Vec<StreamId> = (0..4).map(|_| host.open_stream(Direction::Both).unwrap()).collect();
    flow(&mut host, &mut guest);
    let mut bytes = Vec::new();
    let mut fresh = Connection::new(Role::Guest, Limits::default());
    fresh.send(&hello()).unwrap();
    bytes.extend(fresh.output());
    let facts =
        BootFacts { kernel: "6.1".into(), machine: "x86_64".into(), boot_ms: 1, cpus: 1, memory_kib: 1 };
    guest.send(&Message::Event { event: GuestEvent::Ready { facts } }).unwrap();
    for (index, stream) in streams.iter().enumerate() {
        guest.accept(*stream, Direction::Both).unwrap();
        guest.send_data(*stream, &vec![b'a'; 1 + index * 30_000]);
    }
    guest.send_eof(streams[0]);
    guest.reset(streams[1], ResetReason::Failed);
    let own = guest.open_stream(Direction::Both).unwrap();
    guest.reset(own, ResetReason::Refused);
    bytes.extend(guest.output());
    bytes
}

fn host_for_conversation() -> Connection {
    let mut host = Connection::new(Role::Host, Limits::default());
    for _ in 0..4 {
        host.open_stream(Direction::Both).unwrap();
    }
    host
}

#[test]
fn splits_make_no_difference() {
    let bytes = conversation();
    let mut host = host_for_conversation();
    host.receive(&bytes).unwrap();
    let whole: Vec<Event> = std::iter::from_fn(|| host.next_event()).collect();
    assert!(whole.len() > 10, "{}", whole.len());
    for size in [1, 2, 3, 11, 12, 13, 511, 4097, 65_549] {
        let mut host = host_for_conversation();
        let mut events = Vec::new();
        for chunk in bytes.chunks(size) {
            host.receive(chunk).unwrap();
            events.extend(std::iter::from_fn(|| host.next_event()));
            assert!(host.partial.len() < HEADER_LEN + frame::MAX_CONTROL);
        }
        assert_eq!(events, whole, "chunks of {size}");
    }
}

#[test]
fn garbage_neither_panics_nor_grows() {
    let sound = conversation();
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3000 {
        let mut bytes = sound.clone();
        // Damage in the headers is the interesting one; most of the conversation is data.
        for _ in 0..=random.below(4) {
            let reach = if random.below(2) == 0 { 400 } else { bytes.len() };
            let at = random.below(reach.min(bytes.len()));
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at),
                _ => bytes.insert(at, random.next() as u8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let mut host = host_for_conversation();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(1 + random.below(rest.len()));
            let failed = host.receive(head).is_err();
            let mut held = 0;
            while let Some(event) = host.next_event() {
                if let Event::Data { stream, bytes } = event {
                    held += bytes.len();
                    if random.below(2) == 0 {
                        host.consumed(stream, bytes.len());
                    }
                }
            }
            assert!(held <= 5 << 20 && host.partial.len() < HEADER_LEN + frame::MAX_CONTROL);
            if failed {
                break;
            }
            rest = tail;
        }
    }
}
