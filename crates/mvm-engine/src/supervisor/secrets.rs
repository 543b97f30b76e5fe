//! The secrets' way into the guest, before anything is started there: one after the other, each on a stream of its own.

use crate::secrets::Secret;
use mvm_wire::{Connection, Direction, Message, Request, SendError, StreamError, StreamId};
use std::collections::VecDeque;

/// Secrets that the guest doesn't have yet.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    waiting: VecDeque<Secret>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    request: u64,
    stream: StreamId,
    secret: Secret,
    sent: usize,
}

/// Says why a secret did not get into the guest.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A message doesn't fit.
    #[error("send a secret")]
    Send(#[from] SendError),
    /// No stream could be opened.
    #[error("open a stream for a secret")]
    Stream(#[from] StreamError),
    /// The guest did not take it.
    #[error("the guest refused secret {name}: {message}")]
    Refused {
        /// The secret.
        name: String,
        /// The guest's words.
        message: String,
    },
}

impl Delivery {
    /// Takes the secrets of a VM.
    pub fn new(secrets: Vec<Secret>) -> Self {
        Self { waiting: secrets.into(), under_way: None }
    }

    /// Begins with the next secret, as request `id`. Returns whether there is one.
    pub fn begin_next(&mut self, wire: &mut Connection, id: u64) -> Result<bool, DeliveryError> {
        let Some(secret) = self.waiting.pop_front() else { return Ok(false) };
        let stream = wire.open_stream(Direction::Send)?;
        let request = Request::Secret { name: secret.named.name.to_string(), stream };
        wire.send(&Message::Request { id, request })?;
        self.under_way = Some(UnderWay { request: id, stream, secret, sent: 0 });
        self.pump(wire);
        Ok(true)
    }

    /// Sends as much as the guest takes.
    pub fn pump(&mut self, wire: &mut Connection) {
        let Some(UnderWay { stream, secret, sent, .. }) = &mut self.under_way else { return };
        let bytes = secret.value.bytes();
        *sent += wire.send_data(*stream, &bytes[*sent..]);
        if *sent == bytes.len() {
            wire.send_eof(*stream);
        }
    }

    /// Takes the guest's answer to a request, if it is about the secret that is under way. Returns whether it was.
    pub fn answered(&mut self, id: u64, refusal: Option<&str>) -> Result<bool, DeliveryError> {
        let Some(under_way) = self.under_way.take_if(|under_way| under_way.request == id) else {
            return Ok(false);
        };
        match refusal {
            Some(message) => Err(DeliveryError::Refused {
                name: under_way.secret.named.name.to_string(),
                message: message.chars().take(1024).collect(),
            }),
            None => Ok(true),
        }
    }
}
