//! One side of a connection, as a state machine over bytes.
//!
//! ```text
//!  pipe ── receive(bytes) ──► next_event() ──► Message, Opened, Data, Eof, Reset, Credit
//!  pipe ◄─ output()/advance ◄─ send, open_stream, accept, send_data, send_eof, reset, consumed
//! ```
//!
//! A stream's life: one side opens it with a direction, then names it in a request; the other side accepts it.
//! Nobody may send before the receiver granted credit, which opening and accepting do. [`Connection::consumed`]
//! grants more as data is used up. Each direction ends with an end of stream; a reset ends both at once.
//! Frames that were under way when a stream ended are dropped; frames for a stream that never was are errors.
//!
//! What a hostile peer can make a side hold: one partial frame; data within the windows granted (4 MiB and a
//! floor of 16 KiB a stream by default); output up to its hard limit, after which receiving fails. The caller
//! drains events after each `receive`, and reads no more while [`Connection::is_congested`].

mod error;

pub use error::{ProtocolError, SendError, StreamError};

use crate::frame::{self, Direction, HEADER_LEN, Header, Kind, MAX_DATA, ResetReason, StreamId};
use crate::message::{Decoded, Message};
use crate::stream::Stream;
use std::collections::{BTreeMap, VecDeque};

/// Which side a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that sends requests; its streams have even numbers.
    Host,
    /// The side that answers them; its streams have odd numbers.
    Guest,
}

/// What a side allows; the peer need not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams at one time, of both sides together.
    pub streams: usize,
    /// Most bytes under way towards this side on one stream.
    pub window: u32,
    /// Bytes under way towards this side on all streams; later streams get a smaller window each.
    pub windows: u32,
    /// The window that a stream gets when the others hold all of `windows`.
    pub window_floor: u32,
    /// Bytes waiting to be sent above which no more data is taken; with twice as many the side is congested.
    pub output: usize,
    /// Bytes waiting to be sent that nothing may exceed.
    pub output_hard: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 256,
            window: 256 * 1024,
            windows: 4 * 1024 * 1024,
            window_floor: 16 * 1024,
            output: 256 * 1024,
            output_hard: 4 * 1024 * 1024,
        }
    }
}

/// What came from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control message.
    Message(Message),
    /// The peer opened a stream; it can send on it once it is accepted.
    Opened {
        /// The stream.
        stream: StreamId,
        /// Which way data will flow, seen from this side.
        direction: Direction,
    },
    /// Data; call [`Connection::consumed`] as it is used up.
    Data {
        /// The stream.
        stream: StreamId,
        /// 1 byte to 64 KiB.
        bytes: Vec<u8>,
    },
    /// The peer will send no more on this stream.
    Eof {
        /// The stream.
        stream: StreamId,
    },
    /// The peer gave the stream up; it is gone.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: ResetReason,
    },
    /// More can be sent on this stream.
    Credit {
        /// The stream.
        stream: StreamId,
    },
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    /// A frame of which not all bytes are there yet.
    partial: Vec<u8>,
    /// Bytes of complete frames received.
    received: u64,
    greeted: bool,
    failed: bool,
    /// Bytes to send, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    streams: BTreeMap<StreamId, Stream>,
    next_own: Option<u32>,
    last_peer: u32,
    events: VecDeque<Event>,
}

impl Connection {
    /// Makes a side that has neither sent nor received; the first thing to send is a hello.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            partial: Vec::new(),
            received: 0,
            greeted: false,
            failed: false,
            output: Vec::new(),
            sent: 0,
            streams: BTreeMap::new(),
            next_own: Some(if role == Role::Host { 2 } else { 1 }),
            last_peer: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes bytes from the pipe, split anyhow; take all events before the next call.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        if self.failed {
            return Err(ProtocolError::Failed);
        }
        let result = self.receive_frames(&mut bytes);
        self.failed = result.is_err();
        result
    }

    /// Returns the next thing that came from the peer.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Queues a control message.
    pub fn send(&mut self, message: &Message) -> Result<(), SendError> {
        let payload = message.encode();
        if payload.len() > frame::MAX_CONTROL {
            return Err(SendError::TooLarge { got: payload.len(), limit: frame::MAX_CONTROL });
        }
        let waiting = self.waiting() + HEADER_LEN + payload.len();
        if waiting > self.limits.output_hard {
            return Err(SendError::Full { waiting, limit: self.limits.output_hard });
        }
        self.queue(Kind::Control, StreamId::new(0), &payload);
        Ok(())
    }

    /// Opens a stream and, where this side receives, allows the peer a window of data.
    pub fn open_stream(&mut self, direction: Direction) -> Result<StreamId, StreamError> {
        if self.streams.len() >= self.limits.streams {
            return Err(StreamError::TooMany { limit: self.limits.streams });
        }
        let number = self.next_own.ok_or(StreamError::Exhausted)?;
        self.next_own = number.checked_add(2);
        let id = StreamId::new(number);
        let mut stream = Stream::new(direction, true);
        if direction.receives() {
            stream.grant_window(self.window_for_next());
        }
        self.queue(Kind::Open(direction), id, &stream.receive_credit.to_le_bytes());
        self.streams.insert(id, stream);
        Ok(id)
    }

    /// Takes a stream that the peer opened into use, for `direction` as seen from this side.
    pub fn accept(&mut self, stream: StreamId, direction: Direction) -> Result<(), StreamError> {
        let window = self.window_for_next();
        let Some(state) = self.streams.get_mut(&stream) else {
            return Err(StreamError::NotOpen { stream });
        };
        if state.accepted {
            return Err(StreamError::InUse { stream });
        }
        if state.direction != direction {
            return Err(StreamError::Direction { stream, expected: direction, got: state.direction });
        }
        state.accepted = true;
        // The peer may have ended its direction already, without sending anything.
        if state.receive_open {
            state.grant_window(window);
            self.queue(Kind::Credit, stream, &window.to_le_bytes());
        }
        self.forget_if_finished(stream);
        Ok(())
    }

    /// Returns whether this side may still send on a stream, be it only once the peer allows more.
    pub fn sends(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|state| state.send_open)
    }

    /// Returns how many bytes [`Connection::send_data`] would take now.
    pub fn sendable(&self, stream: StreamId) -> usize {
        let Some(state) = self.streams.get(&stream).filter(|state| state.send_open) else {
            return 0;
        };
        let credit = usize::try_from(state.send_credit).unwrap_or(usize::MAX);
        credit.min(self.limits.output.saturating_sub(self.waiting()))
    }

    /// Queues the first bytes of `bytes` and returns how many it took: no more than the peer allows and the
    /// output has room for, and none once the stream has ended.
    pub fn send_data(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        let count = self.sendable(stream).min(bytes.len());
        for chunk in bytes[..count].chunks(MAX_DATA) {
            self.queue(Kind::Data, stream, chunk);
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            // `sendable` is bounded by the credit, a u32.
            state.send_credit -= u32::try_from(count).unwrap_or(state.send_credit);
        }
        count
    }

    /// Ends this side's direction of a stream; does nothing where it has ended.
    pub fn send_eof(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream).filter(|state| state.send_open) {
            state.send_open = false;
            self.queue(Kind::Eof, stream, &[]);
            self.forget_if_finished(stream);
        }
    }

    /// Gives a stream up in both directions; does nothing where it has ended.
    pub fn reset(&mut self, stream: StreamId, reason: ResetReason) {
        if self.streams.remove(&stream).is_some() {
            self.queue(Kind::Reset, stream, &frame::reset_payload(reason));
        }
    }

    /// Says that `n` bytes of data from a stream are used up, so that the peer may send as many more.
    ///
    /// Call it for everything received, also after the end of stream: a stream counts until then.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        if let Some(credit) = state.consume(u32::try_from(n).unwrap_or(u32::MAX)) {
            self.queue(Kind::Credit, stream, &credit.to_le_bytes());
        }
        self.forget_if_finished(stream);
    }

    /// Returns the bytes to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Forgets the first `n` bytes of [`Connection::output`], which the pipe took.
    pub fn advance(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.output.len());
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        } else if self.sent >= self.limits.output {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Returns whether so much waits to be sent that the caller should send first and receive later.
    ///
    /// Data alone never gets there, so two sides that both send all they can still both receive; a peer that asks
    /// and does not read the answers does.
    pub fn is_congested(&self) -> bool {
        self.waiting() >= self.limits.output.saturating_mul(2)
    }

    fn waiting(&self) -> usize {
        self.output.len() - self.sent
    }

    fn queue(&mut self, kind: Kind, stream: StreamId, payload: &[u8]) {
        // Callers keep to the limits of a frame, which are far below a u32's.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.output.extend_from_slice(&Header { length, stream, kind }.encode());
        self.output.extend_from_slice(payload);
    }

    /// Returns a window that leaves something to the streams after it.
    fn window_for_next(&self) -> u32 {
        let held: u32 = self.streams.values().fold(0, |sum, stream| sum.saturating_add(stream.window));
        let share = self.limits.windows.saturating_sub(held) / 4;
        share.clamp(self.limits.window_floor.min(self.limits.window), self.limits.window)
    }

    fn forget_if_finished(&mut self, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(Stream::is_finished) {
            self.streams.remove(&stream);
        }
    }

    fn receive_frames(&mut self, bytes: &mut &[u8]) -> Result<(), ProtocolError> {
        if !self.partial.is_empty() {
            let mut partial = std::mem::take(&mut self.partial);
            let result = self.complete(&mut partial, bytes);
            // Keep the buffer, and what it holds of a frame that is still not complete.
            self.partial = partial;
            if !result? {
                return Ok(());
            }
        }
        while let Some(header) = bytes.first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header, self.received)?;
            let Some((payload, rest)) = bytes[HEADER_LEN..].split_at_checked(header.length as usize) else {
                break;
            };
            self.take_frame(header, payload)?;
            *bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Fills up the frame in `partial` from `bytes`; returns whether it was complete and is done.
    fn complete(&mut self, partial: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<bool, ProtocolError> {
        fill(partial, bytes, HEADER_LEN);
        let Some(header) = partial.first_chunk::<HEADER_LEN>() else {
            return Ok(false);
        };
        let header = Header::decode(header, self.received)?;
        let length = HEADER_LEN + header.length as usize;
        fill(partial, bytes, length);
        if partial.len() < length {
            return Ok(false);
        }
        self.take_frame(header, &partial[HEADER_LEN..])?;
        partial.clear();
        Ok(true)
    }

    fn take_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), ProtocolError> {
        let offset = self.received;
        let stream = header.stream;
        if !self.greeted && header.kind != Kind::Control {
            return Err(ProtocolError::Order { offset, expected: "a hello", got: header.kind.name() });
        }
        match header.kind {
            Kind::Control => self.take_message(offset, payload)?,
            Kind::Open(direction) => self.take_open(offset, stream, direction.reversed(), payload)?,
            Kind::Data => self.take_data(offset, stream, payload)?,
            Kind::Credit => self.take_credit(offset, stream, frame::credit_amount(payload))?,
            Kind::Eof => {
                if let Some(state) = self.live(offset, stream, "end-of-stream")? {
                    if !state.receive_open {
                        return Err(ProtocolError::Ended { offset, kind: "end-of-stream", stream });
                    }
                    state.receive_open = false;
                    self.events.push_back(Event::Eof { stream });
                    self.forget_if_finished(stream);
                }
            }
            Kind::Reset => {
                if self.live(offset, stream, "reset")?.is_some() {
                    self.streams.remove(&stream);
                    self.events.push_back(Event::Reset { stream, reason: frame::reset_reason(payload) });
                }
            }
        }
        self.received += (HEADER_LEN + payload.len()) as u64;
        if self.waiting() > self.limits.output_hard {
            let (waiting, limit) = (self.waiting(), self.limits.output_hard);
            return Err(ProtocolError::NotReading { waiting, limit });
        }
        Ok(())
    }

    fn take_message(&mut self, offset: u64, payload: &[u8]) -> Result<(), ProtocolError> {
        let decoded = Message::decode(payload).map_err(|source| ProtocolError::Message { offset, source })?;
        let is_hello = matches!(decoded, Decoded::Message(Message::Hello(_)));
        if is_hello == self.greeted {
            let (expected, got) =
                if is_hello { ("no second hello", "a hello") } else { ("a hello", "another message") };
            return Err(ProtocolError::Order { offset, expected, got });
        }
        self.greeted = true;
        match decoded {
            Decoded::Message(message) => self.events.push_back(Event::Message(message)),
            Decoded::Unsupported { id, failure } => {
                let payload = Message::Response { id, result: Err(failure) }.encode();
                self.queue(Kind::Control, StreamId::new(0), &payload);
            }
        }
        Ok(())
    }

    fn take_open(
        &mut self,
        offset: u64,
        stream: StreamId,
        direction: Direction,
        payload: &[u8],
    ) -> Result<(), ProtocolError> {
        let number = stream.get();
        if self.is_own(stream) || number <= self.last_peer {
            let parity = if self.role == Role::Host { "an odd" } else { "an even" };
            return Err(ProtocolError::StreamNumber { offset, parity, above: self.last_peer, got: stream });
        }
        if self.streams.len() >= self.limits.streams {
            return Err(ProtocolError::TooManyStreams { offset, stream, limit: self.limits.streams });
        }
        self.last_peer = number;
        let mut state = Stream::new(direction, false);
        state.send_credit = frame::credit_amount(payload);
        self.streams.insert(stream, state);
        self.events.push_back(Event::Opened { stream, direction });
        Ok(())
    }

    fn take_data(&mut self, offset: u64, stream: StreamId, payload: &[u8]) -> Result<(), ProtocolError> {
        let Some(state) = self.live(offset, stream, "data")? else {
            return Ok(());
        };
        if !state.receive_open {
            return Err(ProtocolError::Ended { offset, kind: "data", stream });
        }
        let got = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let Some(left) = state.receive_credit.checked_sub(got) else {
            return Err(ProtocolError::CreditExceeded { offset, stream, credit: state.receive_credit, got });
        };
        state.receive_credit = left;
        state.unconsumed += got;
        self.events.push_back(Event::Data { stream, bytes: payload.to_vec() });
        Ok(())
    }

    fn take_credit(&mut self, offset: u64, stream: StreamId, got: u32) -> Result<(), ProtocolError> {
        let Some(state) = self.live(offset, stream, "credit")? else {
            return Ok(());
        };
        let credit = state.send_credit;
        state.send_credit = match credit.checked_add(got) {
            Some(sum) if got > 0 => sum,
            _ => return Err(ProtocolError::Credit { offset, stream, credit, got }),
        };
        if state.send_open {
            self.events.push_back(Event::Credit { stream });
        }
        Ok(())
    }

    /// Returns a stream that is there, `None` for one that has ended, an error for one that never was.
    fn live(
        &mut self,
        offset: u64,
        stream: StreamId,
        kind: &'static str,
    ) -> Result<Option<&mut Stream>, ProtocolError> {
        let was = if self.is_own(stream) {
            self.next_own.is_none_or(|next| stream.get() < next)
        } else {
            stream.get() <= self.last_peer
        };
        if !was {
            return Err(ProtocolError::UnknownStream { offset, kind, stream });
        }
        Ok(self.streams.get_mut(&stream))
    }

    fn is_own(&self, stream: StreamId) -> bool {
        stream.get().is_multiple_of(2) == (self.role == Role::Host)
    }
}

/// Moves bytes from the front of `bytes` into `partial` until it has `length`.
fn fill(partial: &mut Vec<u8>, bytes: &mut &[u8], length: usize) {
    let missing = length.saturating_sub(partial.len()).min(bytes.len());
    let (head, rest) = bytes.split_at(missing);
    partial.extend_from_slice(head);
    *bytes = rest;
}

#[cfg(test)]
mod tests;
