//! The schema of protocol version 1 and of the first guest document, frozen as examples.
//!
//! A file under `schema/v1` never changes: what it shows is spoken by guests and hosts that are out there.
//! A new field or message gets a new file, or a new version.

use mvm_wire::document::mounts::{Address, HostEntry, Interface, Mount, MountSource};
use mvm_wire::document::services::{Group, HealthCheck, Limits as ServiceLimits, Restart, Service, User};
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
        services: vec![],
        health_checks: vec![],
        users: vec![],
        service_group: None,
        writable_store: None,
        mounts: vec![],
        secrets: vec![],
        interface: None,
    }
}

/// A document with everything that the first one lacked.
fn services() -> GuestDocument {
    let named = |name: &str| Process { name: name.into(), ..process() };
    let mount = |target: &str, source, read_only| Mount { target: target.into(), source, read_only };
    let group = |name: &str, gid| Group { name: name.into(), gid };
    let mut document = document();
    document.roots.truncate(1);
    document.roots[0].overlay = Overlay::None {};
    GuestDocument {
        processes: vec![],
        services: vec![
            Service {
                process: named("web"),
                pre_start: vec!["/bin/mkdir".into(), "/run/web".into()],
                after: vec!["db".into()],
                restart: Restart::OnFailure,
                log_file: Some("/var/log/web".into()),
                stop_grace_ms: 10_000,
                limits: ServiceLimits { memory_mib: Some(64), pids: Some(100), cpu_percent: Some(50) },
            },
            Service {
                process: named("db"),
                pre_start: vec![],
                after: vec![],
                restart: Restart::Always,
                log_file: None,
                stop_grace_ms: 5_000,
                limits: ServiceLimits::default(),
            },
        ],
        health_checks: vec![HealthCheck {
            process: named("http"),
            service: Some("web".into()),
            interval_ms: 30_000,
            timeout_ms: 10_000,
            start_period_ms: 0,
            retries: 3,
        }],
        users: vec![User {
            name: "ann".into(),
            uid: 1000,
            group: group("ann", 1000),
            home: "/home/ann".into(),
        }],
        service_group: Some(group("mvm", 900)),
        mounts: vec![
            mount("/mnt/data", MountSource::Volume { serial: "volume-0".into() }, false),
            mount("/src", MountSource::HostDirectory { tag: "dir-0".into() }, true),
            mount("/scratch", MountSource::Tmpfs { size_mib: 16 }, false),
        ],
        secrets: vec!["token".into()],
        interface: Some(Interface {
            name: "eth0".into(),
            addresses: vec![Address { address: [10, 0, 2, 15].into(), prefix: 24 }],
            gateways: vec![[10, 0, 2, 2].into()],
            resolvers: vec![[10, 0, 2, 3].into()],
            hosts: vec![HostEntry { address: [192, 0, 2, 1].into(), name: "example.org".into() }],
            mtu: Some(1500),
        }),
        ..document
    }
}

/// A document with an image beside its root.
fn mounted_image() -> GuestDocument {
    let mut document = document();
    document.roots.truncate(1);
    let verity = document.roots[0].verity.clone();
    let source = MountSource::Image { serial: "image-0".into(), filesystem: Filesystem::Erofs, verity };
    GuestDocument {
        mounts: vec![Mount { target: "/mnt/source".into(), source, read_only: true }],
        ..document
    }
}

/// A document with a store that is written to.
fn writable_store() -> GuestDocument {
    let mut document = document();
    document.roots.truncate(1);
    let source = MountSource::Overlay { serial: "volume-0".into() };
    GuestDocument {
        writable_store: Some("/nix/store/x-nix/bin/nix-store".into()),
        mounts: vec![Mount { target: "/nix".into(), source, read_only: false }],
        ..document
    }
}

fn facts() -> BootFacts {
    BootFacts {
        kernel: "6.1.0-56-cloud-amd64".into(),
        machine: "x86_64".into(),
        boot_ms: 640,
        cpus: 2,
        memory_kib: 240_000,
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
        ("event-ready", event(GuestEvent::Ready { facts: facts() })),
        ("event-exited-code", event(GuestEvent::Exited { handle: 1, status: ExitStatus::Code(3) })),
        ("event-exited-signal", event(GuestEvent::Exited { handle: 2, status: ExitStatus::Signal(9) })),
        (
            "event-failed",
            event(GuestEvent::Failed { stage: BootStage::Verity, message: "no such target".into() }),
        ),
        ("request-secret", request(7, Request::Secret { name: "token".into(), stream: StreamId::new(8) })),
        (
            "request-start-services",
            request(
                8,
                Request::StartServices {
                    outputs: vec![ServiceOutput { service: "web".into(), stream: StreamId::new(10) }],
                },
            ),
        ),
        ("request-services", request(9, Request::Services {})),
        ("request-set-time", request(10, Request::SetTime { unix_ns: 1_700_000_000_000_000_000 })),
        (
            "request-connect",
            request(11, Request::Connect { port: 80, transport: Transport::Tcp, stream: StreamId::new(12) }),
        ),
        (
            "request-pack",
            request(12, Request::Pack { path: "/srv".into(), follow: false, stream: StreamId::new(14) }),
        ),
        (
            "request-nar",
            request(
                18,
                Request::Nar {
                    paths: vec!["qa1w9gdfrba6jl2r57mb3c43863gqywp-hello".into()],
                    stream: StreamId::new(18),
                },
            ),
        ),
        (
            "request-unpack",
            request(13, Request::Unpack { path: "/srv".into(), owners: true, stream: StreamId::new(16) }),
        ),
        ("request-stat", request(14, Request::Stat { path: "/srv".into() })),
        ("request-pause", request(15, Request::Pause {})),
        ("request-resume", request(16, Request::Resume {})),
        ("request-hold", request(19, Request::Hold {})),
        ("request-attach", request(17, Request::Attach { process: "main".into(), streams })),
        (
            "response-services",
            response(
                9,
                Ok(Reply::Services { services: vec![service_status()], health: vec![health_status()] }),
            ),
        ),
        ("response-file", response(14, Ok(Reply::File { kind: Some(FileKind::Directory) }))),
        (
            "event-changed",
            event(GuestEvent::Changed { services: vec![service_status()], health: vec![health_status()] }),
        ),
        ("event-ended", event(GuestEvent::Ended { message: "the machine was killed".into() })),
    ]
}

fn documents() -> [(&'static str, GuestDocument); 4] {
    [
        ("guest-document", document()),
        ("guest-document-services", services()),
        ("guest-document-image", mounted_image()),
        ("guest-document-store", writable_store()),
    ]
}

fn service_status() -> ServiceStatus {
    ServiceStatus {
        name: "web".into(),
        state: ServiceState::Backoff,
        pid: Some(43),
        restarts: 2,
        last_exit: Some(ExitStatus::Code(1)),
        reason: Some("exited with code 1".into()),
        since_ms: 250,
        memory_kib: Some(1024),
        cpu_ms: Some(20),
    }
}

fn health_status() -> HealthStatus {
    let result =
        |outcome, output: &str| HealthResult { ago_ms: 500, took_ms: 20, outcome, output: output.into() };
    HealthStatus {
        name: "http".into(),
        service: Some("web".into()),
        health: Health::Unhealthy,
        failing: 3,
        results: vec![
            result(HealthOutcome::Ended(ExitStatus::Signal(9)), "refused"),
            result(HealthOutcome::TimedOut, ""),
            result(HealthOutcome::NotStarted("\"curl\" is not in the root".into()), ""),
        ],
    }
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
    for (name, document) in documents() {
        let golden = golden(name);
        assert_eq!(pretty(&document), golden, "{name}");
        assert_eq!(GuestDocument::parse(golden.as_bytes()).unwrap(), document, "{name}");
    }
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
        S::Mounts,
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
    let names = messages().into_iter().map(|(name, _)| name).chain(documents().map(|(name, _)| name));
    let names = names.chain(["words"]);
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
