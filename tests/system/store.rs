//! The store as its users see it: what is kept and what goes, many commands at once, stores that can't be written, that a
//! crash has damaged, or that are none.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use mvm_tests::fixtures::oci::{Compression, Layout};
use mvm_tests::need::Need;
use mvm_tests::process::{Output, Program};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use serde_json::Value;

use crate::bad_input::refused;
use crate::{Case, Outcome, ensure, ensure_eq};

/// A user without a name, groups or home.
const USER: u32 = 54_322;

pub const CASES: &[Case] = &[
    Case { name: "store::two_hundred_commands_at_once", needs: &[Need::Mvmctl], run: crowd },
    Case { name: "store::dry_runs_and_df_change_nothing", needs: &[Need::Mvmctl], run: looks },
    Case { name: "store::budget_and_pins", needs: &[Need::Mvmctl], run: budget_and_pins },
    Case { name: "store::damage_is_repaired_and_told", needs: &[Need::Mvmctl], run: damage },
    Case { name: "store::links_in_place_of_entries_are_refused", needs: &[Need::Mvmctl], run: links },
    Case { name: "store::places_that_are_no_store", needs: &[Need::Mvmctl], run: no_store },
    Case { name: "store::read_only", needs: &[Need::Mvmctl, Need::Root], run: read_only },
    Case { name: "store::of_another_user", needs: &[Need::Mvmctl, Need::Root], run: foreign },
    Case { name: "store::newer_formats_are_refused", needs: &[Need::Mvmctl], run: newer },
];

/// Writes a layout of an image whose lower layer is `base` and whose upper one is `own`, each a file of a few blocks.
pub fn layout(directory: &Path, base: &str, own: &str) -> io::Result<String> {
    let mut layout = Layout::create(directory)?;
    for (name, text) in [("base", base), ("own", own)] {
        layout.layer(Compression::Gzip, |out| {
            let bytes = text.as_bytes().iter().copied().cycle().take(3 * 4096 + 100).collect::<Vec<_>>();
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let mut tar = tar::Builder::new(out);
            tar.append_data(&mut header, name, &bytes[..])?;
            tar.finish()
        })?;
    }
    layout.finish()?;
    Ok(format!("oci:{}:latest", directory.display()))
}

/// A sandbox with `count` images pulled that share their lower layer.
fn with_images(count: usize) -> Result<(Sandbox, Vec<String>), libtest_mimic::Failed> {
    let sandbox = Sandbox::new()?;
    let mut images = Vec::new();
    for number in 0..count {
        let image =
            layout(&sandbox.path().join(format!("image-{number}")), "base", &format!("own {number}"))?;
        sandbox.mvmctl(["pull", &image]).run()?.ok()?;
        images.push(image);
    }
    Ok((sandbox, images))
}

/// Describes a run of the program in another store.
fn at(root: &Path, words: &[&str]) -> Program {
    let home = root.parent().unwrap_or(root);
    Program::new(workspace::mvmctl()).clean_env().env("HOME", home).arg("--root").arg(root).args(words)
}

/// Every file and directory below a directory with its length, times left out; the index's shared memory changes by being read.
fn entries(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            found.extend(entries(&path)?);
        }
        found.push((path, metadata.len()));
    }
    found.sort();
    Ok(found)
}

fn kind<'a>(usage: &'a Value, name: &str) -> &'a Value {
    let kinds = usage["kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
    kinds.iter().find(|kind| kind["kind"] == name).unwrap_or(&Value::Null)
}

fn crowd() -> Outcome {
    let (sandbox, images) = with_images(4)?;
    let more: Vec<String> = (0..4)
        .map(|number| {
            layout(&sandbox.path().join(format!("more-{number}")), "base", &format!("more {number}"))
        })
        .collect::<Result<_, _>>()?;
    let commands = |number: usize| -> Vec<String> {
        let (image, other) = (&images[number % 4], &more[number / 10 % 4]);
        let words: &[&str] = match number % 10 {
            0 => &["pull", other],
            1 => &["pull", image],
            2 => &["gc"],
            3 => &["image", "ls", "--json"],
            4 => &["image", "rm", other],
            5 => &["df", "--json"],
            6 => &["gc", "--budget", "0"],
            7 => &["image", "inspect", image],
            8 => &["pull", other],
            _ => {
                let name = format!("example.com/crowd/{}:{number}", number % 7);
                return ["image", "tag", image, &name].map(str::to_owned).to_vec();
            }
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    };
    // All of them are begun before the first is waited for.
    let runs: Vec<_> = (0..200).map(|number| sandbox.mvmctl(commands(number))).collect();
    let outputs: Vec<Output> = thread::scope(|scope| {
        let running: Vec<_> = runs.into_iter().map(|run| scope.spawn(|| run.run())).collect();
        let ended = running.into_iter().map(|run| run.join().map_err(|_| "a thread panicked".to_owned()));
        ended.map(|run| run?.map_err(|error| error.to_string())).collect::<Result<_, String>>()
    })?;
    for (number, output) in outputs.iter().enumerate() {
        // What another command has just removed may be looked for in vain; nothing else may fail.
        let allowed = match number % 10 {
            4 => &[0, 3][..],
            _ => &[0],
        };
        ensure!(
            allowed.contains(&output.code()),
            "{}: exit code {}: {}",
            output.command,
            output.code(),
            output.err()
        );
    }
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    for image in &images {
        sandbox.mvmctl(["image", "inspect", image]).run()?.ok()?;
    }
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    ensure_eq!(sandbox.mvmctl(["gc"]).run()?.ok()?.out(), "");
    ensure_eq!(fs::read_dir(sandbox.store().join("scopes/default/staging"))?.count(), 0);
    Ok(())
}

fn looks() -> Outcome {
    let (sandbox, images) = with_images(3)?;
    sandbox.mvmctl(["image", "rm", &images[2]]).run()?.ok()?;
    let scope = sandbox.store().join("scopes/default");
    let hex = "0".repeat(64);
    fs::write(scope.join(format!("images/{hex}.img")), "unrecorded")?;
    fs::write(scope.join(format!("staging/image-{hex}-g1.img")), [7; 10_000])?;
    fs::write(scope.join(format!("staging/image-{hex}-g1.lock")), "")?;
    let before = entries(&sandbox.store())?;
    let dry = sandbox.json(["gc", "--dry-run", "--json", "--budget", "0"])?;
    let usage = sandbox.json(["df", "--json"])?;
    sandbox.mvmctl(["df"]).run()?.ok()?;
    sandbox.mvmctl(["image", "ls"]).run()?.ok()?;
    sandbox.mvmctl(["scope", "ls"]).run()?.ok()?;
    ensure_eq!(entries(&sandbox.store())?, before);
    for (name, count) in [("images", 3), ("layers", 3), ("documents", 4), ("kernels", 0), ("vms", 0)] {
        ensure_eq!(kind(&usage, name)["count"], count);
    }
    // The lower layer's data is the very file of one of the images.
    ensure!(kind(&usage, "layers")["shared"].as_u64() > Some(0), "{usage:#}");
    ensure_eq!(kind(&usage, "images")["shared"], kind(&usage, "layers")["shared"]);
    ensure!(kind(&usage, "staging")["reclaimable"].as_u64() >= Some(10_000), "{usage:#}");

    let done = sandbox.json(["gc", "--json", "--budget", "0"])?;
    // Opening the store clears staging first, so that the order may differ.
    let listed = |report: &Value| {
        let items = report["removed"].as_array().cloned().unwrap_or_default();
        let mut items: Vec<String> = items.iter().map(Value::to_string).collect();
        items.sort();
        items
    };
    ensure_eq!(listed(&done), listed(&dry));
    ensure_eq!(done["freed"], dry["freed"]);
    ensure_eq!(kind(&sandbox.json(["df", "--json"])?, "layers")["count"], 0);
    for image in &images[..2] {
        sandbox.mvmctl(["image", "verify", image]).run()?.ok()?;
    }
    Ok(())
}

fn budget_and_pins() -> Outcome {
    let (sandbox, images) = with_images(2)?;
    let listed = |which: &str| -> Result<bool, libtest_mimic::Failed> {
        let list = sandbox.json(["image", "ls", "--json"])?;
        let row = list.as_array().into_iter().flatten().find(|row| row["reference"].as_str() == Some(which));
        Ok(row.is_some_and(|row| row["pinned"] == true))
    };
    ensure!(!sandbox.mvmctl(["image", "ls"]).run()?.ok()?.out().contains("PINNED"), "no image is pinned");
    sandbox.mvmctl(["image", "pin", &images[0]]).run()?.ok()?;
    ensure!(listed(&images[0])? && !listed(&images[1])?, "the wrong image is pinned");
    ensure!(sandbox.mvmctl(["image", "ls"]).run()?.ok()?.out().contains("PINNED"), "the pin is not shown");
    refused(&sandbox.mvmctl(["image", "rm", &images[0]]).run()?, 7, &["is pinned", "mvmctl image unpin"])?;
    refused(&sandbox.mvmctl(["image", "unpin", &images[1]]).run()?, 3, &["is not pinned"])?;
    refused(&sandbox.mvmctl(["image", "pin", "nosuch"]).run()?, 3, &["nosuch"])?;
    refused(&sandbox.mvmctl(["scope", "rm", "default"]).run()?, 7, &["1 pinned"])?;

    // The setting of the store holds for each pull from then on.
    fs::write(sandbox.store().join("settings.toml"), "[layers]\nbudget = \"0\"\n")?;
    let third = layout(&sandbox.path().join("third"), "other base", "third")?;
    sandbox.mvmctl(["pull", &third]).run()?.ok()?;
    ensure_eq!(kind(&sandbox.json(["df", "--json"])?, "layers")["count"], 0);
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    fs::write(sandbox.store().join("settings.toml"), "[layers]\nbudge = \"0\"\n")?;
    refused(&sandbox.mvmctl(["gc"]).run()?, 2, &["settings.toml", "budge"])?;
    fs::remove_file(sandbox.store().join("settings.toml"))?;
    for size in ["lots", "-1", "5 GiB", "99999999TiB"] {
        ensure_eq!(sandbox.mvmctl(["gc".to_owned(), format!("--budget={size}")]).run()?.code(), 2);
    }
    sandbox.mvmctl(["image", "unpin", &images[0]]).run()?.ok()?;
    sandbox.mvmctl(["image", "rm", &images[0]]).run()?.ok()?;
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    for pinned in ["true", "false"] {
        let set = format!("\"value\":\"{pinned}\"");
        let times = log.lines().filter(|line| line.contains("\"setting\":\"pinned\"") && line.contains(&set));
        ensure_eq!(times.count(), 1);
    }
    Ok(())
}

fn damage() -> Outcome {
    let (sandbox, images) = with_images(2)?;
    let scope = sandbox.store().join("scopes/default");
    let segments: Vec<PathBuf> =
        fs::read_dir(scope.join("segments"))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    ensure_eq!(segments.len(), 3);
    let files = sandbox.image_files()?;
    fs::File::options().write(true).open(&files[0])?.set_len(4096)?;
    fs::remove_file(&files[1])?;
    fs::write(segments[0].join("tails"), "longer than it was")?;
    fs::remove_dir_all(&segments[1])?;
    let hex = "0".repeat(64);
    fs::write(scope.join(format!("images/{hex}.img")), "unrecorded")?;
    fs::create_dir(scope.join(format!("segments/{hex}-g1")))?;
    fs::write(scope.join(format!("staging/document-{hex}.1.0")), "half")?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dry = sandbox.mvmctl(["gc", "--dry-run"]).run()?.ok()?.out();
    let told = sandbox.mvmctl(["gc"]).run()?.ok()?.out();
    for (entry, why) in [
        (name(&files[0]), "(torn)"),
        (name(&files[1]), "(lost)"),
        (name(&segments[0]), "(torn)"),
        (name(&segments[1]), "(lost)"),
        (format!("{hex}.img"), "(unrecorded)"),
        (format!("{hex}-g1"), "(unrecorded)"),
        (format!("document-{hex}.1.0"), "(abandoned)"),
    ] {
        for text in [&told, &dry] {
            let line = text.lines().find(|line| line.contains(&entry)).unwrap_or_default();
            ensure!(line.ends_with(why), "{entry} is not told of as {why}:\n{text}");
        }
    }
    ensure_eq!(sandbox.mvmctl(["gc"]).run()?.ok()?.out(), "");
    let log = sandbox.mvmctl(["audit", "tail", "-n", "100"]).run()?.ok()?.out();
    ensure!(log.contains("recover"), "the audit log says nothing of the repair:\n{log}");
    for image in &images {
        sandbox.mvmctl(["pull", image]).run()?.ok()?;
        sandbox.mvmctl(["image", "verify", image]).run()?.ok()?;
    }
    ensure_eq!(sandbox.image_files()?, files);
    Ok(())
}

/// Puts a link to the thing itself, moved elsewhere, in the place of an entry, for as long as `act` takes.
fn as_link(path: &Path, elsewhere: &Path, act: impl FnOnce() -> Outcome) -> Outcome {
    fs::rename(path, elsewhere)?;
    symlink(elsewhere, path)?;
    let outcome = act();
    fs::remove_file(path)?;
    fs::rename(elsewhere, path)?;
    outcome
}

fn links() -> Outcome {
    let (sandbox, images) = with_images(1)?;
    let (store, elsewhere) = (sandbox.store(), sandbox.path().join("elsewhere"));
    let scope = store.join("scopes/default");
    let first = |below: &str| -> io::Result<PathBuf> {
        fs::read_dir(scope.join(below))?.map(|entry| Ok(entry?.path())).next().unwrap_or(Ok(scope.clone()))
    };
    let (segment, document) = (first("segments")?, first("documents")?);
    let (image, again) = (&images[0], layout(&sandbox.path().join("again"), "base", "another")?);
    let inspect = vec!["image", "inspect", image];
    let pull = vec!["pull", again.as_str()];
    let collect = vec!["gc"];
    for (path, command) in [
        (store.join("store.json"), &inspect),
        (store.join("kernels"), &inspect),
        (store.join("vms"), &inspect),
        (store.join("keys"), &inspect),
        (store.join("audit"), &inspect),
        (store.join("cache"), &inspect),
        (store.join("scopes"), &inspect),
        (scope.clone(), &inspect),
        (scope.join("index.db"), &inspect),
        (scope.join("index.db-wal"), &inspect),
        (scope.join("index.db-shm"), &inspect),
        (scope.join("images"), &inspect),
        (scope.join("documents"), &inspect),
        (scope.join("segments"), &inspect),
        (scope.join("staging"), &inspect),
        (sandbox.image_file()?, &inspect),
        (sandbox.image_file()?, &collect),
        (segment, &collect),
        (document, &collect),
        (scope.join("segments"), &pull),
    ] {
        as_link(&path, &elsewhere, || {
            // A document is only removed or read, and a link is removed itself or refused.
            let run = sandbox.mvmctl(command).run()?;
            let is_document = path.parent().is_some_and(|parent| parent.ends_with("documents"));
            if is_document && run.code() == 0 {
                return Ok(());
            }
            ensure!(run.code() != 0, "{} was followed", path.display());
            refused(&run, run.code(), &[&path.display().to_string()])
        })?;
    }
    fs::write(&elsewhere, "[layers]\nbudget = \"0\"\n")?;
    symlink(&elsewhere, store.join("settings.toml"))?;
    refused(&sandbox.mvmctl(["gc"]).run()?, 1, &["settings.toml", "symbolic link"])?;
    fs::remove_file(store.join("settings.toml"))?;
    sandbox.mvmctl(["image", "verify", image]).run()?.ok()?;
    sandbox.mvmctl(&pull).run()?.ok()?;
    Ok(())
}

fn no_store() -> Outcome {
    let sandbox = Sandbox::new()?;
    let place = |name: &str| sandbox.path().join(name);
    fs::write(place("file"), "text")?;
    fs::create_dir(place("thesis"))?;
    fs::write(place("thesis/thesis.tex"), "")?;
    fs::create_dir(place("open"))?;
    fs::set_permissions(place("open"), fs::Permissions::from_mode(0o777))?;
    fs::create_dir(place("garbled"))?;
    fs::write(place("garbled/store.json"), "{")?;
    symlink(place("nowhere/at/all"), place("dangling"))?;
    Program::new("mkfifo").arg(place("pipe")).run()?.ok()?;
    let long = place(&"x".repeat(300));
    let table = [
        (place("file"), "is not a directory"),
        (place("file/below"), "is not a directory"),
        (place("thesis"), "is not a store and not empty: it contains \"thesis.tex\""),
        (place("open"), "can be written by other users"),
        (place("garbled"), "does not describe a store"),
        (place("pipe"), "is not a directory"),
        (PathBuf::from("/proc/1/nowhere"), "/proc/1/nowhere"),
        (PathBuf::from("/dev/null"), "is not a directory"),
        (long.clone(), "File name too long"),
    ];
    let commands: [&[&str]; 4] = [&["image", "ls"], &["gc"], &["df"], &["pull", "oci:/nowhere"]];
    for (root, words) in table {
        for command in commands {
            let run = at(&root, command).run()?;
            refused(&run, 1, &[words])?;
        }
    }
    ensure_eq!(fs::read_dir(place("thesis"))?.count(), 1);
    ensure_eq!(fs::read_dir(place("open"))?.count(), 0);
    // Looking at the scopes of a store that isn't there makes none.
    let absent = place("absent");
    ensure_eq!(at(&absent, &["scope", "ls", "--json"]).run()?.ok()?.out(), "[]\n");
    refused(&at(&absent, &["scope", "inspect", "x"]).run()?, 3, &["no scope x"])?;
    refused(&at(&absent, &["scope", "rm", "x"]).run()?, 3, &["no scope x"])?;
    ensure!(!absent.exists(), "a store was made");
    Ok(())
}

/// A directory that is also mounted, read-only, elsewhere.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(directory: &Path, at: PathBuf) -> Result<Self, libtest_mimic::Failed> {
        fs::create_dir(&at)?;
        Program::new("mount").args(["--bind", "-o", "ro"]).arg(directory).arg(&at).run()?.ok()?;
        Ok(Self(at))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let unmounted = Program::new("umount").arg(&self.0).run();
        if !unmounted.is_ok_and(|output| output.status.success()) {
            eprintln!("warning: cannot unmount {}", self.0.display());
        }
    }
}

/// What can be done with a store without changing it.
fn looked_at(root: &Path, image: &str) -> Outcome {
    let run = |words: &[&str]| at(root, words).run()?.ok();
    let list = run(&["image", "ls", "--json"])?.out();
    ensure!(list.contains(image), "the image is not listed: {list}");
    run(&["image", "ls"])?;
    run(&["image", "inspect", image])?;
    run(&["image", "tree", image])?;
    run(&["image", "verify", "--all"])?;
    ensure!(run(&["df", "--json"])?.out().contains("\"images\""), "df shows no images");
    run(&["gc", "--dry-run", "--budget", "0"])?;
    run(&["scope", "ls"])?;
    run(&["scope", "inspect", "default"])?;
    run(&["kernel", "ls"])?;
    Ok(())
}

fn read_only() -> Outcome {
    let (sandbox, images) = with_images(1)?;
    let index = sandbox.store().join("scopes/default");
    // As the store leaves its index, and as another program leaves it, which folds the log into the database.
    for has_log in [true, false] {
        if !has_log {
            fold(&index)?;
        }
        let before = entries(&sandbox.store())?;
        let mount = ReadOnly::new(&sandbox.store(), sandbox.path().join(format!("read-only-{has_log}")))?;
        looked_at(&mount.0, &images[0])?;
        for command in
            [&["gc"][..], &["image", "rm", &images[0]], &["image", "pin", &images[0]], &["pull", &images[0]]]
        {
            let run = at(&mount.0, command).run()?.exits(1)?;
            ensure!(run.err().to_lowercase().contains("read-only"), "{}: {}", run.command, run.err());
        }
        ensure_eq!(entries(&sandbox.store())?, before);
    }
    Ok(())
}

/// Has the log of an index be part of the database, and goes without it.
fn fold(index: &Path) -> Outcome {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()\nc.close()\n";
    Program::new("python3").args(["-c", script]).arg(index.join("index.db")).run()?.ok()?;
    ensure!(!index.join("index.db-wal").exists(), "there still is a log");
    Ok(())
}

fn foreign() -> Outcome {
    let sandbox = Sandbox::of_user(USER)?;
    let image = layout(&sandbox.path().join("image"), "base", "own")?;
    sandbox.give_away()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    for has_log in [true, false] {
        if !has_log {
            fold(&sandbox.store().join("scopes/default"))?;
        }
        let before = entries(&sandbox.store())?;
        looked_at(&sandbox.store(), &image)?;
        for command in [&["gc"][..], &["image", "rm", &image], &["pull", &image]] {
            let run = at(&sandbox.store(), command).run()?;
            refused(&run, 1, &["belongs to user 54322, not to user 0 who runs this"])?;
        }
        ensure_eq!(entries(&sandbox.store())?, before);
    }
    for (path, _) in entries(&sandbox.store())? {
        ensure_eq!(path.symlink_metadata()?.uid(), USER);
    }
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    Ok(())
}

fn newer() -> Outcome {
    let (sandbox, images) = with_images(1)?;
    let index = sandbox.store().join("scopes/default");
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('PRAGMA user_version = 1000')\nc.commit()\nc.close()\n";
    Program::new("python3").args(["-c", script]).arg(index.join("index.db")).run()?.ok()?;
    for command in [&["image", "ls"][..], &["gc"], &["pull", &images[0]], &["scope", "inspect", "default"]] {
        let run = sandbox.mvmctl(command).run()?;
        refused(&run, 1, &["has format 1000; this mvmctl knows formats up to", "a newer mvmctl"])?;
    }
    let listed = sandbox.json(["scope", "ls", "--json"])?;
    ensure!(listed[0]["problem"].as_str().is_some_and(|text| text.contains("1000")), "{listed:#}");
    Ok(())
}
