//! Clients that join the streams of the main process, and hear how it ends.

use super::relay::Peer;
use super::*;

/// A client that waits for the main process to run.
pub(super) struct Joining {
    client: u32,
    request: u64,
    streams: Streams,
}

impl Supervisor {
    /// Has a client join a process, as soon as that runs.
    pub(super) fn join(&mut self, client: u32, request: u64, process: &str, streams: Streams) {
        let refusal = match (process == MAIN, self.main_exit, self.has_main) {
            (false, ..) => Some((FailureKind::Unsupported, "only the main process can be attached to")),
            (true, Some(_), _) => Some((FailureKind::Invalid, "the main process has ended")),
            (true, None, false) => Some((FailureKind::Invalid, "the VM has no main process, only services")),
            (true, None, true) => None,
        };
        if let Some((kind, message)) = refusal {
            let failure = Failure { kind, message: message.to_owned() };
            self.clients.tell(client, &Message::Response { id: request, result: Err(failure) });
            return;
        }
        self.joining.push(Joining { client, request, streams });
        if self.main.is_some() {
            self.let_join();
        }
    }

    /// Lets those join who wait for the main process, which runs now.
    pub(super) fn let_join(&mut self) {
        let Some(handle) = self.main else { return };
        for Joining { client, request, streams } in std::mem::take(&mut self.joining) {
            let result = match self.join_streams(client, streams) {
                Ok(()) => {
                    self.owners.entry(handle).or_default().push(client);
                    Ok(Reply::Started { handle, pid: self.main_pid })
                }
                Err(error) => Err(Failure { kind: FailureKind::Invalid, message: error.to_string() }),
            };
            self.clients.tell(client, &Message::Response { id: request, result });
        }
    }

    /// Tells those that the main process doesn't run who wait for it.
    pub(super) fn refuse_joining(&mut self, failure: &Failure) {
        for Joining { client, request, .. } in std::mem::take(&mut self.joining) {
            self.clients.tell(client, &Message::Response { id: request, result: Err(failure.clone()) });
        }
    }

    /// Forgets what a client that has gone was to hear.
    pub(super) fn leave(&mut self, client: u32) {
        self.joining.retain(|joining| joining.client != client);
        for owners in self.owners.values_mut() {
            owners.retain(|owner| *owner != client);
        }
    }

    fn join_streams(&mut self, client: u32, streams: Streams) -> Result<(), StreamError> {
        let Some(link) = self.clients.link(client) else { return Ok(()) };
        let main = self.main_streams;
        if let Some(theirs) = streams.stdin {
            link.wire.accept(theirs, Direction::Receive)?;
            match main.stdin {
                Some(guests) => self.relay.join_input((Peer::Client(client), theirs), (Peer::Guest, guests)),
                None => link.wire.reset(theirs, ResetReason::Refused),
            }
        }
        for (theirs, guests) in [(streams.stdout, main.stdout), (streams.stderr, main.stderr)] {
            let Some(theirs) = theirs else { continue };
            link.wire.accept(theirs, Direction::Send)?;
            let joins =
                |guests| self.relay.join_output((Peer::Guest, guests), (Peer::Client(client), theirs));
            if !guests.is_some_and(joins) {
                link.wire.send_eof(theirs);
            }
        }
        Ok(())
    }
}
