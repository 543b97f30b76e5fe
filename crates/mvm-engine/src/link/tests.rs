use super::*;
use mvm_wire::{Direction, Event, ExitStatus, GuestEvent, Hello, Message, ResetReason, StreamId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::Write as _;

/// One side of a connection that does what a test says. It waits where a program would poll, and panics where it
/// would wait for ever.
pub(crate) struct Peer {
    pub link: Link,
    events: VecDeque<Event>,
}

impl Peer {
    /// Makes a side that has sent its hello.
    pub fn new(socket: UnixStream, role: Role) -> Self {
        let mut peer = Self::silent(socket, role);
        peer.send(&Message::Hello(Hello::current("a test")));
        peer
    }

    /// Makes a side that has sent nothing.
    pub fn silent(socket: UnixStream, role: Role) -> Self {
        Self { link: Link::new(socket, role).unwrap(), events: VecDeque::new() }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) {
        self.link.wire.send(message).unwrap();
        self.flush();
    }

    /// Sends all that waits to be sent.
    pub fn flush(&mut self) {
        self.link.send().unwrap();
        while self.link.has_output() {
            self.exchange(60);
        }
    }

    /// Sends bytes that need not be frames.
    pub fn send_raw(&self, bytes: &[u8]) {
        (&self.link.socket).write_all(bytes).unwrap();
    }

    /// Says that a process ended.
    pub fn exited(&mut self, handle: u32, status: ExitStatus) {
        self.send(&Message::Event { event: GuestEvent::Exited { handle, status } });
    }

    /// Waits for what comes next, credit and hellos left out; nothing when the other side has hung up.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.pop_front() {
                Some(Event::Credit { .. } | Event::Message(Message::Hello(_))) => {}
                Some(event) => return Some(event),
                None if self.link.closed() => return None,
                None => self.exchange(60),
            }
        }
    }

    /// Waits for the next message, leaving out streams that open or end.
    pub fn message(&mut self) -> Message {
        loop {
            match self.next() {
                Some(Event::Message(message)) => return message,
                Some(Event::Opened { .. } | Event::Eof { .. }) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// Waits for the next request and answers with what `answer` makes of it.
    pub fn answer(
        &mut self,
        answer: impl FnOnce(&mvm_wire::Request) -> Result<mvm_wire::Reply, mvm_wire::Failure>,
    ) -> mvm_wire::Request {
        let Message::Request { id, request } = self.message() else { panic!("expected a request") };
        let result = answer(&request);
        self.send(&Message::Response { id, result });
        request
    }

    /// Sends all of `bytes`, as credit comes.
    pub fn send_data(&mut self, stream: StreamId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = self.link.wire.send_data(stream, bytes);
            bytes = &bytes[sent..];
            self.flush();
            if sent == 0 {
                assert!(!self.link.closed(), "the other side has hung up");
                self.exchange(60);
            }
        }
    }

    /// Sends data until nothing more is taken for a while, and returns how many bytes were.
    pub fn send_until_full(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        let mut total = 0;
        let mut idle = 0;
        while idle < 3 {
            let sent = self.link.wire.send_data(stream, &bytes[total..]);
            total += sent;
            self.link.send().unwrap();
            idle = if sent == 0 { idle + 1 } else { 0 };
            self.exchange_for(Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
        }
        total
    }

    /// Ends a stream.
    pub fn send_eof(&mut self, stream: StreamId) {
        self.link.wire.send_eof(stream);
        self.flush();
    }

    /// Reads a stream to its end. What else comes meanwhile is kept for later.
    pub fn read_to_end(&mut self, stream: StreamId) -> Vec<u8> {
        let mut read = Vec::new();
        let mut other = VecDeque::new();
        loop {
            match self.next() {
                Some(Event::Data { stream: from, bytes }) if from == stream => {
                    self.link.wire.consumed(stream, bytes.len());
                    self.flush();
                    read.extend(bytes);
                }
                Some(Event::Eof { stream: from }) if from == stream => {
                    other.append(&mut self.events);
                    self.events = other;
                    return read;
                }
                Some(event) => other.push_back(event),
                None => panic!("the other side hung up before the end of stream {stream}: {other:?}"),
            }
        }
    }

    /// Accepts the streams that a request names, as an agent does.
    pub fn accept(&mut self, streams: &mvm_wire::Streams) {
        let wanted = [
            (streams.stdin, Direction::Receive),
            (streams.stdout, Direction::Send),
            (streams.stderr, Direction::Send),
        ];
        for (stream, direction) in wanted {
            if let Some(stream) = stream {
                self.link.wire.accept(stream, direction).unwrap();
            }
        }
        self.flush();
    }

    /// Waits until the other side hangs up, and returns what came before.
    pub fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn exchange(&mut self, seconds: i64) {
        assert!(self.exchange_for(Timespec { tv_sec: seconds, tv_nsec: 0 }), "nothing came for {seconds} s");
    }

    /// Receives and sends once; returns whether anything could be done in the time.
    fn exchange_for(&mut self, time: Timespec) -> bool {
        let flags = if self.link.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let ready = poll(&mut [PollFd::new(&self.link, flags)], Some(&time)).unwrap();
        if ready > 0 {
            self.link.receive().unwrap();
            while let Some(event) = self.link.wire.next_event() {
                self.events.push_back(event);
            }
        }
        self.link.send().unwrap();
        ready > 0
    }
}

fn pair() -> (Peer, Peer) {
    let (host, guest) = UnixStream::pair().unwrap();
    (Peer::new(host, Role::Host), Peer::new(guest, Role::Guest))
}

#[test]
fn messages_and_streams_pass_both_ways() {
    let (mut host, mut guest) = pair();
    let down = host.link.wire.open_stream(Direction::Send).unwrap();
    let up = host.link.wire.open_stream(Direction::Receive).unwrap();
    host.flush();
    assert_eq!(guest.next(), Some(Event::Opened { stream: down, direction: Direction::Receive }));
    assert_eq!(guest.next(), Some(Event::Opened { stream: up, direction: Direction::Send }));
    guest.link.wire.accept(down, Direction::Receive).unwrap();
    guest.link.wire.accept(up, Direction::Send).unwrap();
    guest.flush();

    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let got = guest.read_to_end(down);
            guest.send_data(up, &got);
            guest.send_eof(up);
        });
        host.send_data(down, &bytes);
        host.send_eof(down);
        assert!(host.read_to_end(up) == bytes);
    });
    host.link.wire.reset(up, ResetReason::Closed);
    host.exited(1, ExitStatus::Code(3));
    let expected = Message::Event { event: GuestEvent::Exited { handle: 1, status: ExitStatus::Code(3) } };
    assert_eq!(guest.message(), expected);
}

#[test]
fn a_peer_that_has_gone_is_no_error() {
    let (mut host, guest) = pair();
    drop(guest);
    assert_eq!(host.next(), None);
    assert!(host.link.closed());
    host.send(&Message::Event { event: GuestEvent::Ended { message: String::new() } });
    assert!(!host.link.has_output(), "nothing can be sent any more");
    assert!(!host.link.receive().unwrap());
}

#[test]
fn last_words_are_heard_also_by_one_who_speaks() {
    for reads in [false, true] {
        let (mut host, mut guest) = pair();
        if reads {
            guest.exchange(60);
        }
        guest.exited(1, ExitStatus::Code(3));
        // Bytes that it has not read make the kernel answer with a reset.
        drop(guest);
        host.send(&Message::Event { event: GuestEvent::Ended { message: String::new() } });
        assert!(!host.link.closed() && !host.link.has_output());
        let expected =
            Message::Event { event: GuestEvent::Exited { handle: 1, status: ExitStatus::Code(3) } };
        assert_eq!(host.message(), expected);
        assert_eq!(host.next(), None);
        assert!(host.link.closed());
    }
}

#[test]
fn a_peer_that_does_not_speak_the_protocol_is_an_error() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[0xff; 64], &[0; 64]] {
        let (host, guest) = UnixStream::pair().unwrap();
        let mut link = Link::new(host, Role::Host).unwrap();
        (&guest).write_all(bytes).unwrap();
        let error = link.receive().unwrap_err();
        assert_eq!(error.to_string(), "the peer broke the protocol");
        assert!(link.receive().is_ok(), "nothing more was there to be wrong");
    }
}

#[test]
fn sending_stops_where_the_socket_is_full() {
    let (socket, reader) = UnixStream::pair().unwrap();
    let mut link = Link::new(socket, Role::Host).unwrap();
    let message = Message::Hello(Hello::current("x".repeat(100_000)));
    for _ in 0..20 {
        link.wire.send(&message).unwrap();
    }
    let all = link.wire.output().len();
    link.send().unwrap();
    assert!(link.has_output());
    assert!(link.wire.output().len() < all);
    assert!(!link.closed());
    drop(reader);
    link.send().unwrap();
    assert!(!link.has_output());
    assert!(!link.receive().unwrap());
    assert!(link.closed());
}
