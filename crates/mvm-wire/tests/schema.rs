//! The schema of protocol version 1 and of the first guest document, frozen as one example each.
//!
//! A file under `schema/v1` never changes: what it shows is spoken by guests and hosts that are out there.
//! A new field or message gets a new file, or a new version.

use mvm_wire::document::{HashAlgorithm, Schema};
use mvm_wire::message::Decoded;
use mvm_wire::*;
use std::collections::BTreeSet;
use std::path::Path;

fn process() -> Process {
    Process {
        name: "main".into(),
        root: "root".into(),
        argv: vec!["/bin/sh".into(), "-c".into(), "echo \"hé\"".into()],
        env: vec!["PATH=/bin".into(), "A=1".into()],
        working_dir: "/srv".into(),
        user: "www-data:1000".into(),
        stop_signal: 15,
        terminal: false,
    }
}

fn document() -> GuestDocument {
    let verity = Verity {
        root_hash: Hex::new((0..32).collect::<Vec<u8>>()),
        salt: Hex::new([0xab; 32]),
        data_blocks: 1000,
        hash_start_block: 1000,
        algorithm: HashAlgorithm::Sha256,
        block_size: 4096,
    };
    let root = Root {
        name: "root".into(),
        disk: "root".into(),
        filesystem: Filesystem::Erofs,
        verity,
        overlay: Overlay::Disk { serial: "scratch".into() },
    };
    let other = Root {
        name: "other".into(),
        disk: "other".into(),
        filesystem: Filesystem::Squashfs,
        overlay: Overlay::Tmpfs { size_mib: 64 },
        ..root.clone()
    };
    GuestDocument {
        schema: Schema::V1,
        hostname: "web-1".into(),
        roots: vec![root, other],
        processes: vec![process()],
    }
}

fn messages() -> Vec<(&'static str, Message)> {
    let request = |id, request| Message::Request { id, request };
    let response = |id, result| Message::Response { id, result };
    let event = |event| Message::Event { event };
    let streams = Streams {
        stdin: Some(StreamId::new(2)),
        stdout: Some(StreamId::new(4)),
        stderr: Some(StreamId::new(6)),
        terminal: None,
    };
    let terminal = Streams { stderr: None, terminal: Some(WindowSize { rows: 50, cols: 132 }), ..streams };
    let facts = BootFacts {
        kernel: "6.1.0-56-cloud-amd64".into(),
        machine: "x86_64".into(),
        boot_ms: 640,
        cpus: 2,
        memory_kib: 240_000,
    };
    let status = Reply::Status {
        uptime_ms: 65_000,
        memory: Memory { total_kib: 240_000, available_kib: 120_000 },
        processes: vec![ProcessStatus { handle: 1, pid: 42, name: "main".into(), terminal: false }],
    };
    let failure = Failure { kind: FailureKind::NotFound, message: "\"nginx\" is not in the root".into() };
    vec![
        (
            "hello",
            Message::Hello(Hello { min_version: 1, max_version: 1, software: "mvm-guest 0.1.0".into() }),
        ),
        ("request-start", request(1, Request::Start { process: "main".into(), streams })),
        (
            "request-start-detached",
            request(1, Request::Start { process: "main".into(), streams: Streams::default() }),
        ),
        (
            "request-exec",
            request(2, Request::Exec { process: Process { terminal: true, ..process() }, streams: terminal }),
        ),
        ("request-signal", request(3, Request::Signal { handle: 1, signal: 2 })),
        ("request-resize", request(4, Request::Resize { handle: 1, rows: 24, cols: 80 })),
        ("request-stop", request(5, Request::Stop { grace_ms: 10_000 })),
        ("request-status", request(6, Request::Status {})),
        ("response-started", response(1, Ok(Reply::Started { handle: 1, pid: 42 }))),
        ("response-done", response(3, Ok(Reply::Done {}))),
        ("response-status", response(6, Ok(status))),
        ("response-error", response(2, Err(failure))),
        ("event-ready", event(GuestEvent::Ready { facts })),
        ("event-exited-code", event(GuestEvent::Exited { handle: 1, status: ExitStatus::Code(3) })),
        ("event-exited-signal", event(GuestEvent::Exited { handle: 2, status: ExitStatus::Signal(9) })),
        (
            "event-failed",
            event(GuestEvent::Failed { stage: BootStage::Verity, message: "no such target".into() }),
        ),
        ("event-ended", event(GuestEvent::Ended { message: "the machine was killed".into() })),
    ]
}

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/v1").join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pretty<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}

#[test]
fn messages_are_as_frozen() {
    for (name, message) in messages() {
        let golden = golden(name);
        assert_eq!(pretty(&message), golden, "{name}");
        assert_eq!(Message::decode(golden.as_bytes()).unwrap(), Decoded::Message(message), "{name}");
    }
}

#[test]
fn document_is_as_frozen() {
    let golden = golden("guest-document");
    assert_eq!(pretty(&document()), golden);
    assert_eq!(GuestDocument::parse(golden.as_bytes()).unwrap(), document());
}

#[test]
fn words_are_as_frozen() {
    use {BootStage as S, FailureKind as F};
    let kinds =
        [F::NotFound, F::NotExecutable, F::NoSuchUser, F::Invalid, F::Unsupported, F::Limit, F::Internal];
    let stages = [
        S::KernelFilesystems,
        S::Modules,
        S::Document,
        S::Disks,
        S::Verity,
        S::Root,
        S::Overlay,
        S::Prepare,
        S::Network,
        S::Agent,
    ];
    let filesystems = [Filesystem::Erofs, Filesystem::Squashfs, Filesystem::Ext4];
    let words = serde_json::json!({ "failure-kind": kinds, "boot-stage": stages, "filesystem": filesystems });
    assert_eq!(pretty(&words), golden("words"));
    for stage in stages {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.to_string());
    }
}

#[test]
fn every_frozen_file_is_compared() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/v1");
    let files: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let names = messages().into_iter().map(|(name, _)| name).chain(["guest-document", "words"]);
    assert_eq!(files, names.map(|name| format!("{name}.json")).collect());
}

#[test]
fn versions_are_negotiated() {
    let hello =
        |min_version, max_version| Hello { min_version, max_version, software: format!("v{max_version}") };
    assert_eq!(negotiate(&hello(1, 1), &hello(1, 1)), Ok(1));
    assert_eq!(negotiate(&hello(1, 3), &hello(2, 9)), Ok(3));
    assert_eq!(negotiate(&hello(2, 9), &hello(1, 3)), Ok(3));
    let error = negotiate(&hello(1, 2), &hello(3, 4)).unwrap_err();
    assert_eq!(error.to_string(), "no protocol version in common: v2 speaks 1 to 2, v4 speaks 3 to 4");
}
