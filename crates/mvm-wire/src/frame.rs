//! Frames: a 12-byte header and a payload.
//!
//! ```text
//! offset size field
//!      0    4 length of the payload, u32 little endian
//!      4    4 stream, u32 little endian (0 for control)
//!      8    1 kind: 1 control, 2 open, 3 data, 4 credit, 5 end of stream, 6 reset
//!      9    1 flags: the direction for open, else 0
//!     10    2 reserved, 0
//! ```
//!
//! | kind | payload |
//! |---|---|
//! | control | one JSON message, 2 bytes to 256 KiB |
//! | open | u32 little endian: the bytes that the peer may send on this stream at once |
//! | data | 1 byte to 64 KiB |
//! | credit | u32 little endian above 0: how many more bytes the peer may send |
//! | end of stream | none |
//! | reset | one byte, a [`ResetReason`] |

use serde::{Deserialize, Serialize};

/// Length in bytes of a frame's header.
pub const HEADER_LEN: usize = 12;
/// Largest payload in bytes of a data frame.
pub const MAX_DATA: usize = 64 * 1024;
/// Largest payload in bytes of a control frame.
pub const MAX_CONTROL: usize = 256 * 1024;

/// The number of a stream within one connection: even when the host opened it, odd when the guest did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(u32);

impl StreamId {
    /// Makes a stream number from its wire form; whether such a stream exists is the connection's to say.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the wire form.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which way data flows on a stream, as seen from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This side only sends.
    Send,
    /// This side only receives.
    Receive,
    /// Both sides send.
    Both,
}

impl Direction {
    /// Returns the same flow as seen from the other side.
    pub const fn reversed(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
            Self::Both => Self::Both,
        }
    }

    /// Returns whether this side sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }

    /// Returns whether this side receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    const fn flags(self) -> u8 {
        match self {
            Self::Send => 1,
            Self::Receive => 2,
            Self::Both => 3,
        }
    }

    const fn from_flags(flags: u8) -> Option<Self> {
        match flags {
            1 => Some(Self::Send),
            2 => Some(Self::Receive),
            3 => Some(Self::Both),
            _ => None,
        }
    }
}

/// Why a side gave a stream up before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// Nobody reads or writes the stream any more, for instance a process closed its standard input.
    Closed,
    /// The side doesn't serve such a stream.
    Refused,
    /// Reading or writing what is behind the stream failed.
    Failed,
    /// A reason that this version doesn't know.
    Unknown(u8),
}

impl ResetReason {
    const fn code(self) -> u8 {
        match self {
            Self::Closed => 1,
            Self::Refused => 2,
            Self::Failed => 3,
            Self::Unknown(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Closed,
            2 => Self::Refused,
            3 => Self::Failed,
            other => Self::Unknown(other),
        }
    }
}

/// The kind of a frame, with what its header and a short payload carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Control,
    Open(Direction),
    Data,
    Credit,
    Eof,
    Reset,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Open(_) => 2,
            Self::Data => 3,
            Self::Credit => 4,
            Self::Eof => 5,
            Self::Reset => 6,
        }
    }

    /// Smallest and largest payload.
    const fn lengths(self) -> (u32, u32) {
        match self {
            Self::Control => (2, MAX_CONTROL as u32),
            Self::Open(_) | Self::Credit => (4, 4),
            Self::Data => (1, MAX_DATA as u32),
            Self::Eof => (0, 0),
            Self::Reset => (1, 1),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Open(_) => "open",
            Self::Data => "data",
            Self::Credit => "credit",
            Self::Eof => "end-of-stream",
            Self::Reset => "reset",
        }
    }
}

/// A header that was checked by itself; the stream is not yet looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: u32,
    pub(crate) stream: StreamId,
    pub(crate) kind: Kind,
}

/// A header that no peer following the protocol sends; `offset` counts the bytes received before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The kind byte is none of the known ones.
    #[error("frame at byte {offset}: kind is {got}, expected 1 to 6")]
    Kind {
        /// Bytes received before the frame.
        offset: u64,
        /// The kind byte.
        got: u8,
    },
    /// The flags don't belong to the kind.
    #[error("frame at byte {offset}: flags of a {kind} frame are {got:#04x}, expected {expected}")]
    Flags {
        /// Bytes received before the frame.
        offset: u64,
        /// The frame's kind.
        kind: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// The flags byte.
        got: u8,
    },
    /// The reserved bytes are not zero.
    #[error("frame at byte {offset}: reserved bytes are {got:#06x}, expected 0")]
    Reserved {
        /// Bytes received before the frame.
        offset: u64,
        /// The reserved field.
        got: u16,
    },
    /// The payload is too short or too long for the kind.
    #[error("frame at byte {offset}: length of a {kind} frame is {got}, expected {min} to {max}")]
    Length {
        /// Bytes received before the frame.
        offset: u64,
        /// The frame's kind.
        kind: &'static str,
        /// Smallest length allowed.
        min: u32,
        /// Largest length allowed.
        max: u32,
        /// The length field.
        got: u32,
    },
    /// A control frame names a stream, or another frame names none.
    #[error("frame at byte {offset}: stream of a {kind} frame is {got}, expected {expected}")]
    Stream {
        /// Bytes received before the frame.
        offset: u64,
        /// The frame's kind.
        kind: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// The stream field.
        got: StreamId,
    },
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stream.0.to_le_bytes());
        bytes[8] = self.kind.code();
        if let Kind::Open(direction) = self.kind {
            bytes[9] = direction.flags();
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], offset: u64) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags, r0, r1] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let stream = StreamId(u32::from_le_bytes([s0, s1, s2, s3]));
        let reserved = u16::from_le_bytes([r0, r1]);

        let kind = match kind {
            1 => Kind::Control,
            2 => match Direction::from_flags(flags) {
                Some(direction) => Kind::Open(direction),
                None => {
                    let (kind, expected) = ("open", "a direction, 1 to 3");
                    return Err(FrameError::Flags { offset, kind, expected, got: flags });
                }
            },
            3 => Kind::Data,
            4 => Kind::Credit,
            5 => Kind::Eof,
            6 => Kind::Reset,
            got => return Err(FrameError::Kind { offset, got }),
        };
        let name = kind.name();
        if flags != 0 && !matches!(kind, Kind::Open(_)) {
            return Err(FrameError::Flags { offset, kind: name, expected: "0", got: flags });
        }
        if reserved != 0 {
            return Err(FrameError::Reserved { offset, got: reserved });
        }
        let (min, max) = kind.lengths();
        if !(min..=max).contains(&length) {
            return Err(FrameError::Length { offset, kind: name, min, max, got: length });
        }
        if (kind == Kind::Control) != (stream.0 == 0) {
            let expected = if kind == Kind::Control { "0" } else { "above 0" };
            return Err(FrameError::Stream { offset, kind: name, expected, got: stream });
        }
        Ok(Self { length, stream, kind })
    }
}

/// Returns the payload of a reset frame.
pub(crate) const fn reset_payload(reason: ResetReason) -> [u8; 1] {
    [reason.code()]
}

/// Reads the payload of a reset frame.
pub(crate) fn reset_reason(payload: &[u8]) -> ResetReason {
    ResetReason::from_code(payload.first().copied().unwrap_or(0))
}

/// Reads the payload of an open or credit frame, whose length the header check has established.
pub(crate) fn credit_amount(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
