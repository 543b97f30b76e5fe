//! Single requests to a supervisor, or through it to the guest.

use super::{AttachError, ControlConnection, START, wait_until};
use mvm_wire::{Event, GuestEvent, Message, Reply, Request, Streams};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

impl ControlConnection {
    /// Asks for something and waits for the answer, `patience` long: a guest need not answer at all.
    pub fn ask(&mut self, request: Request, patience: Duration) -> Result<Reply, AttachError> {
        self.0.wire.send(&Message::Request { id: START, request })?;
        let until = Instant::now() + patience;
        self.hear(Some((until, patience)), |event| match event {
            Event::Message(Message::Response { id: START, result }) => {
                Some(result.map_err(AttachError::from))
            }
            Event::Message(Message::Event { event: GuestEvent::Ended { message } }) => {
                Some(Err(AttachError::Ended(message)))
            }
            _ => None,
        })?
    }

    /// Waits until the main process ends, and returns its exit code. `stop` is asked now and then whether to go on.
    pub fn wait_for_main(&mut self, process: &str, stop: &dyn Fn() -> bool) -> Result<u8, AttachError> {
        let (process, streams) = (process.to_owned(), Streams::default());
        self.0.wire.send(&Message::Request { id: START, request: Request::Attach { process, streams } })?;
        let mut handle = None;
        loop {
            let look = Duration::from_millis(200);
            let heard = self.hear(Some((Instant::now() + look, look)), |event| match event {
                Event::Message(Message::Response {
                    id: START,
                    result: Ok(Reply::Started { handle: main, .. }),
                }) => {
                    handle = Some(main);
                    None
                }
                Event::Message(Message::Response { id: START, result: Err(failure) }) => {
                    Some(Err(failure.into()))
                }
                Event::Message(Message::Event { event: GuestEvent::Exited { handle: main, status } })
                    if handle == Some(main) =>
                {
                    Some(Ok(status.exit_code()))
                }
                Event::Message(Message::Event { event: GuestEvent::Ended { message } }) => {
                    Some(Err(AttachError::Ended(message)))
                }
                _ => None,
            });
            match heard {
                Err(AttachError::NoAnswer { .. }) if stop() => return Err(AttachError::Interrupted),
                Err(AttachError::NoAnswer { .. }) => {}
                heard => return heard?,
            }
        }
    }

    /// Takes what comes until `take` has what it wants.
    fn hear<T>(
        &mut self,
        until: Option<(Instant, Duration)>,
        mut take: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, AttachError> {
        loop {
            self.0.send()?;
            while let Some(event) = self.0.wire.next_event() {
                if let Some(taken) = take(event) {
                    return Ok(taken);
                }
            }
            if self.0.closed() {
                return Err(AttachError::Gone);
            }
            let left = match until {
                None => None,
                Some((until, limit)) => match until.checked_duration_since(Instant::now()) {
                    None => return Err(AttachError::NoAnswer { limit }),
                    left => left,
                },
            };
            let flags = if self.0.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            wait_until(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), flags)], left)?;
            self.0.receive()?;
        }
    }
}
