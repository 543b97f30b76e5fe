//! A web server on loopback for tests: one thread, one request a connection, ends when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub host: String,
    pub authorization: Option<String>,
    /// The headers Range and If-Range.
    pub range: (Option<String>, Option<String>),
    pub body: String,
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

pub enum Body {
    Bytes(Vec<u8>),
    /// Fewer bytes than the header says, then the end of the connection.
    Announced(usize, Vec<u8>),
    /// Fewer bytes than the header says, then silence.
    Stalled(usize, Vec<u8>),
    /// Bytes of unannounced length until nobody wants them.
    Endless,
    /// Nothing, not even a status, for as long as the client waits.
    Silence,
}

impl Reply {
    pub fn new(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        Self { status, headers, body: Body::Bytes(body.into()) }
    }
}

pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, log) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // A client that goes away is no concern of the server.
                serve(stream.unwrap(), &answer, &log).unwrap_or_default();
            }
        });
        Self { address, stop, requests, thread: Some(thread) }
    }

    /// Returns host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread up; it may be gone already.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(&Request) -> Reply,
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let mut request = Request {
        method,
        path,
        host: String::new(),
        authorization: None,
        range: (None, None),
        body: String::new(),
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "host" => request.host = value.to_owned(),
            "authorization" => request.authorization = Some(value.to_owned()),
            "range" => request.range.0 = Some(value.to_owned()),
            "if-range" => request.range.1 = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    reader.by_ref().take(length).read_to_string(&mut request.body)?;
    log.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} Reply\r\nConnection: close\r\n", reply.status);
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    match reply.body {
        Body::Bytes(bytes) => {
            send(&mut stream, &format!("{head}Content-Length: {}\r\n\r\n", bytes.len()), &bytes)
        }
        Body::Announced(length, bytes) => {
            send(&mut stream, &format!("{head}Content-Length: {length}\r\n\r\n"), &bytes)
        }
        Body::Stalled(length, bytes) => {
            send(&mut stream, &format!("{head}Content-Length: {length}\r\n\r\n"), &bytes)?;
            reader.read(&mut [0]).map(|_| ())
        }
        Body::Endless => {
            send(&mut stream, &format!("{head}\r\n"), b"")?;
            loop {
                stream.write_all(&[b' '; 65_536])?;
            }
        }
        Body::Silence => reader.read(&mut [0]).map(|_| ()),
    }
}

fn send(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
