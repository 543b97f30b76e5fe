//! Messages from and to the payload of a control frame.

use super::{Failure, FailureKind, Message};
use serde::Deserialize;

/// A control frame that holds no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The payload is no JSON, or no message that this version knows.
    #[error("parsing a control message failed")]
    Parse(#[source] serde_json::Error),
}

/// What a control frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A message.
    Message(Message),
    /// A request that this version doesn't know, and the response that it gets.
    Unsupported {
        /// The request's number.
        id: u64,
        /// The answer.
        failure: Failure,
    },
}

/// The envelope of a request whose body is not known.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    id: u64,
    request: serde_json::Value,
}

impl Message {
    /// Parses the payload of a control frame.
    pub fn decode(payload: &[u8]) -> Result<Decoded, MessageError> {
        let error = match serde_json::from_slice(payload) {
            Ok(message) => return Ok(Decoded::Message(message)),
            Err(error) => error,
        };
        match serde_json::from_slice::<Envelope>(payload) {
            Ok(envelope) if envelope.kind == "request" => {
                let op = envelope.request.get("op").and_then(|op| op.as_str()).unwrap_or("(none)");
                let op: String = op.chars().take(64).collect();
                // The parser's words may quote what was sent.
                let reason: String = error.to_string().chars().take(256).collect();
                let message = format!("request {op:?} is not supported: {reason}");
                let failure = Failure { kind: FailureKind::Unsupported, message };
                Ok(Decoded::Unsupported { id: envelope.id, failure })
            }
            Ok(_) | Err(_) => Err(MessageError::Parse(error)),
        }
    }

    /// Returns the payload of a control frame.
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and structures with string keys: serialising them into memory has no way to fail.
        serde_json::to_vec(self).expect("a message is plain data")
    }
}
