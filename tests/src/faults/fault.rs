//! Ways to spoil an answer, and when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::http::{End, Length, Reply, Request};

/// Which requests are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Every one.
    Any,
    /// The base of the interface, `/v2/`.
    Base,
    /// A manifest or index by tag.
    Tag,
    /// A manifest or index by digest.
    Manifest,
    /// The config's blob.
    Config,
    /// A layer's blob, by its place from 0.
    Layer(usize),
    /// A blob in storage.
    Storage,
    /// A token.
    Token,
}

/// What is done to an answer.
pub type Fault = Box<dyn Fn(&Request, Reply) -> Reply + Send + Sync>;

/// A fault, and the requests that meet it.
pub struct Rule {
    target: Target,
    skip: usize,
    times: usize,
    met: AtomicUsize,
    fault: Fault,
}

impl Rule {
    /// Spoils every answer to the target.
    pub fn always(target: Target, fault: Fault) -> Self {
        Self { target, skip: 0, times: usize::MAX, met: AtomicUsize::new(0), fault }
    }

    /// Spoils the first answers to the target.
    pub fn times(target: Target, times: usize, fault: Fault) -> Self {
        Self { times, ..Self::always(target, fault) }
    }

    /// Spoils the first answer to the target.
    pub fn once(target: Target, fault: Fault) -> Self {
        Self::times(target, 1, fault)
    }

    /// Leaves the first answers that it would spoil as they are.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Spoils the answer if its turn has come.
    pub(super) fn apply(&self, target: Target, request: &Request, reply: Reply) -> Reply {
        if self.target != Target::Any && self.target != target {
            return reply;
        }
        let met = self.met.fetch_add(1, Ordering::SeqCst);
        if met < self.skip || met - self.skip >= self.times {
            return reply;
        }
        (self.fault)(request, reply)
    }
}

/// Answers with this status and says nothing more.
pub fn status(status: u16) -> Fault {
    Box::new(move |_, _| Reply::new(status, "text/plain", ""))
}

/// Answers with this status and a Retry-After header.
pub fn busy(status: u16, retry_after: &'static str) -> Fault {
    Box::new(move |_, _| Reply::new(status, "text/plain", "").with("Retry-After", retry_after))
}

/// Leads elsewhere.
pub fn redirect(status: u16, location: impl Into<String>) -> Fault {
    let location = location.into();
    Box::new(move |_, _| Reply::new(status, "text/plain", "").with("Location", location.as_str()))
}

/// Gives another body.
pub fn body(bytes: impl Into<Vec<u8>>) -> Fault {
    let bytes = bytes.into();
    Box::new(move |_, reply| Reply { body: bytes.clone(), ..reply })
}

/// Changes the body.
pub fn change(change: fn(&mut Vec<u8>)) -> Fault {
    Box::new(move |_, mut reply| {
        change(&mut reply.body);
        reply
    })
}

/// Ends in this way.
pub fn end(end: End) -> Fault {
    Box::new(move |_, reply| Reply { end, ..reply })
}

/// Says its length in this way.
pub fn length(length: Length) -> Fault {
    Box::new(move |_, reply| Reply { length: length.clone(), ..reply })
}

/// Says this Content-Length.
pub fn says(text: impl Into<String>) -> Fault {
    length(Length::Says(text.into()))
}

/// Sends so many bytes, then waits, and so on.
pub fn slow(bytes: usize, pause: Duration) -> Fault {
    Box::new(move |_, reply| Reply { pace: Some((bytes, pause)), ..reply })
}

/// Sets a header.
pub fn header(name: &'static str, value: impl Into<String>) -> Fault {
    let value = value.into();
    Box::new(move |_, reply| reply.with(name, value.as_str()))
}

/// Leaves a header out.
pub fn without(name: &'static str) -> Fault {
    Box::new(move |_, reply| reply.without(name))
}

/// Sends these bytes instead of an answer.
pub fn raw(bytes: impl Into<Vec<u8>>) -> Fault {
    let bytes = bytes.into();
    Box::new(move |_, reply| Reply { raw: Some(bytes.clone()), ..reply })
}

/// Answers with a body that never ends.
pub fn endless(status: u16, media_type: &'static str, length: Length) -> Fault {
    Box::new(move |_, _| Reply {
        length: length.clone(),
        end: End::Endless,
        ..Reply::new(status, media_type, "")
    })
}

/// Does one after the other.
pub fn both(first: Fault, second: Fault) -> Fault {
    Box::new(move |request, reply| second(request, first(request, reply)))
}
