//! What the guest says and what clients ask.

use super::relay::Peer;
use super::services::shorten;
use super::*;

/// Most requests that wait for the guest to boot.
const EARLY_LIMIT: usize = 64;
/// What somebody hears who wants the main process of a VM that is held.
const HELD: &str = "the VM is held without its main process";
/// Most of what a guest says in words, in bytes: it goes into messages to clients, which have a limit too.
const MAX_WORDS: usize = 4096;

impl Supervisor {
    /// Takes what the agent sent.
    pub(super) fn hear_guest(&mut self) -> Result<(), SupervisorError> {
        self.guest.receive()?;
        while let Some(event) = self.guest.wire.next_event() {
            match event {
                Event::Message(message) => self.guest_said(message)?,
                Event::Data { stream, bytes } => self.relay.data((Peer::Guest, stream), &bytes),
                Event::Eof { stream } => self.relay.ended((Peer::Guest, stream)),
                Event::Reset { stream, reason } => self.stream_reset((Peer::Guest, stream), reason),
                // The guest has no reason to open streams; nobody accepts them, so they carry nothing.
                Event::Opened { .. } | Event::Credit { .. } => {}
            }
        }
        Ok(())
    }

    fn guest_said(&mut self, message: Message) -> Result<(), SupervisorError> {
        match message {
            Message::Hello(mut theirs) => {
                shorten(&mut theirs.software, MAX_WORDS);
                let Message::Hello(ours) = hello() else { return Ok(()) };
                mvm_wire::negotiate(&ours, &theirs)?;
            }
            Message::Response { id, mut result } => {
                if let Err(failure) = &mut result {
                    shorten(&mut failure.message, MAX_WORDS);
                }
                self.guest_answered(id, result)?
            }
            Message::Event { event: GuestEvent::Ready { .. } } if !self.ready => self.bring_secrets()?,
            Message::Event { event: GuestEvent::Ready { .. } } => {}
            Message::Event { event: GuestEvent::Exited { handle, status } } => {
                self.process_exited(handle, status)?
            }
            Message::Event { event: GuestEvent::Failed { stage, mut message } } => {
                shorten(&mut message, MAX_WORDS);
                return Err(SupervisorError::GuestFailed { stage: stage.to_string(), message });
            }
            Message::Event { event: GuestEvent::Changed { services, health } } => {
                self.services_changed(services, health)
            }
            // Supervisors say this; a guest that does is beside the point.
            Message::Event { event: GuestEvent::Ended { .. } } => {}
            Message::Request { id, .. } => {
                let failure = Failure {
                    kind: FailureKind::Unsupported,
                    message: "the host takes no requests".to_owned(),
                };
                self.guest.wire.send(&Message::Response { id, result: Err(failure) })?;
            }
        }
        Ok(())
    }

    /// Brings the next secret; a guest that has all of them is ready.
    fn bring_secrets(&mut self) -> Result<(), SupervisorError> {
        if self.secrets.begin_next(&mut self.guest.wire, self.next_request)? {
            self.next_request += 1;
            return Ok(());
        }
        self.guest_ready()
    }

    fn guest_ready(&mut self) -> Result<(), SupervisorError> {
        self.ready = true;
        // Whoever was to start the main process may be gone already.
        self.deadline = Some((Instant::now() + START_LIMIT, "was not asked to run its command", START_LIMIT));
        self.state.phase = Phase::Running;
        self.write_state();
        self.tell(Happening::Ready {});
        if self.detached {
            match self.unattended {
                Some(how) => {
                    let streams = self.unattended_streams(how)?;
                    self.main_streams = streams;
                    self.ask_guest(Request::Start { process: MAIN.to_owned(), streams }, None, true)?;
                }
                None => self.announce()?,
            }
        }
        self.start_services()?;
        for (client, id, request) in std::mem::take(&mut self.early) {
            self.pass_on(client, id, request)?;
        }
        Ok(())
    }

    /// Tells whoever started a VM that it runs, and lets it run for as long as it likes.
    fn announce(&mut self) -> Result<(), SupervisorError> {
        if !self.stopping {
            self.deadline = None;
        }
        match self.announcement.take() {
            Some(announcement) => Ok(start::say(&announcement)?),
            None => Ok(()),
        }
    }

    /// Opens the streams of a main process that nobody is attached to: its output is logged, and its input, where it is to
    /// have one, stays open and empty.
    fn unattended_streams(&mut self, how: Unattended) -> Result<Streams, SupervisorError> {
        let Unattended { terminal, stdin } = how;
        Ok(Streams {
            stdin: if stdin { Some(self.open_stream(Direction::Send)?) } else { None },
            stdout: Some(self.open_log_stream(Origin::new(MAIN, main_stdout(terminal)))?),
            stderr: match terminal {
                true => None,
                false => Some(self.open_log_stream(Origin::new(MAIN, OutputStream::Stderr))?),
            },
            terminal: terminal.then_some(WindowSize { rows: 24, cols: 80 }),
        })
    }

    /// Opens a stream from the guest whose bytes go to the journal.
    pub(super) fn open_log_stream(&mut self, origin: Origin) -> Result<StreamId, SupervisorError> {
        let stream = self.open_stream(Direction::Receive)?;
        self.relay.log((Peer::Guest, stream), origin);
        Ok(stream)
    }

    fn open_stream(&mut self, direction: Direction) -> Result<StreamId, SupervisorError> {
        let opened = self.guest.wire.open_stream(direction);
        opened.map_err(|error| io_error("open a stream to the guest")(io::Error::other(error)))
    }

    fn guest_answered(&mut self, id: u64, result: Result<Reply, Failure>) -> Result<(), SupervisorError> {
        let refusal = result.as_ref().err().map(|failure| failure.message.as_str());
        if self.secrets.answered(id, refusal)? {
            return self.bring_secrets();
        }
        // An answer to nothing is the guest's own affair.
        let Some(pending) = self.pending.remove(&id) else { return Ok(()) };
        let client = pending.from.map(|(client, _)| client);
        self.services_answered(id, &result)?;
        match &result {
            Ok(Reply::Started { handle, pid }) => {
                self.owners.insert(*handle, client.into_iter().collect());
                if pending.starts_main {
                    (self.main, self.main_pid) = (Some(*handle), *pid);
                    self.announce()?;
                }
            }
            Err(failure) if pending.starts_main => {
                self.main_exit = Some(ExitStatus::Code(match failure.kind {
                    FailureKind::NotFound => 127,
                    FailureKind::NotExecutable => 126,
                    _ => 125,
                }));
                self.state.message = Some(failure.message.clone());
                self.refuse_joining(failure);
                if self.announcement.is_some() {
                    let (message, kind) = (failure.message.clone(), failure.kind.into());
                    self.announcement = Some(Handshake::Failed { message, kind, hint: None });
                }
            }
            Ok(_) | Err(_) => {}
        }
        if let Some((client, id)) = pending.from {
            self.clients.tell(client, &Message::Response { id, result });
        }
        self.let_join();
        if self.main_exit.is_some() && !self.stopping {
            // Nothing is left to run.
            self.stop(self.services.grace())?;
        }
        Ok(())
    }

    fn process_exited(&mut self, handle: u32, status: ExitStatus) -> Result<(), SupervisorError> {
        for client in self.owners.remove(&handle).unwrap_or_default() {
            self.clients.tell(client, &Message::Event { event: GuestEvent::Exited { handle, status } });
        }
        if self.main == Some(handle) {
            self.main_exit = Some(status);
            if !self.stopping {
                self.stop(self.services.grace())?;
            }
        }
        Ok(())
    }

    /// Takes what a client sent. A client that breaks the protocol is dropped; the VM goes on.
    pub(super) fn hear_client(&mut self, client: u32) -> Result<(), SupervisorError> {
        let Some(link) = self.clients.link(client) else { return Ok(()) };
        let alive = link.receive().unwrap_or(false);
        let mut events = Vec::new();
        while let Some(event) = link.wire.next_event() {
            events.push(event);
        }
        for event in events {
            match event {
                Event::Message(Message::Request { id, request }) if self.ready => {
                    self.pass_on(client, id, request)?;
                }
                Event::Message(Message::Request { id, request: Request::Stop { .. } }) => {
                    self.asked = true;
                    self.clients.tell(client, &Message::Response { id, result: Ok(Reply::Done {}) });
                    self.stop(Duration::ZERO)?
                }
                Event::Message(Message::Request { id, .. }) if self.early.len() >= EARLY_LIMIT => {
                    let message = "too many requests wait for the guest to boot".to_owned();
                    let failure = Failure { kind: FailureKind::Limit, message };
                    self.clients.tell(client, &Message::Response { id, result: Err(failure) });
                }
                Event::Message(Message::Request { id, request }) => self.early.push((client, id, request)),
                Event::Message(_) | Event::Opened { .. } | Event::Credit { .. } => {}
                Event::Data { stream, bytes } => self.relay.data((Peer::Client(client), stream), &bytes),
                Event::Eof { stream } => self.relay.ended((Peer::Client(client), stream)),
                Event::Reset { stream, reason } => self.stream_reset((Peer::Client(client), stream), reason),
            }
        }
        if alive { Ok(()) } else { self.client_gone(client) }
    }

    /// Takes what a client sends after the guest has ended: credit for what it has read, and its leaving.
    pub(super) fn hear_leaving(&mut self, client: u32) {
        let Some(link) = self.clients.link(client) else { return };
        let alive = link.receive().unwrap_or(false);
        while link.wire.next_event().is_some() {}
        if !alive {
            self.clients.remove(client);
            self.relay.client_gone(client);
        }
    }

    fn stream_reset(&mut self, end: relay::End, reason: ResetReason) {
        let mut peers = Peers { guest: &mut self.guest, clients: &mut self.clients };
        self.relay.reset(end, reason, &mut peers);
    }

    pub(super) fn client_gone(&mut self, client: u32) -> Result<(), SupervisorError> {
        self.clients.remove(client);
        self.relay.client_gone(client);
        self.leave(client);
        let (gone, early): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.early).into_iter().partition(|(from, ..)| *from == client);
        self.early = early;
        // Nobody else is going to start the main process of a VM that somebody wanted to watch.
        let was_to_start = gone.iter().any(|(.., request)| starts_main(request));
        // Nor is anybody else going to end one that is held.
        let held = self.holder == Some(client);
        if (was_to_start || held) && !self.stopping { self.stop(Duration::ZERO) } else { Ok(()) }
    }

    /// Has the VM run for as long as a client is there, without a main process.
    fn hold(&mut self, client: u32) -> Result<(), &'static str> {
        let starting = self.pending.values().any(|pending| pending.starts_main);
        if self.detached || starting || self.main.is_some() || self.main_exit.is_some() {
            return Err("the main process is started already");
        }
        if self.holder.is_some() {
            return Err(HELD);
        }
        self.holder = Some(client);
        self.has_main = false;
        self.refuse_joining(&Failure { kind: FailureKind::Invalid, message: HELD.to_owned() });
        if !self.stopping {
            self.deadline = None;
        }
        Ok(())
    }

    /// Passes a client's request on to the guest, its streams renumbered.
    fn pass_on(&mut self, client: u32, id: u64, request: Request) -> Result<(), SupervisorError> {
        let from = Some((client, id));
        let for_supervisor = matches!(
            request,
            Request::Stop { .. } | Request::Pause {} | Request::Resume {} | Request::Attach { .. }
        );
        if self.paused && !for_supervisor {
            let failure = Failure { kind: FailureKind::Invalid, message: "the VM is paused".to_owned() };
            self.clients.tell(client, &Message::Response { id, result: Err(failure) });
            return Ok(());
        }
        let refuse = |message: String| Message::Response {
            id,
            result: Err(Failure { kind: FailureKind::Invalid, message }),
        };
        match request {
            Request::Hold {} => {
                let response = match self.hold(client) {
                    Ok(()) => Message::Response { id, result: Ok(Reply::Done {}) },
                    Err(message) => refuse(message.to_owned()),
                };
                self.clients.tell(client, &response);
                Ok(())
            }
            Request::Start { process, streams } => {
                let is_main = process == MAIN;
                if is_main && self.holder.is_some() {
                    self.clients.tell(client, &refuse(HELD.to_owned()));
                    return Ok(());
                }
                let started = self.main.is_some() || self.main_exit.is_some();
                if is_main && (started || self.pending.values().any(|pending| pending.starts_main)) {
                    self.clients.tell(client, &refuse("the main process is started already".to_owned()));
                    return Ok(());
                }
                match self.connect_streams(client, streams, is_main) {
                    Ok(streams) => {
                        if is_main {
                            self.main_streams = streams;
                        }
                        self.ask_guest(Request::Start { process, streams }, from, is_main)
                    }
                    Err(message) => {
                        self.clients.tell(client, &refuse(message));
                        Ok(())
                    }
                }
            }
            Request::Exec { process, streams } => match self.connect_streams(client, streams, false) {
                Ok(streams) => self.ask_guest(Request::Exec { process, streams }, from, false),
                Err(message) => {
                    self.clients.tell(client, &refuse(message));
                    Ok(())
                }
            },
            Request::Stop { grace_ms } => {
                self.asked = true;
                self.clients.tell(client, &Message::Response { id, result: Ok(Reply::Done {}) });
                self.stop(Duration::from_millis(grace_ms))
            }
            Request::Pack { path, follow, stream } => {
                let streams = Streams { stdout: Some(stream), ..Streams::default() };
                self.pass_on_with(client, id, streams, |stream| Request::Pack { path, follow, stream })
            }
            Request::Nar { paths, stream } => {
                let streams = Streams { stdout: Some(stream), ..Streams::default() };
                self.pass_on_with(client, id, streams, |stream| Request::Nar { paths, stream })
            }
            Request::Unpack { path, owners, stream } => {
                let streams = Streams { stdin: Some(stream), ..Streams::default() };
                self.pass_on_with(client, id, streams, |stream| Request::Unpack { path, owners, stream })
            }
            other @ (Request::Signal { .. }
            | Request::Resize { .. }
            | Request::Status {}
            | Request::Services {}
            | Request::Stat { .. }) => self.ask_guest(other, from, false),
            Request::Attach { process, streams } => {
                self.join(client, id, &process, streams);
                Ok(())
            }
            Request::Pause {} => self.pause_or_resume(client, id, true),
            Request::Resume {} => self.pause_or_resume(client, id, false),
            Request::Connect { port, transport, stream } => match self.connect_both_ways(client, stream) {
                Ok(Some(stream)) => self.ask_guest(Request::Connect { port, transport, stream }, from, false),
                Ok(None) => Ok(()),
                Err(message) => {
                    self.clients.tell(client, &refuse(message));
                    Ok(())
                }
            },
            Request::Secret { .. } | Request::StartServices { .. } | Request::SetTime { .. } => {
                let message = "this supervisor doesn't pass such a request on".to_owned();
                let failure = Failure { kind: FailureKind::Unsupported, message };
                self.clients.tell(client, &Message::Response { id, result: Err(failure) });
                Ok(())
            }
        }
    }

    /// Passes a request with one stream on to the guest, once its stream has a counterpart there.
    fn pass_on_with(
        &mut self,
        client: u32,
        id: u64,
        streams: Streams,
        request: impl FnOnce(StreamId) -> Request,
    ) -> Result<(), SupervisorError> {
        match self.connect_one(client, streams) {
            Ok(stream) => self.ask_guest(request(stream), Some((client, id)), false),
            Err(message) => {
                let failure = Failure { kind: FailureKind::Invalid, message };
                self.clients.tell(client, &Message::Response { id, result: Err(failure) });
                Ok(())
            }
        }
    }

    /// Accepts a client's stream, opens the guest's counterpart and lays a pipe each way.
    fn connect_both_ways(&mut self, client: u32, theirs: StreamId) -> Result<Option<StreamId>, String> {
        let Some(link) = self.clients.link(client) else { return Ok(None) };
        link.wire.accept(theirs, Direction::Both).map_err(|error| error.to_string())?;
        let opened = self.guest.wire.open_stream(Direction::Both);
        let guests = opened.map_err(|error| {
            link.wire.reset(theirs, mvm_wire::ResetReason::Refused);
            error.to_string()
        })?;
        let (client_end, guest_end) = ((Peer::Client(client), theirs), (Peer::Guest, guests));
        self.relay.connect(client_end, guest_end, None);
        self.relay.connect(guest_end, client_end, None);
        Ok(Some(guests))
    }

    /// Does the same as [`Self::connect_streams`] for the one stream that there is.
    fn connect_one(&mut self, client: u32, streams: Streams) -> Result<StreamId, String> {
        let streams = self.connect_streams(client, streams, false)?;
        streams.stdin.or(streams.stdout).ok_or_else(|| "the client is gone".to_owned())
    }

    /// Accepts a client's streams, opens the guest's counterparts and lays the pipes between them.
    fn connect_streams(&mut self, client: u32, streams: Streams, logged: bool) -> Result<Streams, String> {
        let terminal = streams.terminal.is_some();
        let origin = |stream| logged.then(|| Origin::new(MAIN, stream));
        let mut connect = |stream: Option<StreamId>,
                           to_guest: bool,
                           origin: Option<Origin>|
         -> Result<Option<StreamId>, String> {
            let Some(theirs) = stream else { return Ok(None) };
            let Some(link) = self.clients.link(client) else { return Ok(None) };
            let (ours, towards) = if to_guest {
                (Direction::Receive, Direction::Send)
            } else {
                (Direction::Send, Direction::Receive)
            };
            link.wire.accept(theirs, ours).map_err(|error| error.to_string())?;
            let guests = self.guest.wire.open_stream(towards).map_err(|error| error.to_string())?;
            let (client_end, guest_end) = ((Peer::Client(client), theirs), (Peer::Guest, guests));
            if to_guest {
                self.relay.connect(client_end, guest_end, None);
            } else {
                self.relay.connect(guest_end, client_end, origin);
            }
            Ok(Some(guests))
        };
        Ok(Streams {
            stdin: connect(streams.stdin, true, None)?,
            stdout: connect(streams.stdout, false, origin(main_stdout(terminal)))?,
            stderr: connect(streams.stderr, false, origin(OutputStream::Stderr))?,
            terminal: streams.terminal,
        })
    }
}

/// A terminal has one stream for all output.
fn main_stdout(terminal: bool) -> OutputStream {
    if terminal { OutputStream::Output } else { OutputStream::Stdout }
}

/// Says whether a VM that somebody wanted to watch runs by this request.
fn starts_main(request: &Request) -> bool {
    match request {
        Request::Start { process, .. } => process == MAIN,
        request => matches!(request, Request::Hold {}),
    }
}
