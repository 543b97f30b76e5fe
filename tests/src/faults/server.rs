//! A web server on loopback: one thread a connection; it ends when it is dropped.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{After, Reply, Request};

/// What all servers of a test have heard, in the order in which they did.
#[derive(Debug, Clone)]
pub struct Log {
    begun: Instant,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Default for Log {
    fn default() -> Self {
        Self { begun: Instant::now(), requests: Arc::default() }
    }
}

impl Log {
    /// Returns all requests so far.
    pub fn all(&self) -> Vec<Request> {
        locked(&self.requests).clone()
    }

    /// Returns the requests that one server has heard.
    pub fn of(&self, server: &str) -> Vec<Request> {
        self.all().into_iter().filter(|request| request.server == server).collect()
    }

    /// Returns the requests whose path ends with a text.
    pub fn to(&self, end: &str) -> Vec<Request> {
        self.all().into_iter().filter(|request| request.path().ends_with(end)).collect()
    }
}

/// What is below HTTP.
#[derive(Clone)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS with this server's certificate.
    Tls(Arc<ServerConfig>),
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    name: &'static str,
    transport: Transport,
    answer: Box<Answer>,
    log: Log,
    stop: AtomicBool,
    /// Every connection, so that those who wait on one are woken up in the end.
    sockets: Mutex<HashMap<u64, TcpStream>>,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a port of the system's choice; `name` stands in the log.
    pub fn start(
        name: &'static str,
        transport: Transport,
        log: &Log,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name,
            transport,
            answer: Box::new(answer),
            log: log.clone(),
            stop: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || accept(&listener, &serving)));
        Ok(Self { address, shared, accepting })
    }

    /// Returns host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes up the thread that accepts.
        drop(TcpStream::connect(self.address));
        self.shared.end_connections();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap_or_default();
        }
    }
}

impl Shared {
    fn end_connections(&self) {
        for (_, socket) in locked(&self.sockets).drain() {
            // The client may have ended it already.
            socket.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    for (number, socket) in (0..).zip(listener.incoming()) {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok((socket, kept)) = socket.and_then(|socket| Ok((socket.try_clone()?, socket))) else {
            continue;
        };
        locked(&shared.sockets).insert(number, kept);
        let shared = Arc::clone(shared);
        connections.push(thread::spawn(move || {
            // A client that goes away is no concern of the server.
            serve(socket, &shared, number).unwrap_or_default();
        }));
    }
    // Those that came while the server was dropped.
    shared.end_connections();
    connections.into_iter().for_each(|connection| connection.join().unwrap_or_default());
}

fn serve(socket: TcpStream, shared: &Shared, number: u64) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let kept = socket.try_clone()?;
    let stream: Box<dyn Stream> = match &shared.transport {
        Transport::Plain => Box::new(socket),
        Transport::Tls(config) => {
            let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, socket))
        }
    };
    let after = talk(stream, &kept, shared);
    if !matches!(after, Ok(After::Reset)) {
        // The client may have ended it already.
        kept.shutdown(Shutdown::Both).unwrap_or_default();
    }
    // A reset takes place when the last handle goes.
    locked(&shared.sockets).remove(&number);
    after.map(drop)
}

fn talk(stream: Box<dyn Stream>, socket: &TcpStream, shared: &Shared) -> io::Result<After> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(shared.name, &mut stream, || shared.log.begun.elapsed()) {
        locked(&shared.log.requests).push(request.clone());
        let reply = (shared.answer)(&request);
        let after = reply.write(stream.get_mut(), socket, request.method == "HEAD")?;
        if after != After::Keep {
            return Ok(after);
        }
    }
    Ok(After::Close)
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another test's answer leaves whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
