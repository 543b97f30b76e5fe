use super::*;
use mvm_wire::{Direction, Event, Hello, Limits, Message, Role};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

/// A host and a guest that have greeted each other.
struct Pair {
    host: Connection,
    guest: Connection,
}

impl Pair {
    fn new() -> Self {
        let side = |role| {
            let mut side = Connection::new(role, Limits::default());
            side.send(&Message::Hello(Hello::current("test"))).unwrap();
            side
        };
        let mut pair = Self { host: side(Role::Host), guest: side(Role::Guest) };
        pair.deliver_to_guest();
        pair.deliver_to_host();
        pair
    }

    fn open(&mut self, direction: Direction) -> StreamId {
        let stream = self.host.open_stream(direction).unwrap();
        self.deliver_to_guest();
        self.guest.accept(stream, direction.reversed()).unwrap();
        self.deliver_to_host();
        stream
    }

    fn deliver_to_guest(&mut self) -> Vec<Event> {
        flow(&mut self.host, &mut self.guest)
    }

    fn deliver_to_host(&mut self) -> Vec<Event> {
        flow(&mut self.guest, &mut self.host)
    }
}

fn flow(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let bytes = from.output().to_vec();
    from.advance(bytes.len());
    to.receive(&bytes).unwrap();
    std::iter::from_fn(|| to.next_event()).collect()
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

#[test]
fn output_is_moved_while_the_host_takes_it() {
    let mut pair = Pair::new();
    let stream = pair.open(Direction::Receive);
    let (read, written) = pipe();
    let source = Source { stream: Some(stream), fd: Rc::new(read) };
    assert_eq!(source.pump(&mut pair.guest), Pumped::Empty);

    let mut moved = 0;
    while source.is_ready(&pair.guest) {
        write(&written, &[7; 4096]).unwrap();
        assert_eq!(source.pump(&mut pair.guest), Pumped::Some);
        moved += 4096;
        pair.deliver_to_host();
    }
    assert_eq!(moved, 256 * 1024, "a window");
    write(&written, b"more").unwrap();
    assert_eq!(source.pump(&mut pair.guest), Pumped::Blocked);

    pair.host.consumed(stream, moved);
    pair.deliver_to_guest();
    assert_eq!(source.pump(&mut pair.guest), Pumped::Some);
    drop(written);
    assert_eq!(source.pump(&mut pair.guest), Pumped::End);
    let rest = [Event::Data { stream, bytes: b"more".to_vec() }, Event::Eof { stream }];
    assert_eq!(pair.deliver_to_host(), rest);
}

#[test]
fn output_that_nobody_wants_is_read_all_the_same() {
    let mut pair = Pair::new();
    let (read, written) = pipe();
    let source = Source { stream: None, fd: Rc::new(read) };
    for _ in 0..100 {
        write(&written, &[7; 32 * 1024]).unwrap();
        assert_eq!(source.pump(&mut pair.guest), Pumped::Some);
    }
    drop(written);
    assert_eq!(source.pump(&mut pair.guest), Pumped::End);
    assert_eq!(pair.deliver_to_host(), []);
}

/// Gives a sink what the host sends.
fn deliver(pair: &mut Pair, sink: &mut Sink) {
    for event in pair.deliver_to_guest() {
        match event {
            Event::Data { bytes, .. } => sink.pending.extend(bytes),
            Event::Eof { .. } => sink.eof = true,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn input_waits_for_the_process_and_ends_after_it() {
    let mut pair = Pair::new();
    let stream = pair.open(Direction::Send);
    let (read_end, write_end) = pipe();
    let mut sink =
        Sink { stream, fd: Rc::new(write_end), terminal: false, pending: VecDeque::new(), eof: false };
    let sent = pair.host.send_data(stream, &vec![9; 300_000]);
    assert_eq!(sent, 256 * 1024);
    pair.host.send_eof(stream);
    deliver(&mut pair, &mut sink);

    let mut taken = 0;
    let mut buffer = [0; 8192];
    while sink.pump(&mut pair.guest) {
        taken += read(&read_end, &mut buffer).unwrap();
    }
    drop(sink);
    while let Ok(count @ 1..) = read(&read_end, &mut buffer) {
        taken += count;
    }
    assert_eq!(taken, sent);
}

#[test]
fn input_that_a_process_does_not_want_is_given_up() {
    let mut pair = Pair::new();
    let stream = pair.open(Direction::Send);
    let (read_end, write_end) = pipe();
    drop(read_end);
    let mut sink =
        Sink { stream, fd: Rc::new(write_end), terminal: false, pending: VecDeque::new(), eof: false };
    pair.host.send_data(stream, b"ignored");
    deliver(&mut pair, &mut sink);
    assert!(!sink.pump(&mut pair.guest));
    assert_eq!(pair.deliver_to_host(), [Event::Reset { stream, reason: ResetReason::Closed }]);
}

#[test]
fn the_end_of_a_terminals_input_is_a_character() {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let Ok(master) = openpt(flags) else {
        println!("skipped: this machine has no /dev/ptmx");
        return;
    };
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut pair = Pair::new();
    let stream = pair.open(Direction::Send);
    let mut sink = Sink { stream, fd: Rc::new(master), terminal: true, pending: VecDeque::new(), eof: false };
    pair.host.send_data(stream, b"line\n");
    pair.host.send_eof(stream);
    deliver(&mut pair, &mut sink);
    assert!(!sink.pump(&mut pair.guest));
    let mut buffer = [0; 64];
    assert_eq!(read(&slave, &mut buffer), Ok(5));
    assert_eq!(read(&slave, &mut buffer), Ok(0), "the slave reads an end of file");
}
