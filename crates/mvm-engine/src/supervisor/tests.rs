//! A supervisor between a guest and clients that do what a test says.

use super::start::tests::{Vm, serve, vm};
use super::*;
use crate::link::tests::Peer;
use mvm_plan::audit::{Event as Audited, Outcome};
use mvm_wire::{BootFacts, Hello, Process, ResetReason, Role, Streams};
use std::io::Write as _;

pub(super) const HANDLE: u32 = 1;

/// Greets and says that it has booted.
pub(super) fn boot(guest: &mut Peer) {
    guest.send(&Message::Hello(Hello::current("a test")));
    let facts = BootFacts {
        kernel: "6.1.0".to_owned(),
        machine: "x86_64".to_owned(),
        boot_ms: 1,
        cpus: 1,
        memory_kib: 1,
    };
    guest.send(&Message::Event { event: GuestEvent::Ready { facts } });
}

fn streams_of(request: &Request) -> Streams {
    match request {
        Request::Start { streams, .. } | Request::Exec { streams, .. } => *streams,
        other => panic!("{other:?}"),
    }
}

/// Starts what the supervisor asks for, under `handle`.
pub(super) fn start(guest: &mut Peer, handle: u32) -> Streams {
    let request = guest.answer(|_| Ok(Reply::Started { handle, pid: 40 + handle }));
    let streams = streams_of(&request);
    guest.accept(&streams);
    streams
}

/// Ends the streams of a process, then says how it ended.
pub(super) fn exit(guest: &mut Peer, handle: u32, streams: &Streams, status: ExitStatus) {
    for stream in [streams.stdout, streams.stderr].into_iter().flatten() {
        guest.send_eof(stream);
    }
    guest.exited(handle, status);
}

/// Waits until the machine is asked to end, and returns the time of grace.
pub(super) fn stop(guest: &mut Peer) -> u64 {
    match guest.answer(|_| Ok(Reply::Done {})) {
        Request::Stop { grace_ms } => grace_ms,
        other => panic!("{other:?}"),
    }
}

pub(super) fn connect(directory: &VmDirectory) -> Peer {
    Peer::new(directory.connect().unwrap(), Role::Host)
}

/// Opens streams and asks for a process with them.
pub(super) fn ask(client: &mut Peer, id: u64, request: impl FnOnce(Streams) -> Request) -> Streams {
    let wire = &mut client.link.wire;
    let streams = Streams {
        stdin: Some(wire.open_stream(Direction::Send).unwrap()),
        stdout: Some(wire.open_stream(Direction::Receive).unwrap()),
        stderr: Some(wire.open_stream(Direction::Receive).unwrap()),
        terminal: None,
    };
    client.send(&Message::Request { id, request: request(streams) });
    streams
}

pub(super) fn main_process(streams: Streams) -> Request {
    Request::Start { process: MAIN.to_owned(), streams }
}

pub(super) fn exec(streams: Streams) -> Request {
    let process = Process {
        name: "exec".to_owned(),
        root: "root".to_owned(),
        argv: vec!["id".to_owned()],
        env: vec![],
        working_dir: "/".to_owned(),
        user: String::new(),
        stop_signal: 15,
        terminal: false,
    };
    Request::Exec { process, streams }
}

pub(super) fn started(id: u64, handle: u32) -> Message {
    Message::Response { id, result: Ok(Reply::Started { handle, pid: 40 + handle }) }
}

pub(super) fn exited(handle: u32, status: ExitStatus) -> Message {
    Message::Event { event: GuestEvent::Exited { handle, status } }
}

pub(super) fn ended(words: &str) -> Event {
    Event::Message(Message::Event { event: GuestEvent::Ended { message: words.to_owned() } })
}

/// How the VM ended, by its state and by the audit log.
pub(super) fn end_of(vm: &Vm) -> (Phase, Option<u8>, Option<String>, Outcome, Option<i32>) {
    let state = vm.directory.state().unwrap();
    assert!(state.finished_at.is_some());
    let Some(Audited::Stop { outcome, exit_code, .. }) = vm.fixture.events().pop() else { panic!() };
    (state.phase, state.exit_code, state.message, outcome, exit_code)
}

/// What the store's events tell of the VM.
fn events_of(vm: &Vm) -> Vec<Happening> {
    let mut reader = vm.fixture.engine.event_log();
    let events = std::iter::from_fn(|| reader.next_event().unwrap());
    events.filter(|event| event.vm == vm.record.name).map(|event| event.what).collect()
}

fn output_log(vm: &Vm) -> String {
    let mut reader = crate::journal::OutputReader::new(vm.directory.path(), None);
    let lines = std::iter::from_fn(|| reader.next_output().unwrap());
    String::from_utf8(lines.flat_map(|line| line.bytes).collect()).unwrap()
}

#[test]
fn a_command_runs_for_the_client_that_starts_it() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let (asked, wait) = std::sync::mpsc::channel();
    let error = serve(
        &vm,
        false,
        move |guest, console| {
            // The client comes first: it need not know how far the guest is.
            wait.recv().unwrap();
            console.write_all(b"Linux version 6.1.0\n").unwrap();
            boot(guest);
            let streams = start(guest, HANDLE);
            assert_eq!(guest.read_to_end(streams.stdin.unwrap()), b"typed");
            guest.send_data(streams.stdout.unwrap(), b"to stdout");
            guest.send_data(streams.stderr.unwrap(), b"to stderr");
            exit(guest, HANDLE, &streams, ExitStatus::Code(3));
            assert_eq!(stop(guest), 0);
        },
        move |directory, _| {
            let mut client = connect(directory);
            let streams = ask(&mut client, 5, main_process);
            asked.send(()).unwrap();
            assert_eq!(client.message(), started(5, HANDLE));
            client.send_data(streams.stdin.unwrap(), b"typed");
            client.send_eof(streams.stdin.unwrap());
            assert_eq!(client.read_to_end(streams.stdout.unwrap()), b"to stdout");
            assert_eq!(client.read_to_end(streams.stderr.unwrap()), b"to stderr");
            assert_eq!(client.message(), exited(HANDLE, ExitStatus::Code(3)));
            assert_eq!(client.rest(), [ended("stopped")]);
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(3), None, Outcome::Exited, Some(3)));
    let happened = [
        Happening::Started { isolation: "emulated".to_owned() },
        Happening::Ready {},
        Happening::Exited { exit_code: Some(3) },
    ];
    assert_eq!(events_of(&vm), happened);
    assert_eq!(output_log(&vm), "to stdoutto stderr");
    assert_eq!(std::fs::read(vm.directory.file(crate::vm::CONSOLE)).unwrap(), b"Linux version 6.1.0\n");
    for name in [crate::vm::SCRATCH, crate::vm::INITRD, "control.sock"] {
        assert!(!vm.directory.file(name).exists(), "{name}");
    }
    vm.fixture.engine.remove_vm(&vm.record.name, false).unwrap();
    assert!(vm.fixture.engine.vms().unwrap().0.is_empty());
}

#[test]
fn without_a_client_the_output_is_kept() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            assert_eq!((streams.stdin, streams.terminal), (None, None));
            guest.send_data(streams.stdout.unwrap(), b"out\n");
            guest.send_data(streams.stderr.unwrap(), &vec![b'e'; 1_000_000]);
            exit(guest, HANDLE, &streams, ExitStatus::Signal(9));
            assert_eq!(stop(guest), 0);
        },
        |_, _| {},
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(137), None, Outcome::Exited, Some(137)));
    let log = output_log(&vm);
    assert_eq!((log.matches("out\n").count(), log.matches('e').count()), (1, 1_000_000));
}

#[test]
fn when_its_client_goes_a_command_goes_on() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            let stdout = streams.stdout.unwrap();
            guest.send_data(stdout, b"seen");
            assert_eq!(guest.read_to_end(streams.stdin.unwrap()), b"", "its input ends with its client");
            guest.send_data(stdout, b"kept");
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        |directory, _| {
            let mut client = connect(directory);
            let streams = ask(&mut client, 1, main_process);
            assert_eq!(client.message(), started(1, HANDLE));
            let seen = Event::Data { stream: streams.stdout.unwrap(), bytes: b"seen".to_vec() };
            assert_eq!(client.next(), Some(seen));
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(0), None, Outcome::Exited, Some(0)));
    assert_eq!(output_log(&vm), "seenkept");
}

#[test]
fn each_client_hears_of_its_own_commands() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| {
            boot(guest);
            let main = start(guest, 1);
            let first = start(guest, 2);
            let second = start(guest, 3);
            guest.send_data(second.stdout.unwrap(), b"second");
            guest.send_data(first.stdout.unwrap(), b"first");
            exit(guest, 3, &second, ExitStatus::Code(30));
            exit(guest, 2, &first, ExitStatus::Code(20));
            let signal = guest.answer(|_| Ok(Reply::Done {}));
            assert_eq!(signal, Request::Signal { handle: 1, signal: 15 });
            exit(guest, 1, &main, ExitStatus::Signal(15));
            assert_eq!(stop(guest), 0);
        },
        |directory, _| {
            let mut main = connect(directory);
            ask(&mut main, 1, main_process);
            assert_eq!(main.message(), started(1, 1));
            // The same number of a request in each of them.
            let (mut first, mut second) = (connect(directory), connect(directory));
            let first_streams = ask(&mut first, 1, exec);
            assert_eq!(first.message(), started(1, 2));
            let second_streams = ask(&mut second, 1, exec);
            assert_eq!(second.message(), started(1, 3));
            assert_eq!(first.read_to_end(first_streams.stdout.unwrap()), b"first");
            assert_eq!(second.read_to_end(second_streams.stdout.unwrap()), b"second");
            assert_eq!(second.read_to_end(second_streams.stderr.unwrap()), b"");
            assert_eq!(first.read_to_end(first_streams.stderr.unwrap()), b"");
            assert_eq!(first.message(), exited(2, ExitStatus::Code(20)));
            assert_eq!(second.message(), exited(3, ExitStatus::Code(30)));
            drop(second);
            main.send(&Message::Request { id: 9, request: Request::Signal { handle: 1, signal: 15 } });
            assert_eq!(main.message(), Message::Response { id: 9, result: Ok(Reply::Done {}) });
            assert_eq!(main.message(), exited(1, ExitStatus::Signal(15)));
            // Whoever is connected hears that it is over.
            assert_eq!(first.rest(), [ended("stopped")]);
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(143), None, Outcome::Exited, Some(143)));
    assert_eq!(output_log(&vm), "");
}

#[test]
fn the_main_process_is_started_once() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| {
            boot(guest);
            let main = start(guest, HANDLE);
            // A guest would refuse a second start, and the refusal must not pass for the main process's end.
            match guest.message() {
                Message::Request { id, request: Request::Start { .. } } => {
                    let failure = Failure { kind: FailureKind::Invalid, message: "it is started".to_owned() };
                    guest.send(&Message::Response { id, result: Err(failure) });
                    assert!(matches!(guest.message(), Message::Request { request: Request::Status {}, .. }));
                }
                Message::Request { request: Request::Status {}, .. } => {}
                other => panic!("{other:?}"),
            }
            exit(guest, HANDLE, &main, ExitStatus::Code(0));
            stop(guest);
        },
        |directory, _| {
            let mut main = connect(directory);
            ask(&mut main, 1, main_process);
            assert_eq!(main.message(), started(1, HANDLE));
            let mut late = connect(directory);
            ask(&mut late, 1, main_process);
            let Message::Response { id: 1, result: Err(failure) } = late.message() else { panic!() };
            assert_eq!(failure.kind, FailureKind::Invalid);
            main.send(&Message::Request { id: 2, request: Request::Status {} });
            assert_eq!(main.message(), exited(HANDLE, ExitStatus::Code(0)));
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(0), None, Outcome::Exited, Some(0)));
}

#[test]
fn a_command_that_cannot_start_ends_the_vm_with_its_code() {
    for (kind, code) in
        [(FailureKind::NotFound, 127), (FailureKind::NotExecutable, 126), (FailureKind::NoSuchUser, 125)]
    {
        let Some(vm) = vm(|_, _| {}) else { return };
        let failure = Failure { kind, message: "\"nosuch\" is not in the image".to_owned() };
        let error = serve(
            &vm,
            false,
            |guest, _| {
                boot(guest);
                let request = guest.answer(|_| Err(failure.clone()));
                for stream in [streams_of(&request).stdout, streams_of(&request).stderr].into_iter().flatten()
                {
                    guest.link.wire.reset(stream, ResetReason::Refused);
                }
                assert_eq!(stop(guest), 0);
            },
            |directory, _| {
                let mut client = connect(directory);
                ask(&mut client, 1, main_process);
                let response = loop {
                    match client.next().unwrap() {
                        Event::Message(message) => break message,
                        Event::Reset { .. } => {}
                        other => panic!("{other:?}"),
                    }
                };
                assert_eq!(response, Message::Response { id: 1, result: Err(failure.clone()) });
                assert_eq!(client.rest().last(), Some(&ended("stopped")));
            },
        );
        assert_eq!(error, None);
        let message = Some(failure.message.clone());
        assert_eq!(end_of(&vm), (Phase::Exited, Some(code), message, Outcome::Exited, Some(code.into())));
    }
}

#[test]
fn a_vm_is_stopped_with_grace() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            assert_eq!(stop(guest), 1500);
            // The stop signal ended it.
            exit(guest, HANDLE, &streams, ExitStatus::Signal(15));
        },
        |directory, _| {
            let mut client = loop {
                // Before the guest has booted a stop knows no grace.
                if directory.state().unwrap().phase == Phase::Running {
                    break connect(directory);
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            client.send(&Message::Request { id: 7, request: Request::Stop { grace_ms: 1500 } });
            assert_eq!(client.message(), Message::Response { id: 7, result: Ok(Reply::Done {}) });
            assert_eq!(client.rest(), [ended("stopped")]);
            assert!(directory.state().unwrap().ended(), "it is written down before it is told");
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(143), None, Outcome::Exited, Some(143)));
}

#[test]
fn the_supervisors_own_sigterm_is_a_stop() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let (running, wait) = std::sync::mpsc::channel();
    let error = serve(
        &vm,
        true,
        move |guest, _| {
            boot(guest);
            start(guest, HANDLE);
            running.send(()).unwrap();
            assert_eq!(stop(guest), 10_000);
            // Once: the answer to a question comes next.
            guest.send(&Message::Request { id: 1, request: Request::Status {} });
            let next = guest.message();
            assert!(matches!(next, Message::Response { id: 1, .. }), "{next:?}");
        },
        move |_, signals| {
            wait.recv().unwrap();
            signals.write_all(&[0]).unwrap();
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, None, None, Outcome::Stopped, None));
}

#[test]
fn a_guest_that_has_not_booted_is_stopped_at_once() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| while guest.next().is_some() {},
        |directory, _| {
            let client = crate::attach::ControlConnection::new(directory.connect().unwrap()).unwrap();
            client.stop(Duration::from_secs(10)).unwrap();
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, None, None, Outcome::Stopped, None));
}

#[test]
fn a_vm_whose_client_goes_before_it_has_booted_is_ended() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| while guest.next().is_some() {},
        |directory, _| {
            let mut client = connect(directory);
            ask(&mut client, 1, main_process);
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, None, None, Outcome::Stopped, None));
}

#[test]
fn what_waits_for_a_client_is_given_to_it_after_the_end() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let bytes = vec![b'x'; 300_000];
    let error = serve(
        &vm,
        false,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            guest.send_data(streams.stdout.unwrap(), &bytes);
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        |directory, _| {
            let mut client = connect(directory);
            let streams = ask(&mut client, 1, main_process);
            while !directory.state().unwrap().ended() {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(client.message(), started(1, HANDLE));
            assert!(client.read_to_end(streams.stdout.unwrap()) == bytes);
        },
    );
    assert_eq!(error, None);
}

#[test]
fn a_vm_that_is_to_be_removed_leaves_nothing() {
    let Some(vm) = vm(|_, record| record.remove_at_end = true) else { return };
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        |_, _| {},
    );
    assert_eq!(error, None);
    assert!(!vm.directory.path().exists());
    assert!(vm.fixture.engine.vms().unwrap().0.is_empty());
    assert!(matches!(vm.fixture.events().pop(), Some(Audited::Stop { exit_code: Some(0), .. })));
}
