//! Guests that keep to no rules: a program of ours that speaks the protocol as it likes, or not at all, is the first
//! process of a real machine. Whatever it does ends as it should, holds up nobody, and costs the supervisor little.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Output, ProcessError, holders};
use mvm_tests::sandbox::Sandbox;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::services::{launch_plan, service, signed_plan, until};
use crate::{BUSYBOX, Case, GCC, Outcome, UMOCI, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX, GCC];

pub const CASES: &[Case] = &[
    Case { name: "hostile_guest::before_it_is_ready", needs: NEEDS, run: before },
    Case { name: "hostile_guest::that_breaks_the_protocol", needs: NEEDS, run: broken },
    Case { name: "hostile_guest::that_floods_or_falls_silent", needs: NEEDS, run: floods },
    Case { name: "hostile_guest::when_it_is_to_stop", needs: NEEDS, run: stops },
    Case { name: "hostile_guest::with_connections_forwarded", needs: NEEDS, run: forwards },
    Case { name: "hostile_guest::with_connections_that_break_off", needs: NEEDS, run: broken_off },
];

/// What a guest may have its supervisor hold beyond what one holds for a guest that behaves, in KiB.
const MOST: u64 = 16 * 1024;
/// How long what answers at once, or within seconds, may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes of an act.
#[derive(Clone, Copy)]
enum Fate {
    /// The launch fails, with these words.
    Launch(&'static str),
    /// It never boots, and is stopped.
    Boot,
    /// The VM fails with these words, during the launch or after it.
    Fails(&'static str),
    /// It runs until it is stopped, and then ends with these words, or in order.
    Runs(Option<&'static str>),
    /// It ends by itself, with this exit code.
    Exits(u8),
}

/// A store that knows the hostile guest, and what a supervisor holds for one that behaves.
struct Scene {
    sandbox: Sandbox,
    image: String,
    digest: String,
    /// The most that a supervisor has held, in KiB.
    usual: u64,
}

impl Scene {
    fn new() -> Result<Self, Failed> {
        let sandbox = Sandbox::with_kernel()?;
        let image = format!("oci:{}:latest", fixtures::busybox()?.display());
        sandbox.mvmctl(["run", "-d", "--name", "real", &image, "sleep", "1000"]).run()?.ok()?;
        let initramfs = fs::read(sandbox.store().join("vms/real/initrd.cpio"))?;
        sandbox.mvmctl(["vm", "rm", "--force", "real"]).run()?.ok()?;
        let initramfs = fixtures::hostile::initramfs(&initramfs, sandbox.path())?;
        let hex: String = Sha256::digest(&initramfs).iter().map(|byte| format!("{byte:02x}")).collect();
        // Where a plan from elsewhere has its own.
        fs::create_dir_all(sandbox.store().join("initramfs"))?;
        fs::write(sandbox.store().join(format!("initramfs/{hex}.cpio")), initramfs)?;
        let mut scene = Self { sandbox, image, digest: format!("sha256:{hex}"), usual: u64::MAX - MOST };
        scene.usual = scene.play("well_behaved", Fate::Runs(None))?;
        Ok(scene)
    }

    /// Signs a plan by which the guest does this, after a further change.
    fn plan(&self, act: &str, change: impl FnOnce(&mut Value)) -> Result<String, Failed> {
        signed_plan(&self.sandbox, &self.image, &[act], |plan| {
            plan["initramfs"]["digest"] = json!(self.digest);
            change(plan);
        })
    }

    fn state_file(&self) -> PathBuf {
        self.sandbox.store().join("vms/vm/state.json")
    }

    fn state(&self) -> Result<Value, Failed> {
        Ok(serde_json::from_slice(&fs::read(self.state_file())?)?)
    }

    /// Waits until the VM is in one of these phases.
    fn phase(&self, phases: &[&str]) -> Result<Value, Failed> {
        // While it is made it has no state.
        let state = || Ok(self.state().unwrap_or_default());
        until(state, |state| state["phase"].as_str().is_some_and(|phase| phases.contains(&phase)))
    }

    fn status(&self) -> Result<Value, Failed> {
        let text = self.sandbox.mvmctl(["vm", "status", "--json", "vm"]).limit(PATIENCE).run()?.ok()?.out();
        Ok(serde_json::from_str(&text)?)
    }

    fn stop(&self) -> Outcome {
        self.sandbox.mvmctl(["stop", "-t", "1", "vm"]).limit(PATIENCE).run()?.ok()?;
        Ok(())
    }

    /// Has the guest do something, and looks at what comes of it. Returns the most that the supervisor held, in KiB.
    fn play(&self, act: &str, fate: Fate) -> Result<u64, Failed> {
        // Some tell of a service, which must be the plan's.
        let plan = self.plan(act, |plan| plan["services"] = json!([service("web", "mvm", "exit 0")]))?;
        let watch = Watch::begin(self.state_file());
        let played = self.meet(&plan, fate);
        let held = watch.end();
        played.map_err(|failed| named(act, &failed))?;
        self.clear_up().map_err(|failed| named(act, &failed))?;
        ensure!(held > 0, "{act}: nobody has seen what the supervisor held");
        ensure!(held <= self.usual + MOST, "{act}: the supervisor held {held} KiB, usual are {}", self.usual);
        Ok(held)
    }

    fn meet(&self, plan: &str, fate: Fate) -> Outcome {
        match fate {
            Fate::Launch(words) => {
                let refused = self.launch(plan)?.exits(125)?.err();
                ensure!(refused.starts_with(&format!("mvmctl: {words}")), "{refused}");
                ensure!(refused.lines().count() == 1 && refused.len() < 5000, "{refused}");
                ensure!(!refused.trim_end().contains(char::is_control), "{refused:?}");
            }
            Fate::Boot => {
                let launched = std::thread::scope(|scope| {
                    let launch = scope.spawn(|| self.launch(plan));
                    let stopped = self.phase(&["booting"]).and_then(|_| {
                        std::thread::sleep(Duration::from_secs(1));
                        ensure_eq!(self.status()?["phase"], "booting");
                        self.stop()
                    });
                    let launched = launch.join().map_err(|_| Failed::from("a panic"));
                    stopped.and(launched)
                });
                let words = "mvmctl: the VM was stopped before its command ran\n";
                ensure_eq!(launched??.exits(125)?.err(), words);
            }
            Fate::Fails(words) => {
                let launched = self.launch(plan)?;
                let told = match launched.code() {
                    // It may have failed before it was known to run.
                    125 => launched.err().trim_end().trim_start_matches("mvmctl: ").to_owned(),
                    _ => {
                        launched.ok()?;
                        let message = self.phase(&["failed"])?["message"].clone();
                        ensure_eq!(self.status()?["message"], message);
                        message.as_str().unwrap_or_default().to_owned()
                    }
                };
                ensure!(told.starts_with(words), "{told:?}, expected {words:?}");
                ensure!(told.len() < 2000, "{} bytes of words", told.len());
            }
            Fate::Runs(words) => {
                self.launch(plan)?.ok()?;
                std::thread::sleep(Duration::from_secs(1));
                ensure_eq!(self.status()?["phase"], "running");
                self.stop()?;
                let state = self.phase(&["exited", "failed"])?;
                ensure_eq!(state["message"].as_str(), words);
                ensure_eq!(state["phase"], if words.is_some() { "failed" } else { "exited" });
            }
            Fate::Exits(code) => {
                self.launch(plan)?.ok()?;
                let state = self.phase(&["exited", "failed"])?;
                ensure_eq!((&state["exit_code"], &state["message"]), (&json!(code), &Value::Null));
            }
        }
        Ok(())
    }

    fn launch(&self, plan: &str) -> Result<Output, ProcessError> {
        launch_plan(&self.sandbox, plan).limit(PATIENCE).run()
    }

    /// Removes the VM, after which nothing of it is left.
    fn clear_up(&self) -> Outcome {
        for vm in self.sandbox.vms()? {
            self.sandbox.mvmctl(["vm", "rm", &vm]).run()?.ok()?;
        }
        let left = || Ok(json!(holders(&self.sandbox.store())?));
        until(left, |left| left.as_array().is_some_and(Vec::is_empty))?;
        ensure_eq!(fs::read_dir(self.sandbox.store().join("vms"))?.count(), 0);
        Ok(())
    }
}

fn named(act: &str, failed: &Failed) -> Failed {
    format!("{act}: {}", failed.message().unwrap_or_default()).into()
}

/// Looks at how much memory the supervisor of a VM has held at most, every few milliseconds, since it may be gone soon.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watch {
    fn begin(state: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (mut most, mut pid) = (0, None);
            while !ended.load(Ordering::Relaxed) {
                // It is another one's until the supervisor has taken over.
                let read = || -> Option<Value> { serde_json::from_slice(&fs::read(&state).ok()?).ok() };
                pid = read().and_then(|state| state["supervisor"]["pid"].as_u64()).or(pid);
                most = pid.and_then(peak).unwrap_or(0).max(most);
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        Self { over, thread }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// Returns the most memory that a process has held, in KiB (proc(5), `VmHWM`).
fn peak(pid: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

const BROKEN: &str = "the guest's agent: the peer broke the protocol: ";

fn play_all(acts: &[(&str, Fate)]) -> Outcome {
    let scene = Scene::new()?;
    for (act, fate) in acts {
        scene.play(act, *fate)?;
    }
    scene.sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

fn before() -> Outcome {
    play_all(&[
        ("garbage", Fate::Launch(BROKEN)),
        ("silence", Fate::Boot),
        ("half_a_header", Fate::Boot),
        ("huge_length", Fate::Launch(BROKEN)),
        ("long_length", Fate::Launch(BROKEN)),
        ("endless_message", Fate::Boot),
        ("deep_message", Fate::Launch(BROKEN)),
        ("no_hello", Fate::Launch(BROKEN)),
        ("other_version", Fate::Launch("no protocol version in common: mvm supervisor ")),
        ("cannot_boot", Fate::Launch("the guest can't boot (stage verity): \u{fffd}[2Jxxx")),
        ("console_lines", Fate::Boot),
        ("console_line", Fate::Boot),
        ("panic", Fate::Launch("the guest's kernel panicked: ")),
        // What is kept of the console may begin within a line.
        ("long_panic", Fate::Launch("the guest's kernel panicked: ")),
        ("starts_nothing", Fate::Launch("the guest did not start its command within 30 seconds")),
    ])
}

fn broken() -> Outcome {
    play_all(&[
        ("unknown_credit", Fate::Fails(BROKEN)),
        ("much_credit", Fate::Fails(BROKEN)),
        ("many_streams", Fate::Fails(BROKEN)),
        ("garbage_in_streams", Fate::Fails(BROKEN)),
        ("large_code", Fate::Fails(BROKEN)),
        ("large_signal", Fate::Exits(255)),
        ("late_panic", Fate::Fails("the guest's kernel panicked: ")),
        ("quiet_end", Fate::Fails("the hypervisor ended unexpectedly (exit status: 0)")),
    ])
}

const LATE: &str = "the guest did not stop within 6 seconds";

fn floods() -> Outcome {
    play_all(&[
        ("stream_churn", Fate::Runs(None)),
        ("endless_output", Fate::Runs(None)),
        ("empty_lines", Fate::Runs(None)),
        ("health_flood", Fate::Runs(None)),
        ("service_flood", Fate::Runs(None)),
        ("event_flood", Fate::Runs(None)),
        // Those that read nothing don't hear that they are to stop.
        ("no_flow_control", Fate::Runs(Some(LATE))),
        ("request_flood", Fate::Runs(Some(LATE))),
        ("half_a_frame", Fate::Runs(Some(LATE))),
        ("never_reads", Fate::Runs(Some(LATE))),
        ("never_answers", Fate::Runs(Some(LATE))),
    ])
}

fn stops() -> Outcome {
    let scene = Scene::new()?;
    scene.play("stop_silence", Fate::Runs(Some(LATE)))?;
    scene.play("stop_flood", Fate::Runs(Some(LATE)))?;
    // What it does instead of stopping ends it, too.
    scene.play("stop_panic", Fate::Runs(None))?;
    let plan = scene.plan("stop_garbage", |_| {})?;
    scene.launch(&plan)?.ok()?;
    scene.stop()?;
    let message = scene.phase(&["failed"])?["message"].clone();
    ensure!(message.as_str().is_some_and(|message| message.starts_with(BROKEN)), "{message}");
    scene.clear_up()?;

    // A client whose input nobody takes ends with the VM, and has not cost much.
    let plan = scene.plan("never_reads", |_| {})?;
    let watch = Watch::begin(scene.state_file());
    scene.launch(&plan)?.ok()?;
    let stuck = std::thread::scope(|scope| {
        let input = vec![b'x'; 8 << 20];
        let stuck = scope
            .spawn(|| scene.sandbox.mvmctl(["exec", "-i", "vm", "cat"]).input(input).limit(PATIENCE).run());
        std::thread::sleep(Duration::from_secs(1));
        let stopped = scene.status().and_then(|_| scene.stop());
        stopped.and(stuck.join().map_err(|_| "a panic".into()))
    })??;
    ensure_eq!(stuck.code(), 125);
    let held = watch.end();
    ensure!(held <= scene.usual + MOST, "the supervisor held {held} KiB, usual are {}", scene.usual);
    scene.clear_up()
}

/// A guest that connects to all there is, sends all it may to peers that read nothing, and reads nothing itself.
fn forwards() -> Outcome {
    let scene = Scene::new()?;
    let port = |protocol: &str| json!({"address": "127.0.0.1", "host": 0, "guest": 80, "protocol": protocol});
    let plan = scene.plan("greedy_forwards", |plan| plan["ports"] = json!([port("tcp"), port("udp")]))?;
    let watch = Watch::begin(scene.state_file());
    scene.launch(&plan)?.ok()?;
    let state = scene.state()?;
    let address = |index: usize| {
        Ok::<_, Failed>((
            "127.0.0.1",
            u16::try_from(state["ports"][index]["host"].as_u64().ok_or("no port")?)?,
        ))
    };
    let mut peers = Vec::new();
    // As many as are served at a time, and some that wait.
    for _ in 0..170 {
        let peer = TcpStream::connect(address(0)?)?;
        peer.set_nonblocking(true)?;
        peers.push(peer);
    }
    let mut senders = Vec::new();
    for _ in 0..40 {
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        sender.connect(address(1)?)?;
        senders.push(sender);
    }
    let piece = vec![b'x'; 60_000];
    for _ in 0..10 {
        for peer in &mut peers {
            match peer.write(&piece) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
        }
        for sender in &senders {
            // One that is lost is.
            drop(sender.send(&piece));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure_eq!(scene.status()?["phase"], "running");
    scene.stop()?;
    let held = watch.end();
    let read = peers.iter().filter(|peer| matches!((&**peer).read(&mut [0; 16]), Ok(16))).count();
    ensure!(read > 100, "only {read} peers got something");
    drop((peers, senders));
    ensure!(held <= scene.usual + MOST, "the supervisor held {held} KiB, usual are {}", scene.usual);
    scene.clear_up()
}

/// A guest that connects to whatever it is asked to and takes nothing, and peers that send and break off.
fn broken_off() -> Outcome {
    let scene = Scene::new()?;
    let port = json!({"address": "127.0.0.1", "host": 0, "guest": 80, "protocol": "tcp"});
    let plan = scene.plan("well_behaved", |plan| plan["ports"] = json!([port]))?;
    let watch = Watch::begin(scene.state_file());
    scene.launch(&plan)?.ok()?;
    let port = u16::try_from(scene.state()?["ports"][0]["host"].as_u64().ok_or("no port")?)?;
    let piece = vec![b'x'; 200_000];
    // Were what each leaves kept, it would be more than 20 MiB.
    for _ in 0..30 {
        let mut peers = Vec::new();
        for _ in 0..16 {
            let mut peer = TcpStream::connect(("127.0.0.1", port))?;
            peer.write_all(&piece[..60_000])?;
            peer.set_nonblocking(true)?;
            peers.push(peer);
        }
        std::thread::sleep(Duration::from_millis(200));
        for mut peer in peers {
            // Most have sent more than is taken of them, so that nobody reads that they break off.
            drop(peer.write(&piece));
            rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO))?;
        }
    }
    // None of them is in the way of another one.
    let supervisor = scene.state()?["supervisor"]["pid"].clone();
    let open = || Ok(json!(fs::read_dir(format!("/proc/{supervisor}/fd"))?.count()));
    until(open, |open| open.as_u64().is_some_and(|open| open < 60))?;
    ensure_eq!(scene.status()?["phase"], "running");
    scene.stop()?;
    let held = watch.end();
    ensure!(held <= scene.usual + MOST, "the supervisor held {held} KiB, usual are {}", scene.usual);
    scene.clear_up()
}
