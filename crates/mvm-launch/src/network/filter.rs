//! The filter between a machine and its helper: one thread, which owns the helper.

use super::denials::Tally;
use super::helper::{Helper, Slirp};
use super::routes::Routes;
use super::rules::{OwnAddresses, Reason, Rules, Verdict};
use super::{DenialSink, NetworkConfig, NetworkError, RESOLVER, dns, packet, reply};
use crate::confinement::{HelperConfinement, Reservation};
use mvm_plan::plan::EgressRule;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Longest frame, with room to see that one is longer: the longest IPv4 packet in Ethernet.
const MAX_FRAME: usize = 65_535 + 14 + 1;
/// Frames that are moved before the other things get their turn.
const TURN: usize = 64;
/// How long after its end a helper is started again; twice as long each time, until it has run for long.
const FIRST_RESTART: Duration = Duration::from_millis(100);
const LAST_RESTART: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

/// A guest's network. It ends, and its helper with it, when this is dropped.
#[derive(Debug)]
pub struct UserNetwork {
    /// Ends the thread when it is closed.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    /// Gives what came of the helper's start.
    outcome: mpsc::Receiver<Result<(), NetworkError>>,
    protections: String,
}

impl UserNetwork {
    /// Begins to start the helper and the filter, which [`Self::wait`] waits for. Returns the guest's end of the link too, a
    /// socket on which each message is a frame; what is sent before the helper runs waits in it.
    pub(crate) fn start(
        config: &NetworkConfig<'_>,
        egress: Option<&[EgressRule]>,
        of_host: &[EgressRule],
        confinement: &Reservation,
    ) -> Result<(Self, OwnedFd), NetworkError> {
        let failed = |act| move |source| NetworkError::Filter { act, source };
        let routes = Routes::open().map_err(failed("ask for routes for"))?;
        let rules = Rules::new(egress, of_host, routes);
        let confinement = confinement.for_helper()?;
        let protections = confinement.describe();
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(|errno| failed("make a link to")(errno.into()))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|errno| failed("set up")(errno.into()))?;
        let (stop, stopped) = UnixStream::pair().map_err(failed("make a pipe to"))?;
        let (slirp, directory) = (config.slirp.clone(), config.directory.clone());
        let denials = config.denials.clone();
        let (started, outcome) = mpsc::sync_channel(1);
        let thread = move || {
            let starter = Starter { slirp, directory, confinement };
            let helper = match starter.start() {
                Ok(helper) => helper,
                Err(error) => {
                    // Whoever waits for it is there.
                    drop(started.send(Err(error)));
                    return;
                }
            };
            drop(started.send(Ok(())));
            Filter::new(ours, stopped, starter, helper, rules, denials).run();
        };
        let thread =
            Builder::new().name("network".to_owned()).spawn(thread).map_err(failed("start a thread for"))?;
        Ok((Self { stop: Some(stop), thread: Some(thread), outcome, protections }, theirs))
    }

    /// Waits until the helper runs; to be asked once.
    pub(crate) fn wait(&self) -> Result<(), NetworkError> {
        let broken = |_| NetworkError::Filter { act: "start", source: std::io::ErrorKind::BrokenPipe.into() };
        self.outcome.recv().map_err(broken)?
    }

    /// Tells how the helper is confined.
    pub fn protections(&self) -> &str {
        &self.protections
    }
}

impl Drop for UserNetwork {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended, which is all that counts here.
            drop(thread.join());
        }
    }
}

/// Starts helpers.
struct Starter {
    slirp: Slirp,
    directory: PathBuf,
    confinement: HelperConfinement,
}

impl Starter {
    fn start(&self) -> Result<Helper, NetworkError> {
        self.slirp.start(&self.directory, &self.confinement)
    }
}

/// Room for one frame.
struct Slot {
    bytes: Vec<u8>,
    length: usize,
}

impl Slot {
    fn new() -> Self {
        Self { bytes: vec![0; MAX_FRAME], length: 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn frame(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn set(&mut self, frame: &[u8]) {
        if let Some(room) = self.bytes.get_mut(..frame.len()) {
            room.copy_from_slice(frame);
            self.length = frame.len();
        }
    }

    /// Takes a frame from a socket, one that is too long as none. Returns what else happened.
    fn receive(&mut self, socket: &OwnedFd) -> Moved {
        match recv(socket, &mut self.bytes[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Moved::End,
            Ok((length, _)) => {
                self.length = if length < MAX_FRAME { length } else { 0 };
                Moved::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Moved::Nothing,
            Err(_) => Moved::End,
        }
    }

    /// Gives the frame to a socket, if it takes it now. What can't ever be sent is dropped, as on any wire.
    fn send(&mut self, socket: &OwnedFd) -> Moved {
        match send(socket, self.frame(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Moved::Nothing,
            sent => {
                self.length = 0;
                if sent.is_ok() { Moved::Some } else { Moved::End }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Some,
    Nothing,
    End,
}

/// When a helper that ended is started again.
struct Restart {
    wait: Duration,
    at: Option<Instant>,
    started: Instant,
}

struct Filter<O> {
    guest: OwnedFd,
    stop: UnixStream,
    starter: Starter,
    helper: Option<Helper>,
    restart: Restart,
    rules: Rules<O>,
    tally: Tally,
    denials: DenialSink,
    to_helper: Slot,
    to_guest: Slot,
}

impl<O: OwnAddresses> Filter<O> {
    fn new(
        guest: OwnedFd,
        stop: UnixStream,
        starter: Starter,
        helper: Helper,
        rules: Rules<O>,
        denials: DenialSink,
    ) -> Self {
        Self {
            guest,
            stop,
            starter,
            helper: Some(helper),
            restart: Restart { wait: FIRST_RESTART, at: None, started: Instant::now() },
            rules,
            tally: Tally::new(),
            denials,
            to_helper: Slot::new(),
            to_guest: Slot::new(),
        }
    }

    /// Carries frames until it is told to stop.
    fn run(mut self) {
        while let Some(helper_hung_up) = self.wait() {
            for _ in 0..TURN {
                if !self.move_frames() {
                    break;
                }
            }
            let now = Instant::now();
            if let Some(denials) = self.tally.take_due(now) {
                self.denials.tell(denials);
            }
            self.mind_helper(helper_hung_up, now);
        }
        self.helper = None;
        if let Some(denials) = self.tally.take_all() {
            self.denials.tell(denials);
        }
    }

    /// Waits until something can be done; says whether the helper hung up, or nothing at all when it is time to stop.
    fn wait(&self) -> Option<bool> {
        let mut watched = vec![PollFd::new(&self.stop, PollFlags::IN)];
        let mut guest = PollFlags::empty();
        guest.set(PollFlags::IN, self.to_helper.is_empty());
        guest.set(PollFlags::OUT, !self.to_guest.is_empty());
        watched.push(PollFd::from_borrowed_fd(self.guest.as_fd(), guest));
        if let Some(helper) = &self.helper {
            watched.push(PollFd::from_borrowed_fd(helper.pidfd(), PollFlags::IN));
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.to_guest.is_empty());
            flags.set(PollFlags::OUT, !self.to_helper.is_empty());
            if let Some(socket) = helper.socket() {
                watched.push(PollFd::from_borrowed_fd(socket.as_fd(), flags));
            }
        }
        let next = [self.tally.due(), self.restart.at].into_iter().flatten().min();
        let timeout = next.map(|at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) if watched[0].revents().is_empty() => {
                let hung = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR);
                Some(watched.get(3).is_some_and(hung))
            }
            Err(Errno::INTR) => Some(false),
            _ => None,
        }
    }

    /// Moves a frame each way, where there is one and room for it; says whether there may be more.
    fn move_frames(&mut self) -> bool {
        let mut moved = false;
        if self.to_helper.is_empty() && self.to_helper.receive(&self.guest) == Moved::Some {
            moved = true;
            self.judge();
        }
        if let Some(socket) = self.helper.as_ref().and_then(Helper::socket) {
            if !self.to_helper.is_empty() {
                moved |= self.to_helper.send(socket) == Moved::Some;
            }
            if self.to_guest.is_empty() {
                moved |= self.to_guest.receive(socket) == Moved::Some;
            }
        } else {
            // Nobody is there who could take it.
            self.to_helper.length = 0;
        }
        if !self.to_guest.is_empty() {
            moved |= self.to_guest.send(&self.guest) == Moved::Some;
        }
        moved
    }

    /// Decides on the frame that the guest sent; what is not to go on is gone afterwards.
    fn judge(&mut self) {
        let answer = match self.rules.judge(packet::parse(self.to_helper.frame())) {
            Verdict::Pass => return,
            Verdict::Ignore => None,
            Verdict::Deny(reason, packet) => {
                let what = packet.transport.name(packet.destination);
                self.tally.add(what, reason, Instant::now());
                reply::refusal(&packet)
            }
            Verdict::Resolve { source, query } => dns::answer(query, self.rules.names()).map(|answer| {
                if let Some(name) = answer.refused {
                    self.tally.add(format!("name {name}"), Reason::Name, Instant::now());
                }
                reply::datagram((RESOLVER, 53), source, &answer.message)
            }),
        };
        self.to_helper.length = 0;
        // While the guest does not take what it gets, it misses this too.
        if let Some(answer) = answer.filter(|_| self.to_guest.is_empty()) {
            self.to_guest.set(&answer);
        }
    }

    /// Starts the helper again some time after it has ended. Its connections are gone, but the guest's network is not.
    fn mind_helper(&mut self, hung_up: bool, now: Instant) {
        if self.helper.as_mut().is_some_and(|helper| hung_up || helper.has_ended()) {
            self.helper = None;
            if now.duration_since(self.restart.started) >= LONG {
                self.restart.wait = FIRST_RESTART;
            }
            self.restart.at = Some(now + self.restart.wait);
        }
        if self.restart.at.is_some_and(|at| now >= at) {
            self.helper = self.starter.start().ok();
            self.restart.wait = (self.restart.wait * 2).min(LAST_RESTART);
            self.restart.started = now;
            self.restart.at = self.helper.is_none().then(|| Instant::now() + self.restart.wait);
        }
    }
}
