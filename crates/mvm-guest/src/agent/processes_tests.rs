use super::*;
use mvm_wire::{Limits, Role};
use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

fn stream(id: u32) -> StreamId {
    StreamId::new(id)
}

/// Adds a process that is not there, with these streams.
fn add(processes: &mut Processes, streams: OwnStreams, ids: &Streams) -> u32 {
    let spawned = Spawned { pid: Pid::from_raw(i32::MAX).unwrap(), streams };
    processes.add(spawned, ("test".to_owned(), 15, false), ids)
}

/// Ends the process, and returns what is told of that.
fn end(processes: &mut Processes, wire: &mut Connection, handle: u32) -> Vec<(u32, ExitStatus, bool)> {
    processes.running.get_mut(&handle).unwrap().ended = Some(ExitStatus::Code(1));
    processes.pump(wire);
    processes.take_ended(wire)
}

#[test]
fn a_process_whose_output_is_given_up_cannot_write_it() {
    let mut wire = Connection::new(Role::Guest, Limits::default());
    let mut processes = Processes::default();
    let pipe = || pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let ((out, out_end), (err, err_end)) = (pipe(), pipe());
    let own = OwnStreams::Pipes { stdin: None, stdout: Some(out), stderr: Some(err) };
    let ids = Streams { stdout: Some(stream(1)), stderr: Some(stream(3)), ..Streams::default() };
    let handle = add(&mut processes, own, &ids);

    processes.take_reset(&mut wire, stream(1));
    assert_eq!(write(&out_end, b"x"), Err(Errno::PIPE));
    assert_eq!(write(&err_end, b"x"), Ok(1), "the other output goes on");
    drop(err_end);
    processes.take_reset(&mut wire, stream(3));
    assert_eq!(end(&mut processes, &mut wire, handle), [(handle, ExitStatus::Code(1), false)]);
}

#[test]
fn a_terminal_whose_output_is_given_up_hangs_up() {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let Ok(master) = openpt(flags) else {
        println!("skipped: this machine has no /dev/ptmx");
        return;
    };
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let theirs = slave.try_clone().unwrap();
    let mut wire = Connection::new(Role::Guest, Limits::default());
    let mut processes = Processes::default();
    let ids = Streams { stdin: Some(stream(1)), stdout: Some(stream(3)), ..Streams::default() };
    let handle = add(&mut processes, OwnStreams::Terminal { master, slave }, &ids);

    assert_eq!(write(&theirs, b"x"), Ok(1));
    processes.take_reset(&mut wire, stream(3));
    assert_eq!(write(&theirs, b"x"), Err(Errno::IO));
    assert_eq!(end(&mut processes, &mut wire, handle), [(handle, ExitStatus::Code(1), false)]);
}
