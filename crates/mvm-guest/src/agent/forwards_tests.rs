use super::*;
use mvm_wire::{Event, Hello, Limits, Message, Role};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

/// A host and a guest that have greeted each other, and the guest's forwards.
struct Pair {
    host: Connection,
    guest: Connection,
    forwards: Forwards,
    /// What the host heard while a connection was made.
    heard: Vec<Event>,
}

fn reset(stream: StreamId) -> Event {
    Event::Reset { stream, reason: ResetReason::Refused }
}

impl Pair {
    fn new() -> Self {
        let side = |role| {
            let mut side = Connection::new(role, Limits::default());
            side.send(&Message::Hello(Hello::current("test"))).unwrap();
            side
        };
        let (host, guest) = (side(Role::Host), side(Role::Guest));
        let mut pair = Self { host, guest, forwards: Forwards::new(Vec::new()), heard: Vec::new() };
        pair.exchange();
        pair
    }

    /// Passes everything on, both ways, and returns what the host hears.
    fn exchange(&mut self) -> Vec<Event> {
        for event in flow(&mut self.host, &mut self.guest) {
            match event {
                Event::Data { stream, bytes } => {
                    self.forwards.take_data(&mut self.guest, stream, &bytes);
                }
                Event::Eof { stream } => self.forwards.take_eof(stream),
                Event::Reset { stream, .. } => self.forwards.take_reset(stream),
                _ => {}
            }
        }
        self.forwards.pump(&mut self.guest);
        flow(&mut self.guest, &mut self.host)
    }

    /// Connects to a port and returns the stream and what came of it.
    fn connect(&mut self, port: u16, transport: Transport) -> (StreamId, Result<Reply, FailureKind>) {
        let stream = self.host.open_stream(Direction::Both).unwrap();
        self.exchange();
        self.forwards.connect(&mut self.guest, 7, (port, transport, stream));
        loop {
            if let Some((request, result)) = self.forwards.take_answers().pop() {
                assert_eq!(request, 7);
                return (stream, result.map_err(|failure| failure.kind));
            }
            self.heard = self.exchange();
        }
    }

    /// Waits until the host has heard as much data, and returns it with whether it ended.
    fn hear(&mut self, stream: StreamId, length: usize) -> (Vec<u8>, bool) {
        let (mut heard, mut ended) = (Vec::new(), false);
        while !ended && heard.len() < length {
            for event in self.exchange() {
                match event {
                    Event::Data { bytes, .. } => {
                        self.host.consumed(stream, bytes.len());
                        heard.extend(bytes);
                    }
                    Event::Eof { .. } => ended = true,
                    Event::Reset { reason, .. } => panic!("reset: {reason:?}"),
                    _ => {}
                }
            }
        }
        (heard, ended)
    }
}

fn flow(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let bytes = from.output().to_vec();
    from.advance(bytes.len());
    to.receive(&bytes).unwrap();
    std::iter::from_fn(|| to.next_event()).collect()
}

/// Serves one connection on a free port.
fn serve(act: impl FnOnce(TcpStream) + Send + 'static) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, std::thread::spawn(move || act(listener.accept().unwrap().0)))
}

#[test]
fn bytes_go_both_ways_and_ends_one_way_at_a_time() {
    const LENGTH: usize = 1_000_000;
    let (port, server) = serve(|mut client| {
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, b"question");
        // More than a window.
        client.write_all(&vec![7; LENGTH]).unwrap();
    });
    let mut pair = Pair::new();
    let (stream, connected) = pair.connect(port, Transport::Tcp);
    assert_eq!(connected, Ok(Reply::Done {}));
    pair.exchange();
    assert_eq!(pair.host.send_data(stream, b"question"), 8);
    pair.host.send_eof(stream);
    let (heard, _) = pair.hear(stream, LENGTH);
    assert_eq!(heard, vec![7; LENGTH]);
    assert_eq!(pair.hear(stream, 1), (vec![], true));
    server.join().unwrap();
    pair.exchange();
    assert!(pair.forwards.forwards.is_empty(), "nothing is kept of it");
}

#[test]
fn a_port_that_nobody_serves() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut pair = Pair::new();
    let (stream, connected) = pair.connect(free, Transport::Tcp);
    assert_eq!(connected, Err(FailureKind::NotFound));
    let heard = flow(&mut pair.guest, &mut pair.host);
    let told = heard.iter().chain(&pair.heard).any(|event| *event == reset(stream));
    assert!(told, "{heard:?} {:?}", pair.heard);
    assert!(pair.forwards.forwards.is_empty());
    assert_eq!(pair.connect(0, Transport::Tcp).1, Err(FailureKind::Invalid));
}

#[test]
fn a_service_on_the_other_loopback_is_found() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mut pair = Pair::new();
    assert_eq!(pair.connect(port, Transport::Tcp).1, Ok(Reply::Done {}));
}

#[test]
fn a_host_that_gives_up_resets_the_connection() {
    let (port, server) = serve(|mut client| {
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
    let mut pair = Pair::new();
    let (stream, connected) = pair.connect(port, Transport::Tcp);
    assert_eq!(connected, Ok(Reply::Done {}));
    pair.exchange();
    pair.host.reset(stream, ResetReason::Closed);
    pair.exchange();
    server.join().unwrap();
    assert!(pair.forwards.forwards.is_empty());
}

/// A service that reads nothing holds its own stream up, and is held a window of.
#[test]
fn a_service_that_does_not_read_holds_a_window() {
    let (port, server) = serve(|client| {
        // Until the test is done with it.
        drop(client.peek(&mut [0; 1]));
        std::thread::park();
    });
    let mut pair = Pair::new();
    let (stream, _) = pair.connect(port, Transport::Tcp);
    pair.exchange();
    let piece = vec![7; 64 * 1024];
    let mut sent = 0;
    // The sockets' own buffers come first.
    for _ in 0..1000 {
        sent += pair.host.send_data(stream, &piece);
        pair.exchange();
    }
    assert_eq!(pair.host.sendable(stream), 0, "after {sent} bytes");
    assert!(pair.forwards.forwards[0].to_socket.len() <= 256 * 1024);
    server.thread().unpark();
    server.join().unwrap();
}

#[test]
fn datagrams_keep_their_bounds() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut pair = Pair::new();
    let (stream, connected) = pair.connect(port, Transport::Udp);
    assert_eq!(connected, Ok(Reply::Done {}));
    pair.exchange();
    let large = vec![9; 60_000];
    let framed =
        |datagram: &[u8]| [&u16::try_from(datagram.len()).unwrap().to_be_bytes()[..], datagram].concat();
    let all = [framed(b"one"), framed(b""), framed(&large)].concat();
    // In pieces that respect no bounds.
    for piece in all.chunks(1000) {
        assert_eq!(pair.host.send_data(stream, piece), piece.len());
        pair.exchange();
    }
    let mut buffer = vec![0; 65_536];
    for expected in [&b"one"[..], b"", &large] {
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected);
        server.send_to(&buffer[..length], from).unwrap();
    }
    assert_eq!(pair.hear(stream, all.len()), (all, false));
    pair.host.send_eof(stream);
    assert_eq!(pair.hear(stream, 1), (vec![], true));
    assert!(pair.forwards.forwards.is_empty());
}
