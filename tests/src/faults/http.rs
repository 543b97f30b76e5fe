//! Requests as they came, and answers as they are to go out, right or wrong.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt;

/// Bytes of a request's body that are read.
const MAX_BODY: u64 = 1 << 20;

/// A request, and when and by which server it was heard.
#[derive(Debug, Clone)]
pub struct Request {
    /// The server's name.
    pub server: &'static str,
    /// Time since the log was begun.
    pub at: Duration,
    /// `GET`, `HEAD` or `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request; nothing if the client sends no more or something else than HTTP.
    pub fn read(
        server: &'static str,
        stream: &mut BufReader<impl Read>,
        now: impl Fn() -> Duration,
    ) -> Option<Self> {
        let first = line(stream)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let at = now();
        let mut headers = Vec::new();
        loop {
            let text = line(stream)?;
            let Some((name, value)) = text.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { server, at, method, target, headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        stream.take(MAX_BODY.min(length)).read_to_end(&mut request.body).ok()?;
        Some(request)
    }

    /// Returns the value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the first byte that a Range header asks for.
    pub fn first_byte(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    stream.take(64 << 10).read_until(b'\n', &mut bytes).ok().filter(|&length| length > 0)?;
    String::from_utf8(bytes).ok().map(|text| text.trim_end().to_owned())
}

/// How an answer says how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Length {
    /// By Content-Length, and rightly.
    Honest,
    /// By Content-Length, with this text.
    Says(String),
    /// In chunks.
    Chunked,
    /// In chunks, of which the one after this many bytes has a length that is none.
    BadChunk(usize),
    /// By the end of the connection.
    Close,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Whole,
    /// After this many bytes of the body the connection is closed.
    Cut(usize),
    /// After this many bytes of the body nothing more comes.
    Stall(usize),
    /// After this many bytes of the body the connection is reset.
    Reset(usize),
    /// Never: after the body more comes for as long as the client takes it.
    Endless,
    /// Without even a status.
    Mute,
    /// The headers never end.
    EndlessHeaders,
    /// Informational answers never end.
    EndlessContinue,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It takes the next request.
    Keep,
    /// It ends in order.
    Close,
    /// It is reset.
    Reset,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// `HTTP/1.1` or something else.
    pub version: &'static str,
    /// The status code.
    pub status: u16,
    /// Headers but for Content-Length, Transfer-Encoding and Connection.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long it says that it is.
    pub length: Length,
    /// How it ends.
    pub end: End,
    /// So many bytes are sent, then so much time passes, and so on.
    pub pace: Option<(usize, Duration)>,
    /// Bytes to send instead of all that.
    pub raw: Option<Vec<u8>>,
}

impl Reply {
    /// Makes an answer that is whole.
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            version: "HTTP/1.1",
            status,
            headers: vec![("Content-Type".to_owned(), media_type.to_owned())],
            body: body.into(),
            length: Length::Honest,
            end: End::Whole,
            pace: None,
            raw: None,
        }
    }

    /// Sets a header, replacing others of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves a header out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    /// Writes the answer; `socket` is what lies below `to`.
    pub fn write(&self, to: &mut impl Write, socket: &TcpStream, is_head: bool) -> io::Result<After> {
        if let Some(bytes) = &self.raw {
            to.write_all(bytes)?;
            to.flush()?;
            return Ok(After::Close);
        }
        if self.end == End::Mute {
            return wait_for_client(socket);
        }
        if self.end == End::Reset(0) {
            return reset(socket);
        }
        if self.end == End::EndlessContinue {
            let some = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
            loop {
                to.write_all(some.as_bytes())?;
            }
        }
        to.write_all(self.head().as_bytes())?;
        if self.end == End::EndlessHeaders {
            loop {
                to.write_all(format!("X-Filler: {}\r\n", "a".repeat(4000)).as_bytes())?;
            }
        }
        to.write_all(b"\r\n")?;
        if is_head {
            to.flush()?;
            return Ok(After::Keep);
        }
        let stop = match self.end {
            End::Cut(at) | End::Stall(at) | End::Reset(at) => at.min(self.body.len()),
            _ => self.body.len(),
        };
        self.write_body(to, &self.body[..stop])?;
        to.flush()?;
        match self.end {
            End::Whole => {
                if self.length == Length::Chunked {
                    to.write_all(b"0\r\n\r\n")?;
                    to.flush()?;
                }
                let keep =
                    matches!(self.length, Length::Honest | Length::Chunked) && self.version == "HTTP/1.1";
                Ok(if keep { After::Keep } else { After::Close })
            }
            End::Stall(_) => wait_for_client(socket),
            End::Reset(_) => reset(socket),
            End::Endless => loop {
                self.write_body(to, &[b' '; 65_536])?;
            },
            End::Cut(_) | End::Mute | End::EndlessHeaders | End::EndlessContinue => Ok(After::Close),
        }
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} Answer\r\n", self.version, self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match &self.length {
            Length::Honest => head += &format!("Content-Length: {}\r\n", self.body.len()),
            Length::Says(text) => head += &format!("Content-Length: {text}\r\n"),
            Length::Chunked | Length::BadChunk(_) => head += "Transfer-Encoding: chunked\r\n",
            Length::Close => head += "Connection: close\r\n",
        }
        head
    }

    fn write_body(&self, to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let (piece, pause) = self.pace.unwrap_or((16 << 10, Duration::ZERO));
        let mut written = 0;
        for part in bytes.chunks(piece) {
            match self.length {
                Length::Chunked => {
                    write!(to, "{:x}\r\n", part.len())?;
                    to.write_all(part)?;
                    to.write_all(b"\r\n")?;
                }
                Length::BadChunk(at) if written >= at => to.write_all(b"zz\r\nno chunk\r\n")?,
                Length::BadChunk(_) => {
                    write!(to, "{:x}\r\n", part.len())?;
                    to.write_all(part)?;
                    to.write_all(b"\r\n")?;
                }
                _ => to.write_all(part)?,
            }
            written += part.len();
            if !pause.is_zero() {
                to.flush()?;
                thread::sleep(pause);
            }
        }
        Ok(())
    }
}

/// Waits until the client goes away or the server ends.
fn wait_for_client(mut socket: &TcpStream) -> io::Result<After> {
    let mut byte = [0];
    while socket.read(&mut byte)? > 0 {}
    Ok(After::Close)
}

/// Makes the end of the connection a reset, once all handles of the socket are closed.
fn reset(socket: &TcpStream) -> io::Result<After> {
    sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
    Ok(After::Reset)
}
