use super::*;
use crate::journal::{OutputReader, OutputStream};
use mvm_wire::{Direction, Event, Hello, Limits, Message, Role};

const CLIENT: Peer = Peer::Client(0);

/// The supervisor's connection to a peer and the peer's own, with nothing between them.
struct Pair {
    ours: Connection,
    theirs: Connection,
}

impl Pair {
    fn new(ours: Role, theirs: Role) -> Self {
        let connection = |role| {
            let mut connection = Connection::new(role, Limits::default());
            connection.send(&Message::Hello(Hello::current("a test"))).unwrap();
            connection
        };
        let mut pair = Self { ours: connection(ours), theirs: connection(theirs) };
        pair.exchange();
        pair.events();
        pair
    }

    /// Moves what each side has to send to the other.
    fn exchange(&mut self) {
        let Self { ours, theirs } = self;
        while !ours.output().is_empty() || !theirs.output().is_empty() {
            let bytes = ours.output().to_vec();
            ours.advance(bytes.len());
            theirs.receive(&bytes).unwrap();
            let bytes = theirs.output().to_vec();
            theirs.advance(bytes.len());
            ours.receive(&bytes).unwrap();
        }
    }

    /// Takes what the peer got, credit left out.
    fn events(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.theirs.next_event());
        events.filter(|event| !matches!(event, Event::Credit { .. } | Event::Message(_))).collect()
    }
}

/// A guest and one client, a stream of each, and the relay between them.
struct Net {
    guest: Pair,
    client: Option<Pair>,
    relay: Relay,
    log: Journal,
    directory: tempfile::TempDir,
}

struct Peers<'a>(&'a mut Pair, &'a mut Option<Pair>);

impl Connections for Peers<'_> {
    fn connection(&mut self, peer: Peer) -> Option<&mut Connection> {
        match peer {
            Peer::Guest => Some(&mut self.0.ours),
            Peer::Client(0) => self.1.as_mut().map(|pair| &mut pair.ours),
            Peer::Client(_) => None,
        }
    }
}

impl Net {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            guest: Pair::new(Role::Host, Role::Guest),
            client: Some(Pair::new(Role::Guest, Role::Host)),
            relay: Relay::default(),
            log: Journal::open(directory.path()).unwrap(),
            directory,
        }
    }

    fn client(&mut self) -> &mut Pair {
        self.client.as_mut().unwrap()
    }

    /// Lays a pipe from the guest to the client (an output), or to the guest (an input); returns both ends.
    fn pipe(&mut self, to_guest: bool, logged: bool) -> (End, End) {
        let (at_client, at_guest) = if to_guest {
            (Direction::Send, Direction::Receive)
        } else {
            (Direction::Receive, Direction::Send)
        };
        let client = self.client();
        let theirs = client.theirs.open_stream(at_client).unwrap();
        client.exchange();
        client.ours.accept(theirs, at_client.reversed()).unwrap();
        client.exchange();
        let ours = self.guest.ours.open_stream(at_guest.reversed()).unwrap();
        self.guest.exchange();
        self.guest.theirs.accept(ours, at_guest).unwrap();
        self.guest.exchange();
        self.drop_events();
        let (client_end, guest_end) = ((CLIENT, theirs), (Peer::Guest, ours));
        let origin = logged.then(origin);
        if to_guest {
            self.relay.connect(client_end, guest_end, origin);
        } else {
            self.relay.connect(guest_end, client_end, origin);
        }
        (client_end, guest_end)
    }

    fn drop_events(&mut self) {
        self.guest.events();
        self.client().events();
        while self.guest.ours.next_event().is_some() {}
        while self.client().ours.next_event().is_some() {}
    }

    /// Does what the supervisor's loop does until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.guest.exchange();
            if let Some(client) = &mut self.client {
                client.exchange();
            }
            let mut heard = Vec::new();
            heard.extend(
                std::iter::from_fn(|| self.guest.ours.next_event()).map(|event| (Peer::Guest, event)),
            );
            if let Some(client) = &mut self.client {
                heard.extend(std::iter::from_fn(|| client.ours.next_event()).map(|event| (CLIENT, event)));
            }
            for (peer, event) in heard {
                match event {
                    Event::Data { stream, bytes } => self.relay.data((peer, stream), &bytes),
                    Event::Eof { stream } => self.relay.ended((peer, stream)),
                    Event::Reset { stream, reason } => {
                        self.relay.reset(
                            (peer, stream),
                            reason,
                            &mut Peers(&mut self.guest, &mut self.client),
                        );
                    }
                    _ => {}
                }
            }
            self.relay.pump(&mut Peers(&mut self.guest, &mut self.client), &mut self.log);
            let quiet = |pair: &Pair| pair.ours.output().is_empty() && pair.theirs.output().is_empty();
            if quiet(&self.guest) && self.client.as_ref().is_none_or(quiet) {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn held(&self) -> usize {
        self.relay.pipes.values().map(|pipe| pipe.held.len()).sum()
    }

    fn logged(&self) -> Vec<u8> {
        let mut reader = OutputReader::new(self.directory.path(), None);
        let lines = std::iter::from_fn(|| reader.next_output().unwrap());
        lines.flat_map(|line| line.bytes).collect()
    }
}

fn origin() -> Origin {
    Origin::new("main", OutputStream::Stdout)
}

fn data(events: &[Event]) -> Vec<u8> {
    let bytes = |event: &Event| match event {
        Event::Data { bytes, .. } => bytes.clone(),
        _ => vec![],
    };
    events.iter().flat_map(bytes).collect()
}

#[test]
fn bytes_and_the_end_pass_in_order_both_ways() {
    let mut net = Net::new();
    let ((_, output), (_, guest_output)) = net.pipe(false, true);
    let ((_, input), (_, guest_input)) = net.pipe(true, false);
    assert_eq!(net.guest.theirs.send_data(guest_output, b"out"), 3);
    net.guest.theirs.send_eof(guest_output);
    assert_eq!(net.client().theirs.send_data(input, b"in"), 2);
    net.client().theirs.send_eof(input);
    net.settle();
    let expected =
        |stream, text: &[u8]| vec![Event::Data { stream, bytes: text.to_vec() }, Event::Eof { stream }];
    assert_eq!(net.client().events(), expected(output, b"out"));
    assert_eq!(net.guest.events(), expected(guest_input, b"in"));
    assert!(net.relay.pipes.is_empty());
    assert!(net.relay.drained());
    assert_eq!(net.logged(), b"out");
}

#[test]
fn what_a_slow_reader_leaves_is_bounded_by_its_senders_window() {
    let mut net = Net::new();
    let ((_, output), (_, guest_output)) = net.pipe(false, true);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let window = Limits::default().window as usize;
    let (mut sent, mut ended, mut read) = (0, false, Vec::new());
    while !net.relay.pipes.is_empty() {
        loop {
            let count = net.guest.theirs.send_data(guest_output, &bytes[sent..]);
            sent += count;
            net.settle();
            assert!(net.held() <= window, "{} held", net.held());
            assert!(sent - read.len() <= 2 * window, "{sent} sent, {} read", read.len());
            if count == 0 {
                break;
            }
        }
        if sent == bytes.len() && !ended {
            assert!(!net.relay.drained());
            net.guest.theirs.send_eof(guest_output);
            ended = true;
        }
        let events = net.client().events();
        let got = data(&events);
        net.client().theirs.consumed(output, got.len());
        read.extend(got);
        net.settle();
    }
    let events = net.client().events();
    assert_eq!(events.last(), Some(&Event::Eof { stream: output }));
    read.extend(data(&events));
    assert!(read == bytes);
}

#[test]
fn a_stream_that_one_side_gives_up_is_given_up_on_the_other() {
    // The reader of an output: the command's next write fails.
    let mut net = Net::new();
    let ((_, output), (_, guest_output)) = net.pipe(false, true);
    net.client().theirs.reset(output, ResetReason::Closed);
    net.settle();
    assert_eq!(net.guest.events(), [Event::Reset { stream: guest_output, reason: ResetReason::Closed }]);
    assert_eq!(net.guest.theirs.send_data(guest_output, b"more"), 0);
    assert!(net.relay.pipes.is_empty());

    // The reader of an input: the client need send no more.
    let mut net = Net::new();
    let ((_, input), (_, guest_input)) = net.pipe(true, false);
    net.guest.theirs.reset(guest_input, ResetReason::Closed);
    net.settle();
    assert_eq!(net.client().events(), [Event::Reset { stream: input, reason: ResetReason::Closed }]);
    assert!(net.relay.pipes.is_empty());

    // The sender: what it sent before still arrives, then the end.
    let mut net = Net::new();
    let ((_, output), (_, guest_output)) = net.pipe(false, true);
    net.guest.theirs.send_data(guest_output, b"last");
    net.guest.theirs.reset(guest_output, ResetReason::Failed);
    net.settle();
    let expected = [Event::Data { stream: output, bytes: b"last".to_vec() }, Event::Eof { stream: output }];
    assert_eq!(net.client().events(), expected);
    let ((_, input), (_, guest_input)) = net.pipe(true, false);
    net.client().theirs.send_data(input, b"last");
    net.client().theirs.reset(input, ResetReason::Failed);
    net.settle();
    let expected =
        [Event::Data { stream: guest_input, bytes: b"last".to_vec() }, Event::Eof { stream: guest_input }];
    assert_eq!(net.guest.events(), expected);
    assert!(net.relay.pipes.is_empty());
}

#[test]
fn what_is_held_for_a_stream_that_is_given_up_goes_with_it() {
    let mut net = Net::new();
    let theirs = net.client().theirs.open_stream(Direction::Both).unwrap();
    net.client().exchange();
    net.client().ours.accept(theirs, Direction::Both).unwrap();
    net.client().exchange();
    // One that the guest never lets anybody send on.
    let ours = net.guest.ours.open_stream(Direction::Both).unwrap();
    net.relay.connect((CLIENT, theirs), (Peer::Guest, ours), None);
    net.relay.connect((Peer::Guest, ours), (CLIENT, theirs), None);
    assert_eq!(net.client().theirs.send_data(theirs, &[b'x'; 1000]), 1000);
    net.settle();
    assert_eq!(net.held(), 1000);
    net.client().theirs.reset(theirs, ResetReason::Closed);
    net.settle();
    assert_eq!(net.held(), 0);
    assert!(net.relay.pipes.is_empty());
}

#[test]
fn a_reset_touches_only_its_own_pipe() {
    let mut net = Net::new();
    let ((_, first), _) = net.pipe(false, true);
    let ((_, second), (_, guest_second)) = net.pipe(false, true);
    net.client().theirs.reset(first, ResetReason::Closed);
    net.settle();
    net.guest.events();
    net.guest.theirs.send_data(guest_second, b"still here");
    net.settle();
    assert_eq!(net.client().events(), [Event::Data { stream: second, bytes: b"still here".to_vec() }]);
}

#[test]
fn when_a_client_goes_its_input_ends_and_its_output_only_goes_to_the_log() {
    let mut net = Net::new();
    let (_, (_, main_output)) = net.pipe(false, true);
    let (_, (_, exec_output)) = net.pipe(false, false);
    let ((_, input), (_, guest_input)) = net.pipe(true, false);
    net.client().theirs.send_data(input, b"typed");
    net.settle();
    // Held for a client that doesn't read when it goes.
    let many = vec![b'm'; 600_000];
    let mut sent = net.guest.theirs.send_data(main_output, &many);
    net.guest.theirs.send_data(exec_output, b"lost");
    net.settle();
    sent += net.guest.theirs.send_data(main_output, &many[sent..]);
    net.settle();
    net.client = None;
    net.relay.client_gone(0);
    net.settle();
    let expected =
        [Event::Data { stream: guest_input, bytes: b"typed".to_vec() }, Event::Eof { stream: guest_input }];
    assert_eq!(net.guest.events(), expected);
    assert_eq!(net.logged().len(), sent);
    while sent < many.len() {
        let count = net.guest.theirs.send_data(main_output, &many[sent..]);
        assert!(count > 0, "the log gives credit as a client does");
        sent += count;
        net.settle();
    }
    assert!(net.guest.theirs.send_data(exec_output, b"also lost") > 0);
    net.guest.theirs.send_data(main_output, b"end");
    net.guest.theirs.send_eof(main_output);
    net.guest.theirs.send_eof(exec_output);
    net.settle();
    assert!(net.logged().ends_with(b"mmmend"));
    assert!(!net.logged().windows(4).any(|text| text == b"lost"));
    assert!(net.relay.pipes.is_empty());
}

#[test]
fn a_command_without_a_client_writes_to_the_log() {
    let mut net = Net::new();
    let stream = net.guest.ours.open_stream(Direction::Receive).unwrap();
    net.guest.exchange();
    net.guest.theirs.accept(stream, Direction::Send).unwrap();
    net.relay.log((Peer::Guest, stream), origin());
    net.guest.theirs.send_data(stream, b"hello\n");
    net.settle();
    net.guest.theirs.send_data(stream, b"world\n");
    net.guest.theirs.send_eof(stream);
    net.settle();
    assert_eq!(net.logged(), b"hello\nworld\n");
    assert!(net.relay.pipes.is_empty());
}

#[test]
fn when_the_guest_goes_its_streams_end_after_what_they_hold() {
    let mut net = Net::new();
    let ((_, output), (_, guest_output)) = net.pipe(false, true);
    let ((_, input), _) = net.pipe(true, false);
    net.guest.theirs.send_data(guest_output, b"bye");
    net.guest.exchange();
    while let Some(event) = net.guest.ours.next_event() {
        if let Event::Data { stream, bytes } = event {
            net.relay.data((Peer::Guest, stream), &bytes);
        }
    }
    assert!(!net.relay.drained());
    net.relay.source_gone(Peer::Guest);
    net.settle();
    let expected = [Event::Data { stream: output, bytes: b"bye".to_vec() }, Event::Eof { stream: output }];
    assert_eq!(net.client().events(), expected);
    assert!(net.relay.drained());
    assert!(net.relay.pipes.contains_key(&(CLIENT, input)), "the client's own stream is the client's");
}

#[test]
fn bytes_for_no_pipe_are_nobodys() {
    let mut net = Net::new();
    let end = (Peer::Guest, StreamId::new(7));
    net.relay.data(end, b"x");
    net.relay.ended(end);
    net.relay.reset(end, ResetReason::Closed, &mut Peers(&mut net.guest, &mut net.client));
    net.relay.client_gone(7);
    assert!(net.relay.pipes.is_empty());
}
