//! Commands killed at each call that changes something: the store opens, nothing is left, the command repeated succeeds.

mod conditions;

pub use conditions::Mounted;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mvm_tests::corpus::nars;
use mvm_tests::crash::{self, Point};
use mvm_tests::fixtures;
use mvm_tests::nar;
use mvm_tests::need::Need;
use mvm_tests::process::{Program, holders};
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use serde_json::Value;

use crate::{BUSYBOX, Case, MKE2FS, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

const STRACE: Need = Need::Program("strace", "strace");
const STORE: &[Need] = &[Need::Mvmctl, STRACE, UMOCI, BUSYBOX];

const VOLUMES: &[Need] = &[Need::Mvmctl, STRACE, MKE2FS];

pub const CASES: &[Case] = &[
    Case { name: "crash::pull", needs: STORE, run: pull },
    Case {
        name: "crash::pull_from_a_registry",
        needs: &[Need::Mvmctl, Need::Registry, STRACE, UMOCI, SKOPEO, BUSYBOX],
        run: pull_from_a_registry,
    },
    Case { name: "crash::import", needs: &[Need::Mvmctl, STRACE], run: import },
    Case { name: "crash::load", needs: &[Need::Mvmctl, STRACE, UMOCI, SKOPEO, BUSYBOX], run: load },
    Case { name: "crash::tag", needs: STORE, run: tag },
    Case { name: "crash::save", needs: STORE, run: save },
    Case { name: "crash::remove", needs: STORE, run: remove },
    Case { name: "crash::gc", needs: STORE, run: gc },
    Case { name: "crash::audit_checkpoint", needs: STORE, run: checkpoint },
    Case { name: "crash::audit_rotate", needs: STORE, run: rotate },
    Case { name: "crash::volume_create", needs: VOLUMES, run: volume_create },
    Case { name: "crash::volume_grow", needs: VOLUMES, run: volume_grow },
    Case { name: "crash::volume_remove", needs: VOLUMES, run: volume_remove },
    Case { name: "crash::run", needs: &[Need::Mvmctl, Need::Guest, STRACE, UMOCI, BUSYBOX], run },
    Case {
        name: "crash::full_disk",
        needs: &[Need::Mvmctl, Need::Root, UMOCI, BUSYBOX],
        run: conditions::full_disk,
    },
    Case {
        name: "crash::read_only_file_system",
        needs: &[Need::Mvmctl, Need::Root, UMOCI, BUSYBOX],
        run: conditions::read_only,
    },
    Case {
        name: "crash::no_descriptors",
        needs: &[Need::Mvmctl, Need::Program("prlimit", "util-linux"), UMOCI, BUSYBOX],
        run: conditions::no_descriptors,
    },
    Case {
        name: "crash::a_clock_that_steps_back",
        needs: &[Need::Mvmctl, Need::Program("faketime", "faketime"), UMOCI, BUSYBOX],
        run: conditions::clock,
    },
];

/// How many points of a command are tried unless all are asked for.
const POINTS: usize = 14;
/// The same for a command that boots a guest.
const BOOTS: usize = 5;

/// A store as it is before the command, the command, and what an undisturbed run of it comes to.
struct Scene {
    sandbox: Sandbox,
    arguments: Vec<String>,
    /// The store path that is imported, as builds import theirs, in the place of a command of mvmctl.
    archive: Option<PathBuf>,
    /// Files beside the store that the command makes.
    output: Option<PathBuf>,
    /// Whether the command may have done its work when it is repeated, and then fails.
    ///
    /// A name that was removed can't be removed again.
    done: fn(&Sandbox) -> Result<bool, Failed>,
}

/// What there is after a command and a collection.
#[derive(Debug, PartialEq, Eq)]
struct State {
    images: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
    output: Option<Vec<u8>>,
}

impl Scene {
    fn new(sandbox: Sandbox, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { sandbox, arguments, archive: None, output: None, done: |_| Ok(false) }
    }

    fn template(&self) -> PathBuf {
        self.sandbox.path().join("template")
    }

    /// Puts the store back to what it was before the command.
    fn restore(&self) -> Outcome {
        let store = self.sandbox.store();
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        if let Some(output) = self.output.as_ref().and_then(|output| output.parent()) {
            std::fs::remove_dir_all(output)?;
            std::fs::create_dir(output)?;
        }
        Program::new("cp").args(["-a", "--reflink=auto"]).arg(self.template()).arg(&store).run()?.ok()?;
        Ok(())
    }

    fn command(&self) -> Result<(PathBuf, Vec<String>), Failed> {
        let store = self.sandbox.store().display().to_string();
        if let Some(archive) = &self.archive {
            let arguments = vec![nars::FLAG.to_owned(), store, archive.display().to_string()];
            return Ok((std::env::current_exe()?, arguments));
        }
        let arguments = ["--root".to_owned(), store].into_iter().chain(self.arguments.iter().cloned());
        Ok((workspace::mvmctl(), arguments.collect()))
    }

    fn state(&self) -> Result<State, Failed> {
        let skip = |path: &Path| {
            // The log grows with each attempt; a database's companions come and go.
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            path.starts_with("audit/") || name.ends_with("-wal") || name.ends_with("-shm")
        };
        let mut images = BTreeSet::new();
        for image in self.sandbox.json(["image", "ls", "--json"])?.as_array().into_iter().flatten() {
            let key = |name: &str| image[name].to_string();
            images.insert(format!("{} {} {}", key("references"), key("manifest"), key("root_hash")));
        }
        let output = self.output.as_ref().map(std::fs::read).transpose()?;
        Ok(State { images, files: crash::inventory(&self.sandbox.store(), &skip)?, output })
    }

    /// Checks the store after a crash, and that the command works when it is repeated.
    fn recovers(&self, expected: &State) -> Outcome {
        let sandbox = &self.sandbox;
        sandbox.mvmctl(["image", "ls"]).run()?.ok()?;
        ensure!(
            eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?,
            "processes are left: {:?}",
            holders(&sandbox.store())?
        );
        for vm in sandbox.vms()? {
            sandbox.mvmctl(["vm", "rm", &vm]).run()?.ok()?;
        }
        sandbox.mvmctl(["gc"]).run()?.ok()?;
        sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
        let (program, arguments) = self.command()?;
        let repeated = Program::new(program).clean_env().args(&arguments).run()?;
        if !(self.done)(sandbox)? || repeated.code() == 0 {
            repeated.ok()?;
        }
        sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
        sandbox.mvmctl(["gc"]).run()?.ok()?;
        sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
        let state = self.state()?;
        ensure_eq!(state.images, expected.images);
        let left: Vec<_> = state.files.difference(&expected.files).collect();
        ensure!(left.is_empty(), "files are left: {left:?}");
        let lost: Vec<_> = expected.files.difference(&state.files).collect();
        ensure!(lost.is_empty(), "files are lost: {lost:?}");
        ensure!(state.output == expected.output, "the output differs");
        Ok(())
    }

    /// Kills the command at its points, one after the other.
    fn play(&self, count: usize) -> Outcome {
        let store = self.sandbox.store();
        if !store.exists() {
            std::fs::create_dir(&store)?;
        }
        std::fs::rename(&store, self.template())?;
        let ((program, arguments), log) = (self.command()?, self.sandbox.path().join("strace.log"));
        self.restore()?;
        let points = crash::points(&program, &arguments, &log)?;
        self.sandbox.mvmctl(["gc"]).run()?.ok()?;
        let expected = self.state()?;
        ensure!(points.len() > 3, "only {} points", points.len());
        let mut killed = 0;
        let tried = crash::sample(points, count);
        for point in &tried {
            let (was_killed, outcome) = self.crash(point, (&program, &arguments), &log, &expected)?;
            killed += usize::from(was_killed);
            if let Err(failed) = outcome {
                let words = failed.message().unwrap_or_default().to_owned();
                return Err(format!("killed at {point} of {:?}: {words}", self.arguments).into());
            }
        }
        // Threads share work as it comes, so that a point may not be met again; most are.
        ensure!(2 * killed >= tried.len(), "only {killed} of {} points were met", tried.len());
        Ok(())
    }

    fn crash(
        &self,
        point: &Point,
        (program, arguments): (&Path, &[String]),
        log: &Path,
        expected: &State,
    ) -> Result<(bool, Outcome), Failed> {
        self.restore()?;
        crash::kill_at(point, program, arguments, log)?;
        let was_killed = std::fs::read_to_string(log)?.contains("+++ killed by SIGKILL +++");
        Ok((was_killed, self.recovers(expected)))
    }
}

/// Waits until a condition holds; gives up long after it should.
fn eventually(condition: impl Fn() -> Result<bool, Failed>) -> Result<bool, Failed> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if condition()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn busybox() -> Result<String, Failed> {
    Ok(format!("oci:{}:latest", fixtures::busybox()?.display()))
}

fn pull() -> Outcome {
    Scene::new(Sandbox::new()?, &["pull", &busybox()?]).play(POINTS)
}

fn pull_from_a_registry() -> Outcome {
    let registry = Registry::start()?;
    let image = registry.push(&fixtures::busybox()?, "test/busybox:latest", &[])?;
    Scene::new(Sandbox::new()?, &["pull", &image]).play(POINTS)
}

/// Imports the closure of a build, of which one path has files, programs and links.
fn import() -> Outcome {
    let sandbox = Sandbox::new()?;
    let archive = sandbox.path().join("nar");
    let bin = nar::directory(&[(b"a", nar::program(&[7; 70_000])), (b"b", nar::link(b"a"))]);
    let tree = nar::directory(&[(b"bin", bin), (b"empty", nar::file(b"")), (b"text", nar::file(b"text\n"))]);
    std::fs::write(&archive, nar::archive(&tree))?;
    let mut scene = Scene::new(sandbox, &["import"]);
    scene.archive = Some(archive);
    scene.play(POINTS)
}

fn load() -> Outcome {
    let sandbox = Sandbox::new()?;
    let archive = sandbox.path().join("archive.tar").display().to_string();
    Program::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", &busybox()?])
        .arg(format!("docker-archive:{archive}:example.com/app:1"))
        .run()?
        .ok()?;
    Scene::new(sandbox, &["image", "load", "--input", &archive]).play(POINTS)
}

fn tag() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = busybox()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    Scene::new(sandbox, &["image", "tag", &image, "example.com/app:1"]).play(POINTS)
}

fn save() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = busybox()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let output = sandbox.path().join("out/archive.tar");
    std::fs::create_dir(sandbox.path().join("out"))?;
    let mut scene =
        Scene::new(sandbox, &["image", "save", "--output", &output.display().to_string(), &image]);
    scene.output = Some(output);
    scene.play(POINTS)
}

fn remove() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = busybox()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let mut scene = Scene::new(sandbox, &["image", "rm", &image]);
    scene.done = |sandbox| {
        let images: Value = sandbox.json(["image", "ls", "--json"])?;
        Ok(images.as_array().is_some_and(Vec::is_empty))
    };
    scene.play(POINTS)
}

/// Collects an image whose name has come to mean another one.
fn gc() -> Outcome {
    let sandbox = Sandbox::new()?;
    let layout = sandbox.path().join("layout");
    let image = format!("oci:{}:latest", layout.display());
    for (index, from) in [fixtures::busybox()?, fixtures::zstd(&fixtures::busybox()?)?].iter().enumerate() {
        if index > 0 {
            std::fs::remove_dir_all(&layout)?;
        }
        Program::new("cp").arg("-r").arg(from).arg(&layout).run()?.ok()?;
        sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    }
    // What a killed pull leaves is collected too.
    let staging = sandbox.store().join("scopes/default/staging");
    std::fs::create_dir_all(staging.join("left"))?;
    std::fs::write(staging.join("left/data"), b"half")?;
    // And what lies outside of scopes.
    let (used, signatures) =
        (sandbox.store().join("used-plans"), sandbox.store().join("cache/signatures/gone"));
    std::fs::create_dir_all(&used)?;
    std::fs::write(used.join("0".repeat(64)), "00000000000000000000000000000000\n1\n")?;
    std::fs::create_dir_all(&signatures)?;
    std::fs::write(signatures.join("x.json"), b"{}")?;
    Scene::new(sandbox, &["gc"]).play(POINTS)
}

/// Returns a store whose log has some entries, and a key that it is signed with.
fn logged() -> Result<Sandbox, Failed> {
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["pull", &busybox()?]).run()?.ok()?;
    sandbox.mvmctl(["key", "generate", "other"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "checkpoint"]).run()?.ok()?;
    Ok(sandbox)
}

fn checkpoint() -> Outcome {
    Scene::new(logged()?, &["audit", "checkpoint"]).play(POINTS)
}

fn rotate() -> Outcome {
    Scene::new(logged()?, &["audit", "rotate"]).play(POINTS)
}

/// Returns the size of the volume `data`, if there is one.
fn volume_size(sandbox: &Sandbox) -> Result<Option<u64>, Failed> {
    let volumes = sandbox.json(["volume", "ls", "--json"])?;
    Ok(volumes.as_array().and_then(|volumes| volumes.first()).and_then(|volume| volume["size"].as_u64()))
}

fn volume_create() -> Outcome {
    let mut scene = Scene::new(Sandbox::new()?, &["volume", "create", "data", "--size", "32m"]);
    scene.done = |sandbox| Ok(volume_size(sandbox)? == Some(32 << 20));
    scene.play(POINTS)
}

fn volume_grow() -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["volume", "create", "data", "--size", "32m"]).run()?.ok()?;
    let mut scene = Scene::new(sandbox, &["volume", "grow", "data", "--size", "64m"]);
    scene.done = |sandbox| Ok(volume_size(sandbox)? == Some(64 << 20));
    scene.play(POINTS)
}

fn volume_remove() -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["volume", "create", "data", "--size", "32m"]).run()?.ok()?;
    let mut scene = Scene::new(sandbox, &["volume", "rm", "data"]);
    scene.done = |sandbox| Ok(volume_size(sandbox)?.is_none());
    scene.play(POINTS)
}

fn run() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = busybox()?;
    // The blank disk and what was found of KVM are made once.
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    Scene::new(sandbox, &["run", "--rm", "--name", "one", &image, "true"]).play(BOOTS)
}
