//! What goes wrong on a connection.

use crate::frame::{Direction, FrameError, StreamId};
use crate::message::MessageError;

/// What the peer sent breaks the protocol; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A header is wrong by itself.
    #[error("reading a frame header failed")]
    Frame(#[from] FrameError),
    /// A control frame holds no message.
    #[error("frame at byte {offset} holds no message")]
    Message {
        /// Bytes received before the frame.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: MessageError,
    },
    /// The first frame is not a hello, or a later one is.
    #[error("frame at byte {offset}: got {got}, expected {expected}")]
    Order {
        /// Bytes received before the frame.
        offset: u64,
        /// What may come here.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// A frame names a stream that was never opened.
    #[error("frame at byte {offset}: {kind} for stream {stream}, which was never opened")]
    UnknownStream {
        /// Bytes received before the frame.
        offset: u64,
        /// The frame's kind.
        kind: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// The peer opened a stream under a number that isn't its to use, or not the next.
    #[error("frame at byte {offset}: opens stream {got}, expected {parity} number above {above}")]
    StreamNumber {
        /// Bytes received before the frame.
        offset: u64,
        /// Which numbers are the peer's: an even or an odd one.
        parity: &'static str,
        /// The last one that it used.
        above: u32,
        /// The stream.
        got: StreamId,
    },
    /// The peer opened one stream too many.
    #[error("frame at byte {offset}: opens stream {stream}, but {limit} streams are open already")]
    TooManyStreams {
        /// Bytes received before the frame.
        offset: u64,
        /// The stream.
        stream: StreamId,
        /// How many are allowed.
        limit: usize,
    },
    /// The peer sent more than it was allowed.
    #[error("frame at byte {offset}: {got} bytes of data for stream {stream}, but {credit} are allowed")]
    CreditExceeded {
        /// Bytes received before the frame.
        offset: u64,
        /// The stream.
        stream: StreamId,
        /// How much it could send.
        credit: u32,
        /// How much it sent.
        got: u32,
    },
    /// The peer sent after its end of stream, or on a stream on which it never could.
    #[error("frame at byte {offset}: {kind} for stream {stream}, which the peer has ended")]
    Ended {
        /// Bytes received before the frame.
        offset: u64,
        /// The frame's kind.
        kind: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// A grant is zero, or adds up to more than a u32 holds.
    #[error("frame at byte {offset}: credit of {got} for stream {stream}, which has {credit}")]
    Credit {
        /// Bytes received before the frame.
        offset: u64,
        /// The stream.
        stream: StreamId,
        /// What the stream had.
        credit: u32,
        /// What was granted.
        got: u32,
    },
    /// The peer makes this side send, and does not read.
    #[error("the peer does not read: {waiting} bytes wait to be sent, {limit} are allowed")]
    NotReading {
        /// Bytes waiting.
        waiting: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// An earlier error ended the connection.
    #[error("the connection has failed before")]
    Failed,
}

/// A message can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The message is too long for a frame.
    #[error("control message has {got} bytes, {limit} are allowed")]
    TooLarge {
        /// Its length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// Too much is waiting to be sent.
    #[error("{waiting} bytes wait to be sent, {limit} are allowed")]
    Full {
        /// Bytes waiting, with this message.
        waiting: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// A stream can't be opened or accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// As many streams are open as are allowed.
    #[error("{limit} streams are open, which is the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// All numbers have been used.
    #[error("the connection has no stream number left")]
    Exhausted,
    /// The peer has not opened such a stream, or it has ended.
    #[error("stream {stream} is not open")]
    NotOpen {
        /// The stream.
        stream: StreamId,
    },
    /// The stream was accepted before, or was opened here.
    #[error("stream {stream} is in use")]
    InUse {
        /// The stream.
        stream: StreamId,
    },
    /// The stream was opened for another direction.
    #[error("stream {stream} was opened for {got:?}, expected {expected:?}")]
    Direction {
        /// The stream.
        stream: StreamId,
        /// What the acceptor wants.
        expected: Direction,
        /// What the opener declared, seen from the acceptor.
        got: Direction,
    },
}
