//! VMs that run without their main process, for as long as somebody is connected.

use super::start::tests::{serve, vm};
use super::tests::{
    HANDLE, ask, boot, connect, end_of, exec, exit, exited, main_process, start, started, stop,
};
use super::*;
use mvm_plan::audit::Outcome;

#[test]
fn a_vm_that_is_held_runs_without_its_main_process_until_its_holder_goes() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| {
            boot(guest);
            // Nothing but what the holder executes arrives, and then the end.
            let streams = start(guest, HANDLE);
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            assert_eq!(stop(guest), 0);
        },
        |directory, _| {
            let hold = || Message::Request { id: 1, request: Request::Hold {} };
            let mut holder = connect(directory);
            holder.send(&hold());
            assert_eq!(holder.message(), Message::Response { id: 1, result: Ok(Reply::Done {}) });
            let refused = |message| {
                let Message::Response { result: Err(failure), .. } = message else { panic!("{message:?}") };
                assert_eq!(failure.kind, FailureKind::Invalid);
                assert!(failure.message.contains("main process"), "{failure}");
            };
            let mut other = connect(directory);
            other.send(&hold());
            refused(other.message());
            ask(&mut other, 2, main_process);
            refused(other.message());
            ask(&mut other, 3, |streams| Request::Attach { process: MAIN.to_owned(), streams });
            refused(other.message());
            // It is not they for whom it runs.
            drop(other);
            ask(&mut holder, 2, exec);
            assert_eq!(holder.message(), started(2, HANDLE));
            assert_eq!(holder.message(), exited(HANDLE, ExitStatus::Code(0)));
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, None, None, Outcome::Stopped, None));
}

#[test]
fn a_main_process_that_runs_is_not_held() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let error = serve(
        &vm,
        false,
        |guest, _| {
            boot(guest);
            let main = start(guest, HANDLE);
            assert!(matches!(guest.message(), Message::Request { request: Request::Status {}, .. }));
            exit(guest, HANDLE, &main, ExitStatus::Code(0));
            stop(guest);
        },
        |directory, _| {
            let mut main = connect(directory);
            ask(&mut main, 1, main_process);
            assert_eq!(main.message(), started(1, HANDLE));
            let mut late = connect(directory);
            late.send(&Message::Request { id: 1, request: Request::Hold {} });
            let Message::Response { id: 1, result: Err(failure) } = late.message() else { panic!() };
            assert_eq!(failure.kind, FailureKind::Invalid);
            drop(late);
            main.send(&Message::Request { id: 2, request: Request::Status {} });
            assert_eq!(main.message(), exited(HANDLE, ExitStatus::Code(0)));
        },
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm), (Phase::Exited, Some(0), None, Outcome::Exited, Some(0)));
}
