//! The state of one stream: who may still send, and how much.

use crate::frame::Direction;

/// One stream of a connection, from this side's view.
///
/// Each direction is open until its end of stream, or from the start not at all. A stream is finished when
/// both directions are closed and everything received was consumed, but not before it was accepted: the request that it
/// is for may be read after its end.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the side that opened the stream declared, seen from here.
    pub(crate) direction: Direction,
    /// Whether this side opened or accepted it.
    pub(crate) accepted: bool,
    /// This side may still send.
    pub(crate) send_open: bool,
    /// The peer may still send.
    pub(crate) receive_open: bool,
    /// Bytes that this side may send.
    pub(crate) send_credit: u32,
    /// Bytes that the peer may send.
    pub(crate) receive_credit: u32,
    /// Bytes given to the caller and not consumed.
    pub(crate) unconsumed: u32,
    /// Bytes consumed and not yet granted again.
    pub(crate) to_grant: u32,
    /// Most bytes that the peer may have under way: `receive_credit + unconsumed + to_grant`.
    pub(crate) window: u32,
}

impl Stream {
    pub(crate) fn new(direction: Direction, accepted: bool) -> Self {
        Self {
            direction,
            accepted,
            send_open: direction.sends(),
            receive_open: direction.receives(),
            send_credit: 0,
            receive_credit: 0,
            unconsumed: 0,
            to_grant: 0,
            window: 0,
        }
    }

    /// Gives the peer its first credit.
    pub(crate) fn grant_window(&mut self, window: u32) {
        self.window = window;
        self.receive_credit = window;
    }

    /// Counts `n` bytes as consumed and returns the credit to send, once half a window has come together.
    pub(crate) fn consume(&mut self, n: u32) -> Option<u32> {
        debug_assert!(n <= self.unconsumed, "consumed {n} of {} bytes", self.unconsumed);
        let n = n.min(self.unconsumed);
        self.unconsumed -= n;
        self.to_grant += n;
        if !self.receive_open || self.to_grant < self.window.div_ceil(2) || self.to_grant == 0 {
            return None;
        }
        let credit = std::mem::take(&mut self.to_grant);
        self.receive_credit += credit;
        Some(credit)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.accepted && !self.send_open && !self.receive_open && self.unconsumed == 0
    }
}
