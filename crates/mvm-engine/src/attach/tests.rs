use super::*;
use crate::error::{EngineError, ErrorKind};
use crate::link::tests::Peer;
use mvm_wire::{ExitStatus, FailureKind};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

const HANDLE: u32 = 7;

/// Signals that a test sends by writing their numbers.
struct Signals(UnixStream);

impl Signals {
    fn new() -> (Self, UnixStream) {
        let (read, write) = UnixStream::pair().unwrap();
        read.set_nonblocking(true).unwrap();
        (Self(read), write)
    }
}

impl SignalSource for Signals {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> Vec<i32> {
        let mut numbers = [0; 16];
        let count = self.0.read(&mut numbers).unwrap_or(0);
        numbers[..count].iter().map(|&number| number.into()).collect()
    }
}

/// What the caller of a command has around it; each stream is a pipe whose other end the test holds.
struct Caller {
    signals: Signals,
    signal: UnixStream,
    stdin: OwnedFd,
    typed: Option<OwnedFd>,
    stdout: OwnedFd,
    shown: Option<OwnedFd>,
    stderr: OwnedFd,
    complained: Option<OwnedFd>,
}

impl Caller {
    fn new() -> Self {
        let (signals, signal) = Signals::new();
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((stdin, typed), (shown, stdout), (complained, stderr)) = (pipe(), pipe(), pipe());
        let (typed, shown, complained) = (Some(typed), Some(shown), Some(complained));
        Self { signals, signal, stdin, typed, stdout, shown, stderr, complained }
    }

    fn send(&self, signal: u8) {
        (&self.signal).write_all(&[signal]).unwrap();
    }

    /// What has been written to a pipe whose writing ends are closed.
    fn read(pipe: Option<OwnedFd>) -> Vec<u8> {
        let mut bytes = Vec::new();
        std::fs::File::from(pipe.unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Attaches to what `supervisor` plays; also returns what came to stdout and stderr.
    fn attach(
        mut self,
        target: Target,
        size: Option<WindowSize>,
        supervisor: impl FnOnce(Peer) + Send,
    ) -> (Result<u8, AttachError>, Vec<u8>, Vec<u8>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let connection = ControlConnection::new(ours).unwrap();
        let size = size.map(|size| move || size);
        let (shown, complained) = (self.shown.take(), self.complained.take());
        let (result, shown, complained) = std::thread::scope(|scope| {
            scope.spawn(|| supervisor(Peer::new(theirs, Role::Guest)));
            let shown = shown.map(|pipe| scope.spawn(|| Self::read(Some(pipe))));
            let complained = complained.map(|pipe| scope.spawn(|| Self::read(Some(pipe))));
            let ended = session(
                connection,
                target,
                Attachment {
                    stdin: self.typed.is_some().then(|| self.stdin.as_fd()),
                    stdout: self.stdout.as_fd(),
                    stderr: self.stderr.as_fd(),
                    terminal: size.as_ref().map(|size| size as &dyn Fn() -> WindowSize),
                    keys: DetachKeys::default(),
                    signals: &mut self.signals,
                },
            );
            let result = ended.map(|code| code.expect("nobody left"));
            drop((self.stdout, self.stderr));
            let joined = |reader: Option<std::thread::ScopedJoinHandle<'_, Vec<u8>>>| {
                reader.map(|reader| reader.join().unwrap()).unwrap_or_default()
            };
            (result, joined(shown), joined(complained))
        });
        (result, shown, complained)
    }

    fn without_stdin(mut self) -> Self {
        self.typed = None;
        self
    }
}

fn exec() -> Target {
    Target::Exec(Box::new(Process {
        name: "exec".to_owned(),
        root: "root".to_owned(),
        argv: vec!["true".to_owned()],
        env: vec![],
        working_dir: "/".to_owned(),
        user: String::new(),
        stop_signal: 15,
        terminal: false,
    }))
}

fn streams_of(request: &Request) -> Streams {
    match request {
        Request::Start { streams, .. } | Request::Exec { streams, .. } => *streams,
        other => panic!("{other:?}"),
    }
}

fn started(request: &Request) -> Result<Reply, Failure> {
    streams_of(request);
    Ok(Reply::Started { handle: HANDLE, pid: 42 })
}

/// Starts what is asked for, and returns its streams.
fn start(supervisor: &mut Peer) -> Streams {
    let request = supervisor.answer(started);
    let streams = streams_of(&request);
    supervisor.accept(&streams);
    streams
}

/// Ends a command: its streams, then its exit.
fn end(supervisor: &mut Peer, streams: &Streams, status: ExitStatus) {
    for stream in [streams.stdout, streams.stderr].into_iter().flatten() {
        supervisor.send_eof(stream);
    }
    supervisor.exited(HANDLE, status);
}

#[test]
fn output_and_exit_code_come_back() {
    for (target, is_main) in [(Target::Main, true), (exec(), false)] {
        let (result, shown, complained) =
            Caller::new().without_stdin().attach(target, None, |mut supervisor| {
                let request = supervisor.answer(started);
                assert_eq!(matches!(&request, Request::Start { process, .. } if process == "main"), is_main);
                let streams = streams_of(&request);
                assert_eq!((streams.stdin, streams.terminal), (None, None));
                supervisor.accept(&streams);
                supervisor.send_data(streams.stdout.unwrap(), b"to stdout\n");
                supervisor.send_data(streams.stderr.unwrap(), b"to stderr\n");
                end(&mut supervisor, &streams, ExitStatus::Code(3));
                // The main process's end is told before its VM has ended; another's connection is the client's to close.
                if !is_main {
                    assert_eq!(supervisor.rest(), []);
                }
            });
        assert_eq!(result.unwrap(), 3);
        assert_eq!((shown, complained), (b"to stdout\n".to_vec(), b"to stderr\n".to_vec()));
    }
}

#[test]
fn statuses_become_exit_codes_as_in_a_shell() {
    let table = [
        (ExitStatus::Code(0), 0),
        (ExitStatus::Code(255), 255),
        (ExitStatus::Signal(1), 129),
        (ExitStatus::Signal(9), 137),
        (ExitStatus::Signal(15), 143),
        (ExitStatus::Signal(64), 192),
        // What no kernel says must be neither a panic nor a success.
        (ExitStatus::Signal(-1), 255),
        (ExitStatus::Signal(0), 255),
        (ExitStatus::Signal(65), 255),
        (ExitStatus::Signal(128), 255),
        (ExitStatus::Signal(300), 255),
    ];
    for (status, code) in table {
        assert_eq!(status.exit_code(), code, "{status:?}");
    }
}

#[test]
fn output_that_comes_after_the_exit_is_not_lost() {
    let late = vec![b'x'; 700_000];
    let (result, shown, complained) = Caller::new().without_stdin().attach(exec(), None, |mut supervisor| {
        let streams = start(&mut supervisor);
        supervisor.exited(HANDLE, ExitStatus::Code(0));
        supervisor.send_data(streams.stdout.unwrap(), &late);
        supervisor.send_data(streams.stderr.unwrap(), b"last words");
        supervisor.send_eof(streams.stdout.unwrap());
        supervisor.send_eof(streams.stderr.unwrap());
        assert_eq!(supervisor.rest(), []);
    });
    assert_eq!(result.unwrap(), 0);
    assert!(shown == late);
    assert_eq!(complained, b"last words");
}

#[test]
fn stdin_is_passed_on_with_its_end() {
    let mut caller = Caller::new();
    let typed = caller.typed.take().unwrap();
    caller.typed = Some(typed.try_clone().unwrap());
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::File::from(typed).write_all(&bytes).unwrap());
        // The copy only says that there is a stdin; what is typed must end.
        let copy = caller.typed.replace(rustix::pipe::pipe().unwrap().1);
        drop(copy);
        let (result, shown, _) = caller.attach(Target::Main, None, |mut supervisor| {
            let streams = start(&mut supervisor);
            let read = supervisor.read_to_end(streams.stdin.unwrap());
            assert!(read == bytes);
            supervisor.send_data(streams.stdout.unwrap(), b"read all");
            end(&mut supervisor, &streams, ExitStatus::Code(0));
        });
        assert_eq!((result.unwrap(), shown), (0, b"read all".to_vec()));
    });
}

#[test]
fn a_command_that_reads_no_stdin_ends_all_the_same() {
    // Nobody types, and nobody closes the keyboard.
    let caller = Caller::new();
    let (result, ..) = caller.attach(Target::Main, None, |mut supervisor| {
        let streams = start(&mut supervisor);
        supervisor.link.wire.reset(streams.stdin.unwrap(), ResetReason::Closed);
        end(&mut supervisor, &streams, ExitStatus::Code(1));
    });
    assert_eq!(result.unwrap(), 1);
}

#[test]
fn a_terminal_has_one_output_and_the_callers_size() {
    let size = WindowSize { rows: 50, cols: 132 };
    let caller = Caller::new();
    caller.send(28);
    let (result, shown, complained) = caller.attach(Target::Main, Some(size), |mut supervisor| {
        // The window changed before there was anything to tell.
        let streams = start(&mut supervisor);
        assert_eq!((streams.terminal, streams.stderr), (Some(size), None));
        assert!(streams.stdin.is_some());
        let resize = supervisor.answer(|_| Ok(Reply::Done {}));
        assert_eq!(resize, Request::Resize { handle: HANDLE, rows: 50, cols: 132 });
        supervisor.send_data(streams.stdout.unwrap(), b"\x1b[2J");
        end(&mut supervisor, &streams, ExitStatus::Code(0));
    });
    assert_eq!((result.unwrap(), shown, complained), (0, b"\x1b[2J".to_vec(), vec![]));
}

#[test]
fn signals_are_the_commands_once_it_runs() {
    let mut caller = Caller::new().without_stdin();
    let signal = caller.signal.try_clone().unwrap();
    let shown = caller.shown.take().unwrap();
    let (result, ..) = caller.attach(exec(), None, |mut supervisor| {
        let streams = start(&mut supervisor);
        supervisor.send_data(streams.stdout.unwrap(), b"x");
        // Once the command's output is there, the answer to its start has been heard.
        rustix::io::read(&shown, &mut [0]).unwrap();
        for number in [2_u8, 15, 10] {
            (&signal).write_all(&[number]).unwrap();
            // What the guest answers to a signal is nobody's error: the process may be ending.
            let gone = Failure { kind: FailureKind::Invalid, message: "no such process".to_owned() };
            let request = supervisor.answer(|_| Err(gone));
            assert_eq!(request, Request::Signal { handle: HANDLE, signal: number.into() });
        }
        // Without a terminal a window has no size.
        (&signal).write_all(&[28]).unwrap();
        end(&mut supervisor, &streams, ExitStatus::Signal(10));
        assert_eq!(supervisor.rest(), []);
    });
    assert_eq!(result.unwrap(), 138);
}

#[test]
fn a_signal_before_the_main_process_runs_ends_the_vm() {
    let caller = Caller::new().without_stdin();
    caller.send(2);
    let (result, ..) = caller.attach(Target::Main, None, |mut supervisor| {
        let Message::Request { request: Request::Start { .. }, .. } = supervisor.message() else { panic!() };
        let Message::Request { request, .. } = supervisor.message() else { panic!() };
        assert_eq!(request, Request::Stop { grace_ms: 0 });
        supervisor.send(&Message::Event { event: GuestEvent::Ended { message: "stopped".to_owned() } });
    });
    let error = result.unwrap_err();
    assert!(matches!(error, AttachError::Interrupted), "{error:?}");
    assert_eq!(EngineError::from(error).kind(), ErrorKind::Interrupted);
}

#[test]
fn a_signal_before_a_further_command_runs_leaves_the_vm_alone() {
    let caller = Caller::new().without_stdin();
    caller.send(2);
    let (result, ..) = caller.attach(exec(), None, |mut supervisor| {
        let Message::Request { request: Request::Exec { .. }, .. } = supervisor.message() else { panic!() };
        assert_eq!(supervisor.rest(), []);
    });
    assert!(matches!(result, Err(AttachError::Interrupted)), "{result:?}");
}

#[test]
fn a_refused_command_says_why() {
    let table = [
        (FailureKind::NotFound, ErrorKind::CommandNotFound),
        (FailureKind::NotExecutable, ErrorKind::CommandNotExecutable),
        (FailureKind::NoSuchUser, ErrorKind::Failure),
        (FailureKind::Internal, ErrorKind::Failure),
    ];
    for (kind, expected) in table {
        for target in [Target::Main, exec()] {
            let failure = Failure { kind, message: "\"nosuch\" is not in the image".to_owned() };
            let is_main = matches!(target, Target::Main);
            let (result, ..) = Caller::new().attach(target, None, |mut supervisor| {
                let request = supervisor.answer(|_| Err(failure.clone()));
                if is_main {
                    // What the supervisor says when the VM has ended must not hide the reason.
                    supervisor
                        .send(&Message::Event { event: GuestEvent::Ended { message: "stopped".to_owned() } });
                } else {
                    let rest = supervisor.rest();
                    assert!(
                        rest.iter().all(|event| matches!(event, Event::Eof { .. })),
                        "{request:?} {rest:?}"
                    );
                }
            });
            let error = EngineError::from(result.unwrap_err());
            assert_eq!(error.to_string(), "\"nosuch\" is not in the image");
            assert_eq!(error.kind(), expected);
        }
    }
}

#[test]
fn an_end_without_an_exit_is_an_error() {
    let (result, shown, _) = Caller::new().attach(Target::Main, None, |mut supervisor| {
        let streams = start(&mut supervisor);
        supervisor.send_data(streams.stdout.unwrap(), b"half a li");
        let message = "the hypervisor ended unexpectedly: out of memory".to_owned();
        supervisor.send(&Message::Event { event: GuestEvent::Ended { message } });
    });
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "the VM ended: the hypervisor ended unexpectedly: out of memory");
    assert_eq!(shown, b"half a li");
    assert!(EngineError::from(error).hint().unwrap().starts_with("console.log and supervisor.log"));

    for target in [Target::Main, exec()] {
        let (result, ..) = Caller::new().attach(target, None, drop);
        assert!(matches!(result, Err(AttachError::Gone)), "{result:?}");
    }
}

#[test]
fn an_exit_code_outweighs_how_the_vm_ended() {
    let (result, ..) = Caller::new().attach(Target::Main, None, |mut supervisor| {
        let streams = start(&mut supervisor);
        end(&mut supervisor, &streams, ExitStatus::Code(0));
        supervisor.send(&Message::Event { event: GuestEvent::Ended { message: "stopped".to_owned() } });
    });
    assert_eq!(result.unwrap(), 0);
}

#[test]
fn a_supervisor_that_breaks_the_protocol_is_an_error() {
    let (result, ..) = Caller::new().attach(Target::Main, None, |mut supervisor| {
        start(&mut supervisor);
        supervisor.send_raw(&[0xff; 64]);
        while supervisor.next().is_some() {}
    });
    let error = result.unwrap_err();
    let words = crate::error::chain(&error);
    assert!(words.starts_with("the VM's supervisor: the peer broke the protocol: "), "{words}");
}

#[test]
fn what_others_exited_with_is_not_ours() {
    let (result, ..) = Caller::new().without_stdin().attach(exec(), None, |mut supervisor| {
        supervisor.exited(HANDLE, ExitStatus::Code(9));
        let streams = start(&mut supervisor);
        supervisor.exited(HANDLE + 1, ExitStatus::Code(8));
        end(&mut supervisor, &streams, ExitStatus::Code(1));
        assert_eq!(supervisor.rest(), []);
    });
    assert_eq!(result.unwrap(), 1);
}

#[test]
fn a_reader_that_has_seen_enough_ends_only_its_stream() {
    let mut caller = Caller::new().without_stdin();
    drop(caller.shown.take());
    let (result, _, complained) = caller.attach(exec(), None, |mut supervisor| {
        let streams = start(&mut supervisor);
        let stdout = streams.stdout.unwrap();
        supervisor.send_data(stdout, b"too much");
        assert_eq!(supervisor.next(), Some(Event::Reset { stream: stdout, reason: ResetReason::Closed }));
        supervisor.send_data(streams.stderr.unwrap(), b"still read");
        supervisor.send_eof(streams.stderr.unwrap());
        supervisor.exited(HANDLE, ExitStatus::Signal(13));
        assert_eq!(supervisor.rest(), []);
    });
    assert_eq!((result.unwrap(), complained), (141, b"still read".to_vec()));
}

#[test]
fn a_slow_reader_holds_the_command_up_and_loses_nothing() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut caller = Caller::new().without_stdin();
    let slow = caller.shown.take();
    let (go, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            wait.recv().unwrap();
            Caller::read(slow)
        });
        let (result, ..) = caller.attach(Target::Main, None, |mut supervisor| {
            let streams = start(&mut supervisor);
            let stdout = streams.stdout.unwrap();
            let sent = supervisor.send_until_full(stdout, &bytes);
            // The window, and what a pipe takes.
            assert!(sent <= 256 * 1024 + 64 * 1024, "{sent}");
            go.send(()).unwrap();
            supervisor.send_data(stdout, &bytes[sent..]);
            end(&mut supervisor, &streams, ExitStatus::Code(0));
        });
        assert_eq!(result.unwrap(), 0);
        assert!(reader.join().unwrap() == bytes);
    });
}

#[test]
fn stopping_waits_until_the_supervisor_has_hung_up() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let connection = ControlConnection::new(ours).unwrap();
    std::thread::scope(|scope| {
        let supervisor = scope.spawn(|| {
            let mut supervisor = Peer::new(theirs, Role::Guest);
            let request = supervisor.answer(|_| Ok(Reply::Done {}));
            supervisor.send(&Message::Event { event: GuestEvent::Ended { message: "stopped".to_owned() } });
            request
        });
        connection.stop(std::time::Duration::from_millis(1500)).unwrap();
        assert_eq!(supervisor.join().unwrap(), Request::Stop { grace_ms: 1500 });
    });
}
