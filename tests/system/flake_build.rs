//! Flakes, from a directory to a guest that answers: built by a real Nix in the builder, of packages that need no network.

mod lies;
mod trouble;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::fixtures::nix::stand_in;
use mvm_tests::need::Need;
use mvm_tests::process::{Output, Program};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use rustix::process::Signal;
use serde_json::Value;

use crate::flakes::DEBIAN;
use crate::{BUSYBOX, Case, Outcome, UMOCI, ensure, ensure_eq};

mod writable_store;

const GIT: Need = Need::Program("git", "git");
const BUILDER: &[Need] = &[Need::Mvmctl, Need::Guest, DEBIAN[0], DEBIAN[1]];
const BUILDER_AND_GIT: &[Need] = &[Need::Mvmctl, Need::Guest, DEBIAN[0], DEBIAN[1], GIT];

pub const CASES: &[Case] = &[
    Case { name: "flake_build::a_site_that_answers", needs: BUILDER, run: a_site_that_answers },
    Case { name: "flake_build::two_builders_one_root_hash", needs: BUILDER, run: two_builders },
    Case { name: "flake_build::profiles_and_projects", needs: BUILDER, run: profiles_and_projects },
    Case { name: "flake_build::in_a_work_tree", needs: BUILDER_AND_GIT, run: in_a_work_tree },
    Case { name: "flake_build::what_is_refused_at_once", needs: &[Need::Mvmctl], run: refused_at_once },
    Case { name: "flake_build::what_nix_refuses", needs: BUILDER, run: || refused_by_nix("trixie") },
    Case {
        name: "flake_build::what_an_older_nix_refuses",
        needs: BUILDER,
        run: || refused_by_nix("bookworm"),
    },
    Case { name: "flake_build::writable_store", needs: BUILDER, run: writable_store::writable_store },
    Case { name: "flake_build::locks", needs: BUILDER, run: locks },
    Case { name: "flake_build::interrupted", needs: BUILDER, run: interrupted },
    Case { name: "flake_build::killed_at_each_stage", needs: BUILDER, run: trouble::killed },
    Case { name: "flake_build::out_of_disk_and_memory", needs: BUILDER, run: trouble::runs_out },
    Case { name: "flake_build::a_builder_that_lies", needs: LIAR, run: lies::refused },
    Case { name: "flake_build::full_disk_of_the_host", needs: LIAR_AND_ROOT, run: lies::full_disk },
];

/// What it takes to make a builder whose Nix says what a test wants.
const LIAR: &[Need] = &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX];
const LIAR_AND_ROOT: &[Need] = &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX, Need::Root];

/// Emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(900);

/// A store with a builder, and packages for its flakes.
struct Place {
    sandbox: Sandbox,
    packages: String,
}

impl Place {
    fn new() -> Result<Self, Failed> {
        Self::of("trixie")
    }

    fn of(release: &str) -> Result<Self, Failed> {
        let place = Self::without_builder()?;
        place.init("default", release)?;
        Ok(place)
    }

    fn without_builder() -> Result<Self, Failed> {
        Ok(Self { sandbox: Sandbox::with_kernel()?, packages: format!("path:{}", stand_in()?.display()) })
    }

    fn init(&self, scope: &str, release: &str) -> Outcome {
        let image = format!("oci-archive:{}", fixtures::builder(release)?.display());
        let init = ["--scope", scope, "builder", "init", "--image", &image];
        self.sandbox.mvmctl(init).limit(LIMIT).run()?.ok()?;
        Ok(())
    }

    /// Copies an example, so that it can be changed.
    fn example(&self, name: &str) -> Result<PathBuf, Failed> {
        let to = self.sandbox.path().join(name);
        copy(&workspace::root().join("examples").join(name), &to)?;
        Ok(to)
    }

    /// Writes a flake of one package set for this machine, which needs no lock.
    fn flake(&self, name: &str, packages: &str) -> Result<PathBuf, Failed> {
        let directory = self.sandbox.path().join(name);
        fs::create_dir_all(&directory)?;
        let text = format!(
            "{{\n  outputs = {{ self, nixpkgs, mvm }}: {{\n    packages.x86_64-linux = {{\n{packages}\n    }};\n  }};\n}}\n"
        );
        fs::write(directory.join("flake.nix"), text)?;
        Ok(directory)
    }

    /// Describes a verb that builds a flake without a network.
    fn verb(&self, verb: &[&str], flake: &Path, more: &[&str]) -> Program {
        let flake = flake.to_string_lossy();
        let options = ["--offline", "--flake", &flake, "--override-input", "nixpkgs", &self.packages];
        self.sandbox.mvmctl(verb.iter().chain(&options).chain(more)).limit(LIMIT)
    }

    /// Builds and returns the events.
    fn build(&self, flake: &Path, more: &[&str]) -> Result<Vec<Value>, Failed> {
        events(&self.verb(&["build", "--json"], flake, more).run()?.ok()?)
    }
}

fn events(output: &Output) -> Result<Vec<Value>, Failed> {
    Ok(output.out().lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Returns what was built.
fn built(events: &[Value]) -> Result<&Value, Failed> {
    let last = events.last().ok_or("no events")?;
    ensure_eq!(last["event"], "built");
    Ok(&last["built"])
}

/// Returns the derivations that were built, by their names.
fn derivations(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "building")
        .filter_map(|event| event["derivation"].as_str())
        .collect();
    names.sort_unstable();
    names
}

fn has(events: &[Value], name: &str) -> bool {
    events.iter().any(|event| event["event"] == name)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => fs::write(&target, fs::read(entry.path())?)?,
        }
    }
    Ok(())
}

/// Fetches a page until it is there.
fn fetch(address: &str, path: &str) -> Result<String, Failed> {
    let until = Instant::now() + LIMIT;
    loop {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
            if stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut text)).is_ok()
                && text.contains("\r\n\r\n")
            {
                return Ok(text);
            }
        }
        ensure!(Instant::now() < until, "{address} does not answer; last: {text:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Built from nothing, run, and seen to answer; unchanged, nothing starts; changed, only what changed is built and moved.
fn a_site_that_answers() -> Outcome {
    let place = Place::new()?;
    let site = place.example("hello")?;
    let first = place.build(&site, &["-t", "hello"])?;
    let image = built(&first)?;
    ensure_eq!(image["cached"], false);
    ensure!(has(&first, "builder-starting"), "{first:?}");
    ensure!(derivations(&first).contains(&"mvm-guest-hello.json"), "{first:?}");
    let closure = first.iter().find(|event| event["event"] == "closure").ok_or("no closure")?;
    ensure_eq!(closure["paths"], closure["missing"]);

    let run = ["run", "-d", "--name", "site", "-p", "8080", "hello"];
    place.sandbox.mvmctl(run).run()?.ok()?;
    let details = place.sandbox.json(["vm", "inspect", "site", "--json"])?;
    let shown = details["ports"][0].as_str().unwrap_or_default().to_owned();
    let address = shown.split("->").next().unwrap_or_default();
    let page = fs::read_to_string(site.join("site/index.html"))?;
    ensure!(fetch(address, "/")?.ends_with(&page), "not the page of the example");
    let until = Instant::now() + LIMIT;
    loop {
        let status = place.sandbox.json(["vm", "status", "site", "--json"])?;
        if status["health"] == "healthy" {
            break;
        }
        ensure!(Instant::now() < until, "not healthy: {status}");
        std::thread::sleep(Duration::from_millis(500));
    }
    place.sandbox.mvmctl(["stop", "site"]).run()?.ok()?;

    // Its name is that of the directory, from wherever that is seen.
    let beside = |verb: &[&str]| place.sandbox.mvmctl(verb).directory(place.sandbox.path()).run()?.ok();
    let shown: Value = serde_json::from_str(&beside(&["image", "inspect", "flake:./hello"])?.out())?;
    ensure_eq!(shown["manifest"], image["manifest"]);
    beside(&["run", "--plan-only", "flake:./hello"])?;

    let again = place.build(&site, &["-t", "hello"])?;
    ensure_eq!(built(&again)?["cached"], true);
    ensure_eq!(built(&again)?["root_hash"], image["root_hash"]);
    ensure_eq!(again.len(), 1);
    // What the image is found by is not what keeps it.
    place.sandbox.mvmctl(["gc"]).run()?.ok()?;
    ensure_eq!(built(&place.build(&site, &[])?)?["cached"], true);

    fs::write(site.join("site/index.html"), "<p>changed</p>\n")?;
    let changed = place.build(&site, &["-t", "hello"])?;
    ensure_eq!(built(&changed)?["cached"], false);
    ensure!(built(&changed)?["root_hash"] != image["root_hash"], "the page is not in the image");
    let (before, after) = (derivations(&first), derivations(&changed));
    ensure!(
        after.len() < before.len() && after.iter().all(|name| before.contains(name)),
        "{before:?} {after:?}"
    );
    let moved = changed.iter().find(|event| event["event"] == "closure").ok_or("no closure")?;
    ensure_eq!(moved["paths"], closure["paths"]);
    let (missing, paths) = (moved["missing"].as_u64().unwrap_or(0), moved["paths"].as_u64().unwrap_or(0));
    ensure!((1..paths).contains(&missing) && missing <= 3, "{missing} of {paths} moved");

    let logs = place.sandbox.json(["build", "ls", "--json"])?;
    ensure_eq!(logs.as_array().map(Vec::len), Some(2));
    let log = place.sandbox.mvmctl(["build", "log"]).run()?.ok()?.out();
    ensure!(log.contains("flake.nix") || !log.is_empty(), "an empty log");
    Ok(())
}

/// The same flake in two scopes, each with a store of its own and a builder of another Nix, is one root hash.
fn two_builders() -> Outcome {
    let place = Place::new()?;
    place.init("other", "bookworm")?;
    let site = place.example("multi")?;
    let one = place.build(&site, &[])?;
    let other = place.build(&site, &["--scope", "other"])?;
    ensure_eq!(built(&one)?["root_hash"], built(&other)?["root_hash"]);
    ensure_eq!(derivations(&one), derivations(&other));
    ensure!(!derivations(&other).is_empty(), "the second one built nothing");
    Ok(())
}

/// `--profile`, its tenant, `flake show`, `flake check`, and a flake as a project.
fn profiles_and_projects() -> Outcome {
    let place = Place::new()?;
    let flake = place.example("profiles")?;
    let text = flake.to_string_lossy().into_owned();
    let options = ["--offline", "--override-input", "nixpkgs", &place.packages];
    let show =
        place.sandbox.mvmctl(["flake", "show", "--json"].iter().chain(&options).chain(&[text.as_str()]));
    let shown: Value = serde_json::from_str(&show.limit(LIMIT).run()?.ok()?.out())?;
    let names: Vec<&str> = shown["packages"]["x86_64-linux"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ensure_eq!(names, ["default", "dev", "prod", "tenant-blue"]);
    let check =
        place.sandbox.mvmctl(["flake", "check", "--json"].iter().chain(&options).chain(&[text.as_str()]));
    let checked: Value = serde_json::from_str(&check.limit(LIMIT).run()?.ok()?.out())?;
    ensure_eq!(checked.as_object().map(serde_json::Map::len), Some(4));

    let dev = place.build(&flake, &["--profile", "dev"])?;
    let prod = place.build(&flake, &["--profile", "prod"])?;
    let blue = place.build(&flake, &["--profile", "blue"])?;
    let full: PathBuf = format!("{text}#prod").into();
    let same = place.build(&full, &[])?;
    ensure_eq!(built(&same)?["cached"], true);
    ensure_eq!(built(&same)?["root_hash"], built(&prod)?["root_hash"]);
    ensure!(built(&dev)?["root_hash"] != built(&prod)?["root_hash"], "two profiles are one");
    ensure!(built(&blue)?["output"].as_str().is_some_and(|output| output.contains("mvm-guest")), "{blue:?}");

    let up = place.verb(&["up", "-d"], &full, &["-p", "18734:8080"]).run()?.ok()?;
    ensure!(up.err().contains("profiles-prod: created"), "{}", up.err());
    ensure!(up.err().contains("nothing has changed"), "{}", up.err());
    let vms = place.sandbox.vms()?;
    ensure!(vms.contains(&"profiles-prod".to_owned()), "{vms:?}");
    // A project of that very name is another one, whichever is taken down.
    let project = place.sandbox.path().join("mvm.toml");
    fs::write(&project, "name = \"profiles\"\n[vm.web]\nflake = \"./profiles#dev\"\n")?;
    let project = project.to_string_lossy();
    let up = ["up", "-d", "-f", &project];
    let up = place.sandbox.mvmctl(up.iter().chain(&options)).limit(LIMIT).run()?.ok()?;
    ensure!(up.err().contains("profiles-web: created"), "{}", up.err());
    let down = |arguments: &[&str]| -> Result<String, Failed> {
        Ok(place.sandbox.mvmctl(["down"].iter().chain(arguments)).limit(LIMIT).run()?.ok()?.err())
    };
    ensure_eq!(down(&["--flake", &format!("{text}#dev")])?, "");
    ensure_eq!(down(&["--flake", &text])?, "profiles-prod: removed\n");
    ensure_eq!(down(&["-f", &project])?, "profiles-web: removed\n");
    Ok(())
}

/// In a work tree the flake is what git tracks, wherever in the tree it lies.
fn in_a_work_tree() -> Outcome {
    let place = Place::new()?;
    let tree = place.sandbox.path().join("tree");
    let web = place.example("hello")?;
    fs::create_dir(&tree)?;
    fs::rename(&web, tree.join("web"))?;
    fs::write(tree.join("README"), "not git's")?;
    let git = |arguments: &[&str]| {
        Program::new("git")
            .clean_env()
            .env("HOME", place.sandbox.path())
            .directory(&tree)
            .args(arguments)
            .run()
    };
    git(&["init", "-q"])?.ok()?;
    let web = tree.join("web");
    let untracked = place.verb(&["build"], &web, &[]).run()?.exits(2)?.err();
    ensure!(untracked.contains("hint: git add") && untracked.contains("web/flake.nix"), "{untracked}");
    git(&["add", "web"])?.ok()?;
    let built_there = place.verb(&["build"], &web.join("site"), &[]).run()?.ok()?;
    let said = built_there.err();
    ensure!(said.contains("git does not track, so the flake does not have: README"), "{said}");
    // A file that is not the flake's is nothing that it changes by.
    fs::write(tree.join("README"), "changed")?;
    ensure_eq!(built(&place.build(&web, &[])?)?["cached"], true);
    Ok(())
}

fn words(output: Output, code: i32, expected: &[&str]) -> Outcome {
    let said = output.exits(code)?.err();
    for expected in expected {
        ensure!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    Ok(())
}

/// What no builder is needed for: references, files, policies.
fn refused_at_once() -> Outcome {
    let sandbox = Sandbox::new()?;
    let directory = sandbox.path().join("web");
    fs::create_dir(&directory)?;
    let flake = directory.to_string_lossy().into_owned();
    let build = |more: &[&str]| sandbox.mvmctl(["build"].iter().chain(more)).run();
    words(build(&["--flake", "github:a/b"])?, 2, &["github: is not supported", "clone it"])?;
    words(build(&["--flake", "nixpkgs#hello"])?, 2, &["Nix's flake registry"])?;
    words(build(&["--flake", "./nowhere"])?, 3, &["there is no directory"])?;
    words(build(&["--flake", &flake])?, 3, &["has no flake.nix", "hint: mvmctl flake init"])?;
    words(build(&["--flake", &format!("git+file:{flake}")])?, 3, &["is not the top of a git work tree"])?;
    sandbox.mvmctl(["flake", "init", "--directory", &flake]).run()?.ok()?;
    words(sandbox.mvmctl(["flake", "init", "--directory", &flake]).run()?, 7, &["is there already"])?;
    words(sandbox.mvmctl(["flake", "init", "nosuch"]).run()?, 3, &["there are python, services, static"])?;
    words(build(&["--flake", &flake])?, 3, &["has no builder", "mvmctl builder init"])?;
    words(build(&[&flake])?, 3, &["has no builder", "mvmctl builder init"])?;
    words(build(&[&flake, "--flake", "."])?, 2, &["cannot be used with"])?;
    for verb in ["show", "check"] {
        let none = sandbox.mvmctl(["flake", verb, &flake]).run()?.exits(3)?;
        ensure!(!none.err().contains("starting") && none.err().contains("has no builder"), "{}", none.err());
        let one = format!("{flake}#web");
        words(sandbox.mvmctl(["flake", verb, &one]).run()?, 2, &["#web is one package"])?;
        words(sandbox.mvmctl(["flake", verb, &flake, "--rebuild"]).run()?, 2, &["unexpected argument"])?;
    }
    words(build(&["--flake", &flake, "--max-source", "10"])?, 2, &["--max-source SIZE allows more"])?;
    words(
        build(&["--flake", &flake, "--override-input", "mvm", "."])?,
        2,
        &["mvmctl carries takes its place"],
    )?;
    words(build(&["--flake", &format!("{flake}#a"), "--profile", "b"])?, 2, &["exclude each other"])?;
    words(build(&["--flake", &flake, "--policy", "production", "--update-lock"])?, 5, &["--update-lock"])?;
    fs::remove_file(directory.join("flake.lock"))?;
    words(build(&["--flake", &flake, "--policy", "production"])?, 5, &["has no flake.lock"])?;
    fs::write(directory.join("flake.lock"), "{\"version\": 9}")?;
    words(build(&["--flake", &flake])?, 1, &["flake.lock: its version is 9"])?;
    fs::remove_file(directory.join("flake.lock"))?;
    Program::new("mkfifo").arg(directory.join("pipe")).run()?.ok()?;
    words(build(&["--flake", &flake])?, 2, &["is a named pipe", "hint: name it in a .gitignore"])?;
    words(
        sandbox.mvmctl(["run", "--update-lock", "debian:12"]).run()?,
        125,
        &["there is none; --flake names one"],
    )?;
    words(sandbox.mvmctl(["build", "log"]).run()?, 3, &["there is no log of any build", "mvmctl build ls"])?;
    Ok(())
}

/// What Nix says is told with its kind, and with places in the files that it was said of.
fn refused_by_nix(release: &str) -> Outcome {
    let place = Place::of(release)?;
    let guest = "mvm.lib.x86_64-linux.mkGuest";
    let packages = format!(
        r#"
        default = {guest} {{ name = "d"; }};
        parameter = {guest} {{ name = "p"; servces = {{ }}; }};
        impure = {guest} {{ name = builtins.readFile /etc/hostname; }};
        undefined = {guest} {{ name = "u"; env.A = (x: x.y) {{ }}; }};
        fails = {guest} {{ name = "f"; env.A = "${{nixpkgs.legacyPackages.x86_64-linux.runCommand "broken" {{ }} "for i in $(seq 40); do echo line $i; done; exit 3"}}"; }};
        foreign = derivation {{ name = "foreign"; system = "aarch64-linux"; builder = "/bin/sh"; }};
        plain = nixpkgs.legacyPackages.x86_64-linux.writeText "plain" "text";
        tenant-red = throw "the tenant was asked for";"#
    );
    let flake = place.flake("refused", &packages)?;
    let file = flake.join("flake.nix").canonicalize()?;
    let at = |line: u32| format!("{}:{line}:", file.display());
    let build = |attribute: &str| {
        let flake: PathBuf = format!("{}#{attribute}", flake.display()).into();
        place.verb(&["build"], &flake, &[]).run()
    };
    words(build("nosuch")?, 3, &["has no output nosuch for x86_64-linux; it has default, fails, foreign"])?;
    words(build("parameter")?, 9, &["does not evaluate", "unknown parameter 'servces'"])?;
    words(build("impure")?, 9, &["the flake is impure", "--impure is not supported"])?;
    words(build("undefined")?, 9, &["attribute 'y' missing", &at(8)])?;
    words(build("red")?, 9, &["the tenant was asked for"])?;
    words(build("foreign")?, 2, &["is built on aarch64-linux"])?;
    let failed = build("fails")?;
    ensure!(!failed.err().contains("\n    line 10\n"), "more than the last lines:\n{}", failed.err());
    words(
        failed,
        10,
        &["broken did not build", "\n    line 11\n", "\n    line 40\n", "hint: mvmctl build log "],
    )?;
    let log = place.sandbox.mvmctl(["build", "log"]).run()?.ok()?.out();
    ensure!(log.contains("broken> line 1\n") && log.contains("broken> line 40\n"), "{log}");
    words(build("plain")?, 2, &["is not a guest as mkGuest"])?;

    fs::write(flake.join("flake.nix"), "{\n  outputs = { self }: { a = ; };\n}\n")?;
    words(build("default")?, 9, &["syntax error", &at(2)])?;
    fs::write(flake.join("flake.nix"), "{ outputs = { self }: { packages.aarch64-linux.default = 1; }; }")?;
    words(build("default")?, 2, &["has no packages for x86_64-linux; only for aarch64-linux"])?;
    symlink("../../outside.nix", flake.join("link.nix"))?;
    fs::write(flake.join("flake.nix"), "{ outputs = { self }: import ./link.nix; }")?;
    words(build("default")?, 9, &["lead nowhere in the builder: link.nix → ../../outside.nix"])?;
    Ok(())
}

/// What isn't locked is refused, or locked when that is asked for; the lock is all that is written.
fn locks() -> Outcome {
    let place = Place::new()?;
    let site = place.example("hello")?;
    let build = |more: &[&str]| {
        let flake = site.to_string_lossy().into_owned();
        let options = ["build", "--offline", "--flake", &flake];
        place.sandbox.mvmctl(options.iter().chain(more)).limit(LIMIT).run()
    };
    let given = ["--override-input", "nixpkgs", &place.packages];
    let lock = site.join("flake.lock");
    let before = fs::read(&lock)?;
    words(build(&[])?, 6, &["the builder has no network", "nixpkgs"])?;
    // Locked before, and given by a directory now: the lock stays.
    words(build(&[&given[..], &["--update-lock"]].concat())?, 0, &["stays as it is"])?;
    words(
        build(&[&given[..], &["--update-input", "nixpkg"]].concat())?,
        3,
        &["has no input nixpkg; it has mvm, nixpkgs"],
    )?;
    ensure_eq!(fs::read(&lock)?, before);
    fs::remove_file(&lock)?;
    words(build(&[])?, 5, &["has no flake.lock, and the flake has inputs (nixpkgs)", "--update-lock"])?;
    words(
        build(&[&given[..], &["--update-lock"]].concat())?,
        0,
        &["wrote", "nothing, since all inputs are given"],
    )?;
    // A lock without it does not pin what only a directory did.
    words(build(&[])?, 5, &["does not lock nixpkgs"])?;
    words(build(&["--update-input", "nixpkgs"])?, 6, &["the builder has no network"])?;
    let mut files: Vec<_> =
        fs::read_dir(&site)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
    files.sort();
    ensure_eq!(files, ["flake.lock", "flake.nix", "site"]);
    Ok(())
}

/// A build that is interrupted leaves a builder that goes on with the next one.
fn interrupted() -> Outcome {
    let place = Place::new()?;
    let slow = r#"default = nixpkgs.legacyPackages.x86_64-linux.runCommand "slow" { } "echo begun; sleep 600; touch $out";"#;
    let flake = place.flake("slow", slow)?;
    let stopped = place.verb(&["build", "--json"], &flake, &[]).signal_when("begun", Signal::INT).run()?;
    words(stopped, 130, &["mvmctl: interrupted"])?;
    ensure_eq!(place.sandbox.vms()?, Vec::<String>::new());
    let site = place.example("hello")?;
    ensure_eq!(built(&place.build(&site, &[])?)?["cached"], false);
    Ok(())
}
