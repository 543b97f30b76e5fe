use super::*;
use mvm_launch::exec::{Invocation, Running};
use std::process::Stdio;

/// Starts a process that ends when it is told to.
fn sleeper() -> Running {
    Invocation::new("/bin/sleep").arg("1000").start(Stdio::null(), Stdio::null()).unwrap()
}

#[test]
fn a_process_is_alive_until_it_ends() {
    let current = ProcessIdentity::current().unwrap();
    assert_eq!(current, ProcessIdentity::of(std::process::id()).unwrap());
    assert!(current.alive());

    let mut sleeper = sleeper();
    let identity = ProcessIdentity::of(sleeper.pid()).unwrap();
    assert!(identity.alive());
    sleeper.kill().unwrap();
    // Ended and not yet reaped: nobody's answer comes from it any more.
    rustix::event::poll(
        &mut [rustix::event::PollFd::from_borrowed_fd(sleeper.pidfd(), rustix::event::PollFlags::IN)],
        None,
    )
    .unwrap();
    assert!(!identity.alive());
    sleeper.wait().unwrap();
    assert!(!identity.alive());
    assert!(ProcessIdentity::of(identity.pid).is_err());
}

#[test]
fn a_number_that_another_process_has_now_is_not_the_process() {
    let mut sleeper = sleeper();
    let identity = ProcessIdentity::of(sleeper.pid()).unwrap();
    let others = [
        ProcessIdentity { start_time: identity.start_time + 1, ..identity.clone() },
        ProcessIdentity { boot_id: "00000000-0000-0000-0000-000000000000".to_owned(), ..identity.clone() },
        ProcessIdentity { pid: 0, ..identity.clone() },
        ProcessIdentity { pid: u32::MAX, ..identity.clone() },
    ];
    for other in others {
        assert!(!other.alive(), "{other:?}");
        other.signal(Signal::KILL).unwrap();
    }
    assert!(identity.alive(), "a signal for another process reached this one");
    identity.signal(Signal::TERM).unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(sleeper.wait().unwrap().signal(), Some(15));
    identity.signal(Signal::TERM).unwrap();
}

#[test]
fn an_identity_survives_its_file() {
    let identity = ProcessIdentity { pid: 7, start_time: 99, boot_id: "b".to_owned() };
    let text = r#"{"pid":7,"start_time":99,"boot_id":"b"}"#;
    assert_eq!(serde_json::to_string(&identity).unwrap(), text);
    assert_eq!(serde_json::from_str::<ProcessIdentity>(text).unwrap(), identity);
    assert!(
        serde_json::from_str::<ProcessIdentity>(r#"{"pid":7,"start_time":99,"boot_id":"b","x":1}"#).is_err()
    );
}
