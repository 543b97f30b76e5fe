//! Guests and clients that do what they should not.

use super::start::tests::{serve, vm};
use super::tests::{
    HANDLE, ask, boot, connect, end_of, ended, exec, exit, main_process, start, started, stop,
};
use super::*;
use crate::link::tests::Peer;
use mvm_plan::audit::Outcome;
use mvm_wire::{BootFacts, BootStage, Hello, Role};

#[test]
fn what_a_guest_does_wrong_ends_it() {
    type Guest = fn(&mut Peer);
    let table: [(&str, Guest, &str); 7] = [
        (
            "no protocol",
            |guest| guest.send_raw(b"login: \r\n\r\nPassword:"),
            "the guest's agent: the peer broke the protocol: ",
        ),
        (
            "another protocol",
            |guest| {
                let hello = Hello { min_version: 7, max_version: 9, software: "the future".to_owned() };
                guest.send(&Message::Hello(hello));
            },
            "no protocol version in common: mvm supervisor ",
        ),
        (
            "a failed boot",
            |guest| {
                guest.send(&Message::Hello(Hello::current("a test")));
                let message = "root hash mismatch".to_owned();
                guest.send(&Message::Event {
                    event: GuestEvent::Failed { stage: BootStage::Verity, message },
                });
            },
            "the guest can't boot (stage verity): root hash mismatch",
        ),
        (
            "a failed boot with much to say of it",
            |guest| {
                guest.send(&Message::Hello(Hello::current("a test")));
                let message = "x".repeat(200_000);
                guest.send(&Message::Event {
                    event: GuestEvent::Failed { stage: BootStage::Verity, message },
                });
            },
            "the guest can't boot (stage verity): xxx",
        ),
        (
            "an end before its time",
            |guest| {
                boot(guest);
                start(guest, HANDLE);
            },
            "the hypervisor ended unexpectedly (signal: 9 (SIGKILL)): warning: a test",
        ),
        (
            "a stream that it never opened",
            |guest| {
                boot(guest);
                // A data frame of one byte for stream 9.
                guest.send_raw(&[1, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, b'x']);
            },
            "the guest's agent: the peer broke the protocol: ",
        ),
        (
            "more streams than there may be",
            |guest| {
                boot(guest);
                for stream in 0..257_u32 {
                    let [a, b, c, d] = (2 * stream + 1).to_le_bytes();
                    guest.send_raw(&[4, 0, 0, 0, a, b, c, d, 2, 1, 0, 0, 0, 0, 1, 0]);
                }
            },
            "the guest's agent: the peer broke the protocol: ",
        ),
    ];
    for (case, guest, words) in table {
        let Some(vm) = vm(|_, _| {}) else { return };
        let (connected, wait) = std::sync::mpsc::channel();
        let error = serve(
            &vm,
            false,
            move |agent, _| {
                wait.recv().unwrap();
                guest(agent);
                // What it is told from here on is of no interest; that the supervisor hangs up is.
                if !words.starts_with("the hypervisor") {
                    while agent.next().is_some() {}
                }
            },
            move |directory, _| {
                let mut client = connect(directory);
                ask(&mut client, 1, main_process);
                connected.send(()).unwrap();
                let ended = |event| match event {
                    Event::Message(Message::Event { event: GuestEvent::Ended { message } }) => Some(message),
                    _ => None,
                };
                let message = client.rest().into_iter().find_map(ended).unwrap();
                assert!(message.starts_with(words), "{case}: {message}");
            },
        );
        let error = error.unwrap();
        assert!(error.starts_with(words) && error.len() < 5_000, "{case}: {error}");
        assert_eq!(end_of(&vm), (Phase::Failed, None, Some(error), Outcome::Failed, None), "{case}");
    }
}

#[test]
fn what_a_guest_says_beside_the_point_is_passed_over() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            boot_again(guest);
            let streams = start(guest, HANDLE);
            guest.exited(99, ExitStatus::Code(1));
            guest.send(&Message::Response { id: 1234, result: Ok(Reply::Done {}) });
            guest.send(&Message::Event { event: GuestEvent::Ended { message: "not true".to_owned() } });
            let own = guest.link.wire.open_stream(Direction::Send).unwrap();
            assert_eq!(guest.link.wire.send_data(own, b"x"), 0, "nobody accepts it");
            guest.send(&Message::Request { id: 1, request: Request::Stop { grace_ms: 0 } });
            let Message::Response { id: 1, result: Err(failure) } = guest.message() else { panic!() };
            assert_eq!(failure.kind, FailureKind::Unsupported);
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        |_, _| {},
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(0), None, Outcome::Exited, Some(0)));
}

#[test]
fn a_client_that_breaks_the_protocol_is_dropped_alone() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let (done, wait) = std::sync::mpsc::channel();
    let error = serve(
        &vm,
        true,
        move |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            wait.recv().unwrap();
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        move |directory, _| {
            let good = connect(directory);
            for bytes in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0xff; 40]] {
                let mut bad = Peer::silent(directory.connect().unwrap(), Role::Host);
                bad.send_raw(bytes);
                while bad.next().is_some() {}
            }
            // Streams that are not its own, or not open, or for the other direction.
            let mut odd = connect(directory);
            let stdin = odd.link.wire.open_stream(Direction::Receive).unwrap();
            for streams in [
                Streams { stdin: Some(stdin), ..Streams::default() },
                Streams { stdout: Some(StreamId::new(98)), ..Streams::default() },
                Streams { stdout: Some(stdin), stderr: Some(stdin), ..Streams::default() },
            ] {
                odd.send(&Message::Request { id: 3, request: exec(streams) });
                let Message::Response { id: 3, result: Err(failure) } = odd.message() else { panic!() };
                assert_eq!(failure.kind, FailureKind::Invalid, "{streams:?}");
            }
            done.send(()).unwrap();
            assert_eq!(good.rest(), [ended("stopped")]);
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(0), None, Outcome::Exited, Some(0)));
}

#[test]
fn a_client_that_does_not_read_holds_up_only_its_command() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let bytes = &vec![b'x'; 4_000_000];
    let (full, wait) = std::sync::mpsc::channel();
    let error = serve(
        &vm,
        false,
        move |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            let sent = guest.send_until_full(streams.stdout.unwrap(), bytes);
            // A window on each side of the supervisor, and what its socket and its output take.
            assert!(sent <= 1_500_000, "{sent}");
            let other = start(guest, 2);
            guest.send_data(other.stdout.unwrap(), b"quick");
            exit(guest, 2, &other, ExitStatus::Code(0));
            full.send(()).unwrap();
            guest.send_data(streams.stdout.unwrap(), &bytes[sent..]);
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        move |directory, _| {
            let mut slow = connect(directory);
            let streams = ask(&mut slow, 1, main_process);
            let mut quick = connect(directory);
            let quick_streams = ask(&mut quick, 1, exec);
            assert_eq!(quick.message(), started(1, 2));
            assert_eq!(quick.read_to_end(quick_streams.stdout.unwrap()), b"quick");
            wait.recv().unwrap();
            assert_eq!(slow.message(), started(1, HANDLE));
            assert!(slow.read_to_end(streams.stdout.unwrap()) == *bytes);
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(0), None, Outcome::Exited, Some(0)));
}

fn boot_again(guest: &mut Peer) {
    let facts =
        BootFacts { kernel: String::new(), machine: String::new(), boot_ms: 0, cpus: 0, memory_kib: 0 };
    guest.send(&Message::Event { event: GuestEvent::Ready { facts } });
}
