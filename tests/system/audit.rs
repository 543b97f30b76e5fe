//! The audit log tells the whole story, and what is done to it is found out.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Output, Program};
use mvm_tests::sandbox::Sandbox;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{BUSYBOX, Case, GUEST, Outcome, UMOCI, ensure, ensure_eq};

/// What it takes to pull an image, without a guest.
const PULL: &[Need] = &[Need::Mvmctl, UMOCI, BUSYBOX];

pub const CASES: &[Case] = &[
    Case { name: "audit::tells_the_story", needs: GUEST, run: story },
    Case { name: "audit::notices_what_is_done_to_it", needs: PULL, run: tampering },
    Case { name: "audit::a_witness_knows_what_the_key_hides", needs: PULL, run: witness },
    Case { name: "audit::twenty_writers_at_once", needs: PULL, run: writers },
    Case { name: "audit::is_followed_over_a_rotation", needs: PULL, run: followed },
    Case { name: "audit::is_shown_and_exported", needs: PULL, run: shown },
    Case { name: "audit::a_killed_supervisor_is_on_record_once", needs: GUEST, run: killed_supervisor },
    Case {
        name: "audit::a_full_disk_stops_launches_and_loses_no_end",
        needs: &[Need::Mvmctl, Need::Guest, Need::Root, UMOCI, BUSYBOX],
        run: full_disk,
    },
];

fn image() -> Result<String, Failed> {
    Ok(format!("oci:{}:latest", fixtures::busybox()?.display()))
}

/// A store with an image, whose log is signed twice and has entries in between and after.
fn pulled() -> Result<Sandbox, Failed> {
    let sandbox = Sandbox::new()?;
    let image = image()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    sandbox.mvmctl(["audit", "checkpoint"]).run()?.ok()?;
    for name in ["one", "two", "three"] {
        sandbox.mvmctl(["image", "tag", &image, name]).run()?.ok()?;
    }
    sandbox.mvmctl(["audit", "checkpoint"]).run()?.ok()?;
    sandbox.mvmctl(["image", "tag", &image, "four"]).run()?.ok()?;
    Ok(sandbox)
}

fn log(sandbox: &Sandbox) -> PathBuf {
    sandbox.store().join("audit/audit.jsonl")
}

/// Returns all entries.
fn entries(sandbox: &Sandbox) -> Result<Vec<Value>, Failed> {
    let text = sandbox.mvmctl(["audit", "tail", "--json", "-n", "100000"]).run()?.ok()?.out();
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn count(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|entry| entry["event"]["kind"] == kind).count()
}

fn verify(sandbox: &Sandbox) -> Result<Output, Failed> {
    Ok(sandbox.mvmctl(["audit", "verify"]).run()?)
}

fn story() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = image()?;
    for _ in 0..2 {
        sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    }
    let log = entries(&sandbox)?;
    for (kind, times) in
        [("resolve", 1), ("materialize", 1), ("sign", 2), ("admit", 2), ("launch", 2), ("stop", 2)]
    {
        ensure_eq!((kind, count(&log, kind)), (kind, times));
    }
    for kind in ["import", "fetch", "verify", "cache-hit", "key"] {
        ensure!(count(&log, kind) > 0, "no {kind} in the log");
    }
    let uid = rustix::process::getuid().as_raw();
    ensure!(log.iter().all(|entry| entry["uid"] == uid), "an entry of somebody else");
    // The end of each launch is signed.
    ensure_eq!(log.last().map(|entry| entry["event"]["kind"].clone()), Some("checkpoint".into()));
    let report = sandbox.json(["audit", "verify", "--json"])?;
    ensure_eq!(report["entries"], log.len());
    ensure_eq!(report["signed_entries"], log.len() - 1);
    ensure_eq!(report["head_recorded"], true);
    // One that can't be started once its launch is on record, and one that is refused before.
    sandbox.mvmctl(["run", "--rm", "--memory", "20m", &image, "true"]).run()?.exits(125)?;
    damage_kernel(&sandbox.store().join("kernels"))?;
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.exits(125)?;
    let log = entries(&sandbox)?;
    let ends: Vec<&Value> = log.iter().filter(|entry| entry["detail"]["error"].is_string()).collect();
    ensure_eq!(ends.len(), 1);
    ensure_eq!(ends[0]["event"]["outcome"], "failed");
    let error = ends[0]["detail"]["error"].as_str().unwrap_or_default();
    ensure!(error.contains("20 MiB of memory"), "{error}");
    ensure_eq!((count(&log, "launch"), count(&log, "stop"), count(&log, "refuse")), (3, 3, 1));
    verify(&sandbox)?.ok()?;
    Ok(())
}

/// Changes a byte in the largest file below a directory.
fn damage_kernel(directory: &Path) -> Outcome {
    let mut files = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else {
                files.push((entry.metadata()?.len(), entry.path()));
            }
        }
    }
    let (length, path) = files.into_iter().max().ok_or("no kernel")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2)?;
    Ok(file.write_all_at(&[!byte[0]], length / 2)?)
}

type Tamper = fn(&mut Vec<String>);

fn replace(line: &mut String, from: &str, to: &str) {
    assert!(line.contains(from), "{from} is not in {line}");
    *line = line.replacen(from, to, 1);
}

fn tampering() -> Outcome {
    let sandbox = pulled()?;
    let file = log(&sandbox);
    let whole = fs::read_to_string(&file)?;
    let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    let last = lines.len() - 1;
    let table: [(&str, Tamper, String); 10] = [
        ("edited", |l| replace(&mut l[2], "\"uid\":", "\"uid\":9"), "entry 2 (line 3) was edited".into()),
        (
            "the last edited",
            |l| replace(l.last_mut().expect("a line"), "\"uid\":", "\"uid\":9"),
            format!("entry {last}, the last one, was edited"),
        ),
        ("exchanged", |l| l.swap(2, 3), "entry 3 stands on line 3, where entry 2 belongs".into()),
        ("removed", |l| drop(l.remove(2)), "entry 2 was removed before line 3, which is entry 3".into()),
        (
            "the first two removed",
            |l| drop(l.drain(..2)),
            "entries 0 to 1 were removed before line 1, which is entry 2".into(),
        ),
        ("put in", |l| l.insert(3, l[1].clone()), "line 4 was put in: it is entry 1 a second time".into()),
        ("overwritten", |l| l[2] = "{}".to_owned(), "line 3, in place of entry 2, is not an entry".into()),
        (
            "cut",
            |l| l.truncate(3),
            format!(
                "its end was removed: it has 3 entries, the record of the log's end knows of {}",
                lines.len()
            ),
        ),
        ("emptied", |l| l.clear(), format!("all {} entries were removed", lines.len())),
        (
            "an escape",
            |l| l[2] = "\u{1b}[2J\u{202e}".to_owned(),
            "line 3, in place of entry 2, is not an entry".into(),
        ),
    ];
    for (case, tamper, expected) in table {
        let mut changed = lines.clone();
        tamper(&mut changed);
        let text: String = changed.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&file, text)?;
        let output = verify(&sandbox)?;
        ensure_eq!((case, output.code(), output.out()), (case, 4, String::new()));
        ensure!(output.err().contains(&expected), "{case}: {}", output.err());
        ensure!(!output.err().contains('\u{1b}'), "{case}: an escape");
        let shown = sandbox.mvmctl(["audit", "tail", "--text", "-n", "1000"]).run()?.ok()?.out();
        ensure!(!shown.contains(['\u{1b}', '\u{202e}']), "{case}: an escape: {shown}");
        ensure_eq!(shown.lines().count(), changed.len());
    }
    fs::remove_dir_all(sandbox.store().join("audit"))?;
    let gone = verify(&sandbox)?.exits(4)?;
    ensure!(
        gone.err().contains("entries were removed: the record of the log's end knows of them"),
        "{}",
        gone.err()
    );
    // It goes on with numbers that were never used, and what is missing stays named.
    sandbox.mvmctl(["image", "tag", "one", "five"]).run()?.ok()?;
    let log = entries(&sandbox)?;
    ensure_eq!(log[0]["event"]["kind"], "gap");
    ensure_eq!(log[0]["seq"], lines.len());
    let gone = verify(&sandbox)?.exits(4)?;
    ensure!(gone.err().contains(&format!("entries 0 to {last} were removed")), "{}", gone.err());
    Ok(())
}

fn witness() -> Outcome {
    let sandbox = pulled()?;
    let path = sandbox.path().join("witness.jsonl");
    let unset = sandbox.mvmctl(["audit", "witness"]).run()?.ok()?.out();
    ensure_eq!(unset, "none\n");
    sandbox.mvmctl(["audit", "witness"]).arg(&path).run()?.ok()?;
    ensure_eq!(sandbox.mvmctl(["audit", "witness"]).run()?.ok()?.out(), format!("{}\n", path.display()));
    sandbox.mvmctl(["image", "tag", "one", "six"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "checkpoint"]).run()?.ok()?;
    let good = verify(&sandbox)?.ok()?;
    ensure!(good.err().contains("has seen entries 0 to "), "{}", good.err());
    // Whoever can write the store cuts the log, and the record of its end with it.
    let text = fs::read_to_string(log(&sandbox))?;
    let kept: String = text.lines().take(5).map(|line| format!("{line}\n")).collect();
    fs::write(log(&sandbox), kept)?;
    fs::remove_file(sandbox.store().join("audit.head"))?;
    let cut = verify(&sandbox)?.exits(4)?;
    ensure!(
        cut.err().contains("its end was removed: it has 5 entries, line 2 of the witness knows of"),
        "{}",
        cut.err()
    );
    // Without the witness nobody could tell, and that is what is said.
    fs::remove_file(sandbox.store().join("audit.toml"))?;
    let unknown = verify(&sandbox)?.ok()?;
    ensure!(
        unknown.err().contains("can't be known: whether entries at the end were removed"),
        "{}",
        unknown.err()
    );
    let named = sandbox.mvmctl(["audit", "verify", "--witness"]).arg(&path).run()?.exits(4)?;
    ensure!(named.err().contains("its end was removed"), "{}", named.err());
    sandbox.mvmctl(["audit", "verify", "--witness", "/nonexistent/w"]).run()?.exits(3)?;
    Ok(())
}

fn writers() -> Outcome {
    const WRITERS: usize = 20;
    const EACH: usize = 3;
    let sandbox = pulled()?;
    let mut settings = File::create(sandbox.store().join("audit.toml"))?;
    writeln!(settings, "rotate-at = 4096")?;
    std::thread::scope(|scope| -> Result<(), Failed> {
        let write = |writer: usize| -> Result<(), Failed> {
            for number in 0..EACH {
                sandbox.mvmctl(["image", "tag", "one", &format!("w{writer}:{number}")]).run()?.ok()?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    let log = entries(&sandbox)?;
    for (index, entry) in log.iter().enumerate() {
        ensure_eq!(entry["seq"], index);
    }
    for writer in 0..WRITERS {
        let names: Vec<&str> = log.iter().filter_map(|entry| entry["event"]["requested"].as_str()).collect();
        let own: Vec<&&str> = names.iter().filter(|name| name.contains(&format!("/w{writer}:"))).collect();
        ensure_eq!(own.len(), EACH);
    }
    let report = sandbox.json(["audit", "verify", "--json"])?;
    ensure!(report["files"].as_u64() > Some(3), "{report}");
    Ok(())
}

fn followed() -> Outcome {
    let sandbox = pulled()?;
    let before = entries(&sandbox)?.len();
    let path = sandbox.path().join("followed");
    let mut follower = sandbox
        .mvmctl(["audit", "tail", "-f", "-n", "2"])
        .spawn(Stdio::from(File::create(&path)?), Stdio::null())?;
    let seen = || -> Result<Vec<u64>, Failed> {
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        Ok(lines.iter().filter_map(|entry| entry["seq"].as_u64()).collect())
    };
    eventually(|| Ok(seen()?.len() == 2))?;
    for round in 0..3 {
        sandbox.mvmctl(["image", "tag", "one", &format!("r{round}")]).run()?.ok()?;
        let kept = sandbox.mvmctl(["audit", "rotate"]).run()?.ok()?.out();
        ensure!(Path::new(kept.trim()).is_file(), "{kept}");
    }
    sandbox.mvmctl(["image", "tag", "one", "last"]).run()?.ok()?;
    let all = entries(&sandbox)?.len() as u64;
    eventually(|| Ok(seen()?.last() == Some(&(all - 1))))?;
    ensure_eq!(seen()?, ((before as u64 - 2)..all).collect::<Vec<_>>());
    rustix::process::kill_process(Pid::from_child(&follower), Signal::INT)?;
    ensure_eq!(follower.wait()?.code(), Some(130));
    verify(&sandbox)?.ok()?;
    // A file that is gone is noticed, whichever it is.
    let mut files: Vec<PathBuf> = fs::read_dir(sandbox.store().join("audit"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    ensure_eq!(files.len(), 4);
    for file in files {
        let content = fs::read(&file)?;
        fs::remove_file(&file)?;
        let output = verify(&sandbox)?.exits(4)?;
        ensure!(output.err().contains("removed"), "{}: {}", file.display(), output.err());
        fs::write(&file, content)?;
    }
    verify(&sandbox)?.ok()?;
    Ok(())
}

fn shown() -> Outcome {
    let sandbox = Sandbox::new()?;
    // A name that turns the text around it; control characters are refused before.
    let hostile = sandbox.path().join("x\u{202e}y");
    let layout = fixtures::busybox()?;
    Program::new("cp").arg("-r").arg(&layout).arg(&hostile).run()?.ok()?;
    sandbox.mvmctl(["pull", &format!("oci:{}:latest", hostile.display())]).run()?.ok()?;
    sandbox.mvmctl(["audit", "checkpoint"]).run()?.ok()?;
    let text = sandbox.mvmctl(["audit", "tail", "--text"]).run()?.ok()?.out();
    ensure!(text.contains("x\\u{202e}y") && !text.contains('\u{202e}'), "{text}");
    let all = entries(&sandbox)?;

    let first = sandbox.mvmctl(["audit", "show", "0"]).run()?.ok()?.out();
    ensure!(
        first.starts_with("entry ") && first.contains("resolve") && !first.contains('\u{202e}'),
        "{first}"
    );
    let manifest = all[0]["event"]["manifest"].as_str().ok_or("no manifest")?.to_owned();
    let about = sandbox.mvmctl(["audit", "show", "--json", &manifest[7..19]]).run()?.ok()?.out();
    let expected = all.iter().filter(|entry| entry["event"].to_string().contains(&manifest)).count();
    ensure_eq!(about.lines().count(), expected);
    for nothing in ["99999", "no-such-vm", "sha256:0123456789abcdef"] {
        let output = sandbox.mvmctl(["audit", "show", nothing]).run()?.exits(3)?;
        ensure!(output.err().contains("has no entry about"), "{}", output.err());
    }

    let export = |arguments: &[&str]| sandbox.mvmctl([&["audit", "export"], arguments].concat()).run();
    ensure_eq!(export(&[])?.ok()?.stdout, fs::read(log(&sandbox))?);
    ensure_eq!(export(&["--since", "1h"])?.ok()?.stdout, fs::read(log(&sandbox))?);
    ensure_eq!(export(&["--until", "1h"])?.ok()?.out(), "");
    ensure_eq!(export(&["--until", "2020-01-01"])?.ok()?.out(), "");
    let table = export(&["--format", "csv"])?.ok()?.out();
    ensure!(
        table.starts_with("seq,time,uid,login,scope,kind,vm,plan,digest,outcome,exit_code,event,detail\r\n"),
        "{table}"
    );
    ensure_eq!(table.matches("\r\n").count(), all.len() + 1);
    export(&["--since", "yesterday"])?.exits(2)?;
    // What is no entry is left out, and told of.
    let mut text = fs::read(log(&sandbox))?;
    text.extend_from_slice(b"x\n");
    fs::write(log(&sandbox), text)?;
    let output = export(&[])?.exits(4)?;
    ensure!(output.err().contains("1 lines of the audit log are no entries"), "{}", output.err());
    Ok(())
}

fn killed_supervisor() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    sandbox.mvmctl(["run", "-d", "--name", "lost", &image()?, "sleep", "1000"]).run()?.ok()?;
    let marks = sandbox.store().display().to_string();
    let supervisors = crate::lifecycle::processes(&[&marks, "supervise"])?;
    ensure_eq!(supervisors.len(), 1);
    rustix::process::kill_process(supervisors[0], Signal::KILL)?;
    eventually(|| Ok(crate::lifecycle::processes(&[&marks, "supervise"])?.is_empty()))?;
    // Many notice at once, and it is on record once.
    std::thread::scope(|scope| -> Result<(), Failed> {
        let list = || sandbox.mvmctl(["vm", "ls", "--all"]).run().and_then(Output::ok);
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(list)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a thread panicked")??;
            Ok(())
        })
    })?;
    let log = entries(&sandbox)?;
    let stops: Vec<&Value> = log.iter().filter(|entry| entry["event"]["kind"] == "stop").collect();
    ensure_eq!(stops.len(), 1);
    ensure_eq!(stops[0]["event"]["outcome"], "killed");
    let launch = log.iter().find(|entry| entry["event"]["kind"] == "launch").ok_or("no launch")?;
    ensure_eq!(stops[0]["event"]["nonce"], launch["event"]["nonce"]);
    sandbox.mvmctl(["vm", "rm", "lost"]).run()?.ok()?;
    ensure_eq!(count(&entries(&sandbox)?, "stop"), 1);
    let about = sandbox.mvmctl(["audit", "show", "--json", "lost"]).run()?.ok()?.out();
    for kind in ["sign", "admit", "launch", "stop", "delete"] {
        ensure!(about.contains(&format!("\"kind\":\"{kind}\"")), "no {kind} about the VM:\n{about}");
    }
    verify(&sandbox)?.ok()?;
    Ok(())
}

/// Unmounts when dropped.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        if Program::new("umount").arg("-l").arg(&self.0).run().is_err() {
            eprintln!("warning: cannot unmount {}", self.0.display());
        }
    }
}

fn full_disk() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = image()?;
    // The log alone lies on the small disk: everything else has room.
    let directory = sandbox.store().join("audit");
    let before = fs::read(log(&sandbox))?;
    Program::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"])
        .arg(&directory)
        .run()?
        .ok()?;
    let unmount = Unmount(directory.clone());
    fs::write(log(&sandbox), before)?;
    sandbox.mvmctl(["run", "-d", "--name", "runs", &image, "sleep", "1000"]).run()?.ok()?;
    let filler = directory.join("filler");
    // As much as fits, to the last byte.
    let mut file = File::create(&filler)?;
    while file.write(&[0; 4096]).is_ok_and(|count| count > 0) {}
    drop(file);
    let launches = count(&entries(&sandbox)?, "launch");
    let refused = sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.exits(125)?;
    ensure!(refused.err().contains("No space left on device"), "{}", refused.err());
    ensure!(refused.err().contains("nothing is done that the audit log can't tell of"), "{}", refused.err());
    sandbox.mvmctl(["image", "tag", &image, "late"]).run()?.exits(1)?;
    ensure_eq!(count(&entries(&sandbox)?, "launch"), launches);
    // The end of the VM that runs has its room.
    sandbox.mvmctl(["vm", "stop", "-t", "0", "runs"]).run()?.ok()?;
    eventually(|| Ok(count(&entries(&sandbox)?, "stop") == 1))?;
    verify(&sandbox)?.ok()?;
    fs::remove_file(&filler)?;
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    verify(&sandbox)?.ok()?;
    drop(unmount);
    Ok(())
}

/// Waits until something is so; a minute is far beyond what it takes.
fn eventually(mut condition: impl FnMut() -> Result<bool, Failed>) -> Outcome {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if condition()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("it never came to be".into())
}
