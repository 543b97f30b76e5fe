use super::*;
use crate::engine::tests::{Fixture, fixture, has};
use crate::link::tests::Peer;
use crate::policies::PolicySource;
use mvm_plan::Isolation;
use mvm_plan::plan::{
    FileSystem, Initramfs, Kernel, Network, Plan, Posture, Process, RequiredIsolation, Resources, Root,
    Schema, Scratch, Source, Validity,
};
use mvm_plan::policy::Rule;
use mvm_ref::{ImageSource, Platform};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::json;
use std::net::Shutdown;
use std::time::Duration;

fn named(policy: &str) -> PolicySource {
    PolicySource::Named(policy.to_owned())
}

/// A VM that is ready to be launched, on a hypervisor that does nothing.
pub(in crate::supervisor) struct Vm {
    pub fixture: Fixture,
    pub directory: VmDirectory,
    pub record: Record,
    pub image: ImageSource,
}

/// Makes a VM; `change` may spoil its plan and record. Nothing if this machine lacks a program.
pub(in crate::supervisor) fn vm(change: impl FnOnce(&mut Plan, &mut Record)) -> Option<Vm> {
    if !has("mke2fs", "e2fsprogs") {
        return None;
    }
    let fixture = fixture();
    // Confined like the real one, a script can run no other program.
    fixture.program("qemu-system-x86_64", "echo 'warning: a test' >&2; kill -STOP $$");
    let kernel = fixture.kernel("6.1.0");
    let image = fixture.layout("layout", "hello\n", &json!({"Cmd": ["/hello"]}));
    let pulled = fixture.pull(&image);
    let engine = &fixture.engine;
    let base = engine.base_initramfs(&engine.kernel(&kernel).unwrap()).unwrap();
    let now = clock::unix_seconds();
    let mut plan = Plan {
        schema: Schema::V1,
        workload: "web".parse().unwrap(),
        scope: engine.settings.scope.clone(),
        posture: Posture::Compatible,
        source: Source::Oci {
            requested: "debian:12".parse().unwrap(),
            manifest: pulled.manifest,
            config: pulled.config_digest,
            platform: Platform::host(),
            mutable_tag: true,
        },
        root: Root {
            root_hash: pulled.root_hash,
            generation: mvm_image::GENERATION,
            data_blocks: pulled.data_blocks,
            hash_start: pulled.hash_start,
            size: pulled.size,
            fs: FileSystem::Erofs,
        },
        kernel: Kernel { digest: kernel, version: "6.1.0".to_owned(), record: None },
        initramfs: Initramfs { digest: Digest::of(&base) },
        process: Some(Process {
            argv: vec!["/hello".to_owned()],
            env: vec![],
            working_dir: "/".to_owned(),
            user: String::new(),
            stop_signal: "SIGTERM".parse().unwrap(),
            tty: false,
            stdin: false,
        }),
        services: Vec::new(),
        health_checks: Vec::new(),
        users: Vec::new(),
        service_group: None,
        writable_store: None,
        mounts: Vec::new(),
        secrets: Vec::new(),
        hostname: "web".to_owned(),
        resources: Resources { cpus: 1, memory_mib: 256, scratch_mib: 64, scratch: Scratch::Disk },
        network: Network::None,
        ports: Vec::new(),
        isolation: RequiredIsolation::Any,
        validity: Validity { not_before: now - 60, not_after: now + 600 },
        single_use: false,
    };
    let mut record = Record {
        name: "web".parse().unwrap(),
        scope: engine.settings.scope.clone(),
        image: image.to_string(),
        root_hash: pulled.root_hash,
        plan: Digest::of(b"not yet"),
        policy: vec![],
        command: vec!["/hello".to_owned()],
        created_at: now,
        remove_at_end: false,
        secrets: Vec::new(),
        restart: crate::vm::RestartPolicy::No,
        project: None,
        generation: 1,
    };
    change(&mut plan, &mut record);
    let local = engine.key_store().local().unwrap();
    let signed = mvm_plan::sign(plan, &[&local]).unwrap();
    record.plan = signed.digest();
    let directory = engine.vms.create(&record).unwrap();
    fs::write(directory.file(vm::PLAN), signed.as_bytes()).unwrap();
    Some(Vm { fixture, directory, record, image })
}

/// The other ends of what a supervisor holds.
pub(in crate::supervisor) struct Ends {
    pub agent: UnixStream,
    pub console: UnixStream,
    /// A byte here is a `SIGTERM` there.
    pub signals: UnixStream,
    pub hypervisor: Hypervisor,
}

/// Ends the hypervisor when it goes, so that a test which fails doesn't wait for it.
pub(in crate::supervisor) struct Hypervisor(Pid);

impl Drop for Hypervisor {
    fn drop(&mut self) {
        // Until its supervisor is dropped, it has not been reaped, and the number is its own.
        rustix::process::kill_process(self.0, Signal::KILL).ok();
    }
}

/// Launches a VM and puts its supervisor together, with pipes that the test holds.
pub(in crate::supervisor) fn supervisor(vm: &Vm, detached: bool) -> (Supervisor, AdmittedPlan, Ends) {
    let mut launched = launch(&vm.fixture.engine, &vm.directory, &vm.record, 0).unwrap();
    let machine = &mut launched.started.machine;
    while machine.stderr().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let hypervisor = Hypervisor(Pid::from_raw(machine.pid().try_into().unwrap()).unwrap());
    let pair = || UnixStream::pair().unwrap();
    let ((agent, their_agent), (console, their_console), (signals, their_signals)) = (pair(), pair(), pair());
    console.set_nonblocking(true).unwrap();
    launched.started.agent = agent;
    launched.started.console = console.into();
    let announcement = detached.then_some(Handshake::Started { notice: None });
    let (supervisor, plan) = launched
        .into_supervisor(&vm.fixture.engine, &vm.directory, announcement, signals, Vec::new())
        .unwrap();
    let ends = Ends { agent: their_agent, console: their_console, signals: their_signals, hypervisor };
    (supervisor, plan, ends)
}

/// Serves a VM to its end, and returns why it ended before its time, if it did.
///
/// `guest` plays the agent; the hypervisor ends with it. `client` plays all who talk to the supervisor.
pub(in crate::supervisor) fn serve(
    vm: &Vm,
    detached: bool,
    guest: impl FnOnce(&mut Peer, &mut UnixStream) + Send,
    client: impl FnOnce(&VmDirectory, &mut UnixStream) + Send,
) -> Option<String> {
    let (mut supervisor, plan, ends) = supervisor(vm, detached);
    let Ends { agent, mut console, mut signals, hypervisor } = ends;
    let words = std::thread::scope(|scope| {
        let pipe = agent.try_clone().unwrap();
        let pidfd = rustix::process::pidfd_open(hypervisor.0, PidfdFlags::empty()).unwrap();
        scope.spawn(move || {
            // As with a real one, its end is the end of the agent's pipe.
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
            pipe.shutdown(Shutdown::Both).ok();
        });
        scope.spawn(move || {
            let _ended_last = hypervisor;
            let mut agent = Peer::silent(agent, Role::Guest);
            guest(&mut agent, &mut console);
        });
        scope.spawn(|| client(&vm.directory, &mut signals));
        let outcome = supervisor.run();
        let words = outcome.as_ref().err().map(|error| chain(error));
        end(&vm.fixture.engine, supervisor, &vm.record, &plan, outcome, false).unwrap();
        words
    });
    assert!(vm.fixture.engine.scope.leases().unwrap().is_empty());
    vm.fixture.engine.audit_verify().unwrap();
    words
}

#[test]
fn a_launch_is_on_record_before_it_happens() {
    let Some(vm) = vm(|_, _| {}) else { return };
    let before = vm.fixture.events().len();
    let (supervisor, plan, _ends) = supervisor(&vm, false);
    let initrd = fs::read(vm.directory.file(vm::INITRD)).unwrap();
    let engine = &vm.fixture.engine;
    let kernel = engine.choose_kernel(None).unwrap();
    let base = engine.base_initramfs(&kernel).unwrap();
    let (base_of, document) = initrd.split_at(base.len());
    assert!(base_of == base);
    let [admit, launch] = &vm.fixture.events()[before..] else { panic!() };
    let (digest, nonce) = (vm.record.plan, plan.nonce());
    let signers = vec![engine.key_store().local().unwrap().public_key().id()];
    let isolation = Isolation::Emulated;
    assert_eq!(
        *admit,
        Event::Admit { plan: digest, policy: "development".to_owned(), signers, isolation, nonce }
    );
    let guest_document = Digest::of(document);
    let state = vm.directory.state().unwrap();
    let active = state.confinement.iter().filter(|known| known.active);
    let confinement: BTreeSet<String> = active.map(|known| known.measure.to_string()).collect();
    assert!(confinement.contains("no-new-privs"), "{confinement:?}");
    let name = vm.record.name.clone();
    assert_eq!(*launch, Event::Launch { vm: name, plan: digest, nonce, guest_document, confinement });

    assert_eq!((state.phase, state.isolation.as_deref()), (Phase::Booting, Some("emulated")));
    assert_eq!(state.supervisor, ProcessIdentity::current().unwrap());
    assert_eq!(state.hypervisor.unwrap(), ProcessIdentity::of(supervisor.machine.pid()).unwrap());
    let leases: Vec<String> = engine.scope.leases().unwrap().into_iter().map(|lease| lease.holder).collect();
    assert_eq!(leases, ["vm:web"]);
    let removed = engine.remove_image(&vm.image.to_string());
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn what_the_plan_does_not_allow_is_not_launched() {
    type Change = fn(&mut Plan, &mut Record);
    let table: [(&str, Change, ErrorKind, Rule); 9] = [
        (
            "a stricter policy",
            |_, record| record.policy = vec![named("production")],
            ErrorKind::Refused,
            Rule::ReleaseKey,
        ),
        (
            "a policy that is not known",
            |_, record| record.policy = vec![named("lax")],
            ErrorKind::Usage,
            Rule::ReadablePolicy,
        ),
        (
            "a policy that is not there",
            |_, record| record.policy = vec![PolicySource::File("/nonexistent/policy.toml".into())],
            ErrorKind::Refused,
            Rule::ReadablePolicy,
        ),
        (
            "a plan of yesterday",
            |plan, _| plan.validity = Validity { not_before: 0, not_after: 1 },
            ErrorKind::Refused,
            Rule::NotAfter,
        ),
        (
            "a plan for another scope",
            |plan, _| plan.scope = "other".parse().unwrap(),
            ErrorKind::Refused,
            Rule::PlanScope,
        ),
        (
            "another initramfs",
            |plan, _| plan.initramfs.digest = Digest::of(b""),
            ErrorKind::Verification,
            Rule::InitramfsDigest,
        ),
        (
            "a kernel that is not here",
            |plan, _| plan.kernel.digest = Digest::of(b""),
            ErrorKind::NotFound,
            Rule::KernelDigest,
        ),
        (
            "an image that is not here",
            |plan, _| plan.root.root_hash = Digest::of(b""),
            ErrorKind::NotFound,
            Rule::RootImage,
        ),
        (
            "an image of another shape",
            |plan, _| plan.root.size += 4096,
            ErrorKind::Verification,
            Rule::RootImage,
        ),
    ];
    for (case, change, kind, rule) in table {
        let Some(vm) = vm(change) else { return };
        let before = vm.fixture.events().len();
        let error = launch(&vm.fixture.engine, &vm.directory, &vm.record, 0).err().unwrap();
        assert_eq!(error.kind(), kind, "{case}: {}", chain(&error));
        assert_eq!(vm.directory.state().unwrap().phase, Phase::Created, "{case}");
        let told = vm.fixture.events().split_off(before);
        let [Event::Refuse { plan: Some(plan), rules, .. }] = &told[..] else { panic!("{case}: {told:?}") };
        assert_eq!((*plan, rules[0]), (vm.record.plan, rule), "{case}");
    }
}

#[test]
fn a_refusal_names_the_rules_and_what_satisfies_them() {
    let Some(vm) = vm(|_, record| record.policy = vec![named("production")]) else { return };
    let error = launch(&vm.fixture.engine, &vm.directory, &vm.record, 0).err().unwrap();
    let Some(Event::Refuse { rules, policy, .. }) = vm.fixture.events().pop() else { panic!() };
    assert_eq!(policy, "production");
    assert_eq!(rules, [Rule::ReleaseKey, Rule::PinnedImage, Rule::HardwareIsolation]);
    let hint = error.hint().unwrap();
    for words in
        ["sign the plan with a trusted key", "ask for it by digest", "run it on a host where KVM works"]
    {
        assert!(hint.contains(words), "{hint}");
    }
    assert!(matches!(FailureKind::from(error.kind()), FailureKind::Refused));
}

#[test]
fn too_little_memory_and_changed_files_are_found_before_the_start() {
    let Some(vm) = vm(|plan, _| plan.resources.memory_mib = 64) else { return };
    let error = launch(&vm.fixture.engine, &vm.directory, &vm.record, 0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.hint().unwrap(), "--memory 87m or more", "{error}");

    let Some(vm) = self::vm(|_, _| {}) else { return };
    let kernel = vm.fixture.engine.choose_kernel(None).unwrap().image();
    fs::set_permissions(&kernel, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&kernel, b"another").unwrap();
    let error = launch(&vm.fixture.engine, &vm.directory, &vm.record, 0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");

    let Some(vm) = self::vm(|_, _| {}) else { return };
    fs::write(vm.directory.file(vm::PLAN), b"{}").unwrap();
    let error = launch(&vm.fixture.engine, &vm.directory, &vm.record, 0).err().unwrap();
    assert!(matches!(error, EngineError::Plan { act: "read", .. }), "{error:?}");
}

#[test]
fn kinds_of_failure_survive_the_handshake() {
    let kinds = [
        (ErrorKind::Refused, ErrorKind::Refused, "refused"),
        (ErrorKind::Missing, ErrorKind::Missing, "missing"),
        (ErrorKind::Verification, ErrorKind::Verification, "verification"),
        (ErrorKind::Failure, ErrorKind::Failure, "failure"),
        (ErrorKind::NotFound, ErrorKind::Failure, "failure"),
    ];
    for (kind, expected, word) in kinds {
        let hint = Some("do".to_owned());
        let said = Handshake::Failed { message: "m".to_owned(), kind: kind.into(), hint };
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(text, format!(r#"{{"failed":{{"message":"m","kind":"{word}","hint":"do"}}}}"#));
        let Handshake::Failed { kind, .. } = serde_json::from_str(&text).unwrap() else { panic!() };
        assert_eq!(ErrorKind::from(kind), expected);
    }
}
