//! A request as this crate makes them: what for, with which body, and whether it may be made again.

use super::RegistryError;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Length of one piece of an uploaded body, and how many of them wait for the network.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// What a request does to a repository, and so what a token for it must allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// It reads.
    #[default]
    Pull,
    /// It reads and writes; `from` is another repository of the same registry that it reads as well.
    Push { from: Option<String> },
}

impl Access {
    /// Returns the scopes of a token, as distribution's "Token Scope Documentation" writes them.
    pub(super) fn scopes(&self, repository: &str) -> Vec<String> {
        match self {
            Self::Pull => vec![format!("repository:{repository}:pull")],
            Self::Push { from } => std::iter::once(format!("repository:{repository}:pull,push"))
                .chain(from.iter().map(|from| format!("repository:{from}:pull")))
                .collect(),
        }
    }
}

/// Opens the bytes of an upload; it is called again when the upload has to be repeated.
pub(crate) type OpenBody = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync;

/// What a request carries.
#[derive(Clone, Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    Bytes(bytes::Bytes),
    /// Bytes that are read while they are sent; without a length they are sent in chunks.
    Reader {
        length: Option<u64>,
        open: Arc<OpenBody>,
    },
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) access: Access,
    /// Whether to make it twice does no harm.
    pub(super) repeatable: bool,
}

impl Call {
    /// Makes a request that only reads.
    pub(crate) fn get(url: Url, accept: &'static str) -> Self {
        let call = Self::new(Method::GET, url, Access::Pull);
        let call = call.header(ACCEPT, HeaderValue::from_static(accept));
        // Digests, lengths and ranges are those of the bytes as they are stored.
        call.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }

    /// Makes a request of any kind, as yet without headers and body.
    pub(crate) fn new(method: Method, url: Url, access: Access) -> Self {
        let repeatable = matches!(method, Method::GET | Method::HEAD);
        Self { method, url, headers: HeaderMap::new(), body: Body::Empty, access, repeatable }
    }

    /// Allows the request to be made again when it fails for a passing reason; one that only reads always is.
    pub(crate) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds the body.
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

/// What is known of a body that is being sent.
#[derive(Clone, Default)]
pub(super) struct Sending {
    /// Bytes that the connection has taken.
    sent: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Sending {
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns why the bytes to send could not be read, if that is what went wrong.
    pub(super) fn failure(&self) -> Option<RegistryError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map(RegistryError::Upload)
    }

    fn fail(&self, error: io::Error) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl Body {
    /// Opens the body for one attempt to send it.
    pub(super) fn open(&self, sending: &Sending) -> Result<reqwest::Body, RegistryError> {
        let (length, open) = match self {
            Self::Empty => return Ok(reqwest::Body::from("")),
            Self::Bytes(bytes) => return Ok(reqwest::Body::from(bytes.clone())),
            Self::Reader { length, open } => (*length, Arc::clone(open)),
        };
        let (to_send, pieces) = channel(PIECES);
        let state = sending.clone();
        let job = move || match open().and_then(|reader| pump(reader, &to_send)) {
            Ok(()) => {}
            Err(error) => {
                let kind = error.kind();
                state.fail(error);
                // A connection that is gone needs no news.
                to_send.blocking_send(Err(kind.into())).unwrap_or_default();
            }
        };
        std::thread::Builder::new().name("upload".to_owned()).spawn(job).map_err(RegistryError::Runtime)?;
        let sent = Arc::clone(&sending.sent);
        Ok(reqwest::Body::wrap(Pieces { pieces, left: length, sent }))
    }
}

/// Reads pieces until the end or until nobody takes them any more.
fn pump(mut reader: Box<dyn Read + Send>, pieces: &Sender<io::Result<bytes::Bytes>>) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() || pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

/// The receiving end of [`pump`].
struct Pieces {
    pieces: Receiver<io::Result<bytes::Bytes>>,
    left: Option<u64>,
    sent: Arc<AtomicU64>,
}

impl http_body::Body for Pieces {
    type Data = bytes::Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<bytes::Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| {
            let piece = piece.transpose();
            if let Ok(Some(piece)) = &piece {
                let length = piece.len() as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
                self.sent.fetch_add(length, Ordering::Relaxed);
            }
            piece.map(|piece| piece.map(http_body::Frame::data)).transpose()
        })
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
