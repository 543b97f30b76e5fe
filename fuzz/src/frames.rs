//! A connection and a hostile peer: how bytes are split makes no difference, and what is held stays bounded.

use mvm_wire::{
    Connection, Direction, Event, Hello, Limits, Message, ProtocolError, Role, StreamError, StreamId,
};

/// Limits that inputs of a few KiB can reach.
const LIMITS: Limits =
    Limits { streams: 4, window: 1024, windows: 4096, window_floor: 64, output: 4096, output_hard: 16_384 };

/// Gives the input to one side of a connection, which does what an agent would with all that comes.
///
/// The first byte chooses the side, whether the hello has been said, and how the bytes are split.
pub fn body(data: &[u8]) {
    let Some((shape, input)) = data.split_first() else { return };
    let role = if shape & 1 == 0 { Role::Guest } else { Role::Host };
    let greeting = if shape & 2 == 0 { greeting(role) } else { Vec::new() };
    let input = [&greeting[..], input].concat();
    let piece = usize::from(shape >> 2) + 1;
    let whole = Side::new(role).run(&input, input.len().max(1));
    let pieces = Side::new(role).run(&input, piece);
    // When events are taken decides what is granted when, but never what the peer said.
    let length = whole.messages.len().min(pieces.messages.len());
    assert_eq!(whole.messages[..length], pieces.messages[..length]);
    if shape & 4 == 0 {
        let quiet = |piece| {
            let mut side = Connection::new(role, LIMITS);
            let mut events = Vec::new();
            for part in input.chunks(piece) {
                let result = side.receive(part);
                events.extend(std::iter::from_fn(|| side.next_event()));
                if let Err(error) = result {
                    return (events, Some(error.to_string()), side.output().to_vec());
                }
            }
            (events, None, side.output().to_vec())
        };
        assert_eq!(quiet(piece), quiet(input.len().max(1)), "in pieces of {piece}");
    }
}

/// What the peer of a side says first.
fn greeting(role: Role) -> Vec<u8> {
    let mut peer = Connection::new(if role == Role::Host { Role::Guest } else { Role::Host }, LIMITS);
    assert!(peer.send(&Message::Hello(Hello::current("fuzz"))).is_ok());
    peer.output().to_vec()
}

struct Side {
    connection: Connection,
    messages: Vec<Message>,
    /// Data bytes that came, in all.
    received: usize,
}

impl Side {
    fn new(role: Role) -> Self {
        let mut connection = Connection::new(role, LIMITS);
        assert!(connection.send(&Message::Hello(Hello::current("fuzz"))).is_ok());
        if role == Role::Host {
            for direction in [Direction::Send, Direction::Receive, Direction::Both] {
                assert!(connection.open_stream(direction).is_ok());
            }
        }
        Self { connection, messages: Vec::new(), received: 0 }
    }

    fn run(mut self, input: &[u8], piece: usize) -> Self {
        for part in input.chunks(piece) {
            let result = self.connection.receive(part);
            while let Some(event) = self.connection.next_event() {
                self.take(event);
            }
            let waiting = self.connection.output().len();
            assert!(
                result.is_err() || waiting <= LIMITS.output_hard + 1024,
                "{waiting} bytes wait to be sent"
            );
            if result.is_err() {
                assert!(matches!(self.connection.receive(b""), Err(ProtocolError::Failed)));
                assert!(self.connection.next_event().is_none());
                break;
            }
            // Half of it is taken by the pipe.
            self.connection.advance(waiting / 2 + 1);
        }
        assert!(self.received <= input.len(), "more data came out than went in");
        self
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Message(message) => self.messages.push(message),
            Event::Opened { stream, direction } => {
                // Some are left waiting, some are refused.
                match stream.get() % 8 {
                    0 | 1 => {}
                    2 | 3 => self.connection.reset(stream, mvm_wire::ResetReason::Refused),
                    _ => {
                        let accepted = self.connection.accept(stream, direction);
                        // The peer may have given it up by now.
                        let is_sound = matches!(accepted, Ok(()) | Err(StreamError::NotOpen { .. }));
                        assert!(is_sound, "{accepted:?}");
                    }
                }
            }
            Event::Data { stream, bytes } => {
                assert!(!bytes.is_empty() && bytes.len() <= LIMITS.window as usize, "{} bytes", bytes.len());
                self.received += bytes.len();
                self.connection.consumed(stream, bytes.len());
                let sent = self.connection.send_data(stream, &bytes);
                assert!(sent <= bytes.len());
            }
            Event::Eof { stream } => self.connection.send_eof(stream),
            Event::Reset { stream, .. } => assert_eq!(self.connection.sendable(stream), 0),
            Event::Credit { stream } => self.fill(stream),
        }
    }

    fn fill(&mut self, stream: StreamId) {
        let room = self.connection.sendable(stream);
        let count = self.connection.send_data(stream, &[7; 256]);
        assert_eq!(count, room.min(256));
    }
}
