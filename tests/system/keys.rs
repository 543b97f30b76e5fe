//! Keys through the command line: made, brought, given out, trusted, revoked, replaced; what openssl makes of them; crashes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Output, Program};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use serde_json::{Value, json};

use crate::{BUSYBOX, Case, Outcome, UMOCI, ensure, ensure_eq};

const OPENSSL: Need = Need::Program("openssl", "openssl");
const STRACE: Need = Need::Program("strace", "strace");

pub const CASES: &[Case] = &[
    Case { name: "keys::made_listed_and_given_out", needs: &[Need::Mvmctl, OPENSSL], run: made },
    Case { name: "keys::passphrases", needs: &[Need::Mvmctl, OPENSSL], run: passphrases },
    Case {
        name: "keys::passphrases_are_asked_for_unseen",
        needs: &[Need::Mvmctl, OPENSSL, Need::Program("python3", "python3")],
        run: asked,
    },
    Case { name: "keys::brought_and_trusted", needs: &[Need::Mvmctl, OPENSSL], run: brought },
    Case { name: "keys::bad_files_are_refused", needs: &[Need::Mvmctl, OPENSSL], run: bad_files },
    Case { name: "keys::revoked_and_replaced", needs: &[Need::Mvmctl], run: replaced },
    Case { name: "keys::first_use_by_twenty", needs: &[Need::Mvmctl], run: first_use },
    Case { name: "keys::killed_at_each_step", needs: &[Need::Mvmctl, STRACE], run: killed },
    Case {
        name: "keys::sign_what_runs",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX, OPENSSL],
        run: sign,
    },
];

type Failure = libtest_mimic::Failed;

fn openssl<const N: usize>(directory: &Path, arguments: [&str; N]) -> Result<String, Failure> {
    Ok(Program::new("openssl").args(arguments).directory(directory).run()?.ok()?.out())
}

fn key<const N: usize>(sandbox: &Sandbox, arguments: [&str; N]) -> Result<Output, Failure> {
    Ok(sandbox.mvmctl(["key"]).args(arguments).directory(sandbox.path()).run()?)
}

/// Lists the keys as name, where the private half is, and whether it is trusted, for development, and revoked.
fn listed(sandbox: &Sandbox) -> Result<Vec<Value>, Failure> {
    let keys = sandbox.json(["key", "ls", "--json"])?;
    let row = |key: &Value| {
        json!([key["name"], key["private"], key["trusted"], key["development"], !key["revoked"].is_null()])
    };
    Ok(keys.as_array().into_iter().flatten().map(row).collect())
}

fn mode(path: &Path) -> Result<u32, Failure> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

fn secret(sandbox: &Sandbox, name: &str, text: &str) -> Outcome {
    let path = sandbox.path().join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

fn made() -> Outcome {
    let sandbox = Sandbox::new()?;
    ensure_eq!(key(&sandbox, ["ls", "--json"])?.ok()?.out(), "[]\n");
    let id = key(&sandbox, ["generate", "release"])?.ok()?.out().trim().to_owned();
    ensure_eq!(id.len(), 64);
    key(&sandbox, ["generate", "--development", "try"])?.ok()?;
    let expected = [
        json!(["local", "plain", true, true, false]),
        json!(["release", "plain", true, false, false]),
        json!(["try", "plain", true, true, false]),
    ];
    ensure_eq!(listed(&sandbox)?, expected);
    let keys = sandbox.store().join("keys");
    ensure_eq!(
        (mode(&keys)?, mode(&keys.join("release.pem"))?, mode(&keys.join("trust.json"))?),
        (0o700, 0o600, 0o600)
    );
    let taken = key(&sandbox, ["generate", "release"])?.exits(7)?.err();
    ensure!(taken.contains("there is a key \"release\"") && taken.contains("key rotate release"), "{taken}");
    key(&sandbox, ["generate", "../x"])?.exits(2)?;

    // The ID is the SHA-256 of the raw public key, the last 32 bytes of its DER.
    let public = key(&sandbox, ["export", "release"])?.ok()?.out();
    fs::write(sandbox.path().join("public.pem"), &public)?;
    let der = Program::new("openssl")
        .args(["pkey", "-pubin", "-in", "public.pem", "-outform", "DER"])
        .directory(sandbox.path())
        .run()?
        .ok()?
        .stdout;
    let digest = Program::new("openssl").args(["dgst", "-sha256", "-r"]).input(&der[12..]).run()?.ok()?.out();
    ensure!(digest.starts_with(&id), "the ID is {id}, openssl says {digest}");
    for which in [id.as_str(), &id[..8]] {
        ensure_eq!(key(&sandbox, ["export", which])?.ok()?.out(), public);
    }
    key(&sandbox, ["export", "--private", "release", "-o", "private.pem"])?.ok()?;
    ensure_eq!(mode(&sandbox.path().join("private.pem"))?, 0o600);
    ensure_eq!(openssl(sandbox.path(), ["pkey", "-in", "private.pem", "-pubout"])?, public);
    // A file that is there is nobody's to write over.
    key(&sandbox, ["export", "--private", "release", "-o", "private.pem"])?.exits(1)?;
    for unknown in ["nosuch", "0000"] {
        ensure!(key(&sandbox, ["export", unknown])?.exits(3)?.err().contains("there is no key"), "{unknown}");
    }
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

fn passphrases() -> Outcome {
    let sandbox = Sandbox::new()?;
    secret(&sandbox, "pass", "correct horse\nnot this\n")?;
    secret(&sandbox, "wrong", "battery staple\n")?;
    secret(&sandbox, "empty", "\nx\n")?;
    key(&sandbox, ["generate", "--passphrase-file", "pass", "sealed"])?.ok()?;
    ensure_eq!(listed(&sandbox)?[1], json!(["sealed", "passphrase", true, false, false]));
    let file = sandbox.store().join("keys/sealed.pem");
    let text = fs::read_to_string(&file)?;
    ensure!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{text}");
    let public = key(&sandbox, ["export", "sealed"])?.ok()?.out();
    let path = file.to_string_lossy().into_owned();
    let read = openssl(sandbox.path(), ["pkey", "-in", &path, "-passin", "pass:correct horse", "-pubout"])?;
    ensure_eq!(read, public);

    // Given out under its passphrase, and brought to another store.
    key(&sandbox, ["export", "--private", "sealed", "-o", "sealed.pem"])?.ok()?;
    let other = Sandbox::new()?;
    let from = sandbox.path().join("sealed.pem").to_string_lossy().into_owned();
    let pass = |name: &str| sandbox.path().join(name).to_string_lossy().into_owned();
    let import = |name: &str| key(&other, ["import", &from, "--name", "s", "--passphrase-file", &pass(name)]);
    let wrong = import("wrong")?.exits(1)?.err();
    ensure!(wrong.contains("the passphrase is wrong") && !wrong.contains("staple"), "{wrong}");
    ensure!(import("empty")?.exits(2)?.err().contains("the passphrase is empty"), "an empty passphrase");
    let alone = key(&other, ["import", &from, "--name", "s"])?.exits(1)?.err();
    ensure!(alone.contains("there is no terminal to ask on; give --passphrase-file FILE"), "{alone}");
    import("pass")?.ok()?;
    ensure_eq!(key(&other, ["export", "s"])?.ok()?.out(), public);
    ensure_eq!(listed(&other)?[1], json!(["s", "passphrase", true, false, false]));

    // What others can read is no secret.
    fs::set_permissions(sandbox.path().join("pass"), fs::Permissions::from_mode(0o640))?;
    let open = key(&sandbox, ["generate", "--passphrase-file", "pass", "second"])?.exits(1)?.err();
    ensure!(open.contains("has mode 0640, so others can read it"), "{open}");
    // A key under a passphrase is not followed by one without.
    let plain = key(&sandbox, ["rotate", "sealed"])?.exits(2)?.err();
    ensure!(plain.contains("the one that replaces it needs one too"), "{plain}");
    Ok(())
}

/// Gives a program a terminal and answers each question once it is asked. Prints what the terminal showed, how the program
/// ended, and whether the terminal still shows what is typed.
const TYPIST: &str = r#"
import json, os, pty, select, sys, termios
dialogue, command = json.loads(sys.argv[1]), sys.argv[2:]
master, slave = pty.openpty()
child = os.fork()
if child == 0:
    os.close(master)
    os.login_tty(slave)
    os.execv(command[0], command)
shown, seen = b"", 0
def hear(limit):
    global shown
    heard = select.select([master], [], [], limit)[0]
    if heard:
        shown += os.read(master, 65536)
    return heard
for question, answer in dialogue:
    while question.encode() not in shown[seen:]:
        if not hear(60):
            sys.exit("nobody asked: " + repr(shown))
    seen = len(shown)
    os.write(master, answer.encode())
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
while hear(0):
    pass
echo = bool(termios.tcgetattr(slave)[3] & termios.ECHO)
print(json.dumps({"code": code, "echo": echo, "shown": shown.decode()}))
"#;

fn asked() -> Outcome {
    let sandbox = Sandbox::new()?;
    let (first, again) = ("New passphrase: ", "The same again: ");
    let (pass, other, interrupt) = ("correct horse\n", "battery staple\n", "corr\u{3}");
    // What is asked and answered, the exit code, and what is said in the end.
    let generate = ["key", "generate", "--passphrase", "sealed"].as_slice();
    let table = [
        (vec![(first, pass), (again, other)], 1, "the two passphrases differ"),
        (vec![(first, "\n")], 1, "the passphrase is empty"),
        (vec![(first, interrupt)], 130, ""),
        (vec![(first, pass), (again, interrupt)], 130, ""),
        (vec![(first, pass), (again, pass)], 0, ""),
    ];
    let talk = |arguments: &[&str], dialogue: &[(&str, &str)]| -> Result<Value, Failure> {
        let dialogue = json!(dialogue).to_string();
        let typist = Program::new("python3").args(["-c", TYPIST, &dialogue]).arg(workspace::mvmctl());
        let output = typist.arg("--root").arg(sandbox.store()).args(arguments).run()?.ok()?.out();
        Ok(serde_json::from_str(&output)?)
    };
    for (dialogue, code, words) in table {
        let told = talk(generate, &dialogue)?;
        let shown = told["shown"].as_str().unwrap_or_default();
        ensure!(told["code"] == code && shown.contains(words), "{dialogue:?}: {told}");
        // Nothing typed is shown, not even by the terminal, which is left as it was.
        ensure!(!["corr", "battery"].iter().any(|word| shown.contains(word)), "{dialogue:?}: {told}");
        ensure_eq!(told["echo"], true);
        ensure_eq!(sandbox.store().join("keys/sealed.pem").exists(), code == 0);
    }
    let path = sandbox.store().join("keys/sealed.pem").to_string_lossy().into_owned();
    openssl(sandbox.path(), ["pkey", "-in", &path, "-passin", "pass:correct horse", "-pubout"])?;
    // The passphrase that a key has is asked for too, where the key is opened.
    let copy = sandbox.path().join("copy.pem").to_string_lossy().into_owned();
    key(&sandbox, ["export", "--private", "sealed", "-o", &copy])?.ok()?;
    key(&sandbox, ["rm", "sealed"])?.ok()?;
    for (answer, code, words) in [(other, 1, "the passphrase is wrong"), (pass, 0, "")] {
        let told = talk(&["key", "import", "--name", "sealed", &copy], &[("Passphrase of key ", answer)])?;
        let shown = told["shown"].as_str().unwrap_or_default();
        ensure!(told["code"] == code && shown.contains(words) && !shown.contains(answer.trim()), "{told}");
    }
    Ok(())
}

fn brought() -> Outcome {
    let sandbox = Sandbox::new()?;
    let path = sandbox.path();
    openssl(path, ["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"])?;
    fs::write(path.join("theirs.pub"), openssl(path, ["pkey", "-in", "theirs.pem", "-pubout"])?)?;
    key(&sandbox, ["trust", "theirs.pub", "--name", "theirs"])?.ok()?;
    ensure_eq!(listed(&sandbox)?[1], json!(["theirs", "elsewhere", true, false, false]));
    ensure!(
        key(&sandbox, ["trust", "theirs.pub", "--name", "again"])?.exits(7)?.err().contains("as \"theirs\""),
        "twice"
    );
    let public_only = key(&sandbox, ["export", "--private", "theirs"])?.exits(3)?.err();
    ensure!(public_only.contains("only the public half of key \"theirs\""), "{public_only}");
    key(&sandbox, ["rotate", "theirs"])?.exits(3)?;
    // The private half joins the public one under the same name, and no other.
    key(&sandbox, ["import", "theirs.pem", "--name", "else"])?.exits(7)?;
    key(&sandbox, ["import", "theirs.pem", "--name", "theirs"])?.ok()?;
    ensure_eq!(listed(&sandbox)?[1], json!(["theirs", "plain", true, false, false]));
    // Moving house: the local key of one store becomes that of another.
    let other = Sandbox::new()?;
    let moved = path.join("theirs.pem").to_string_lossy().into_owned();
    key(&other, ["import", &moved, "--name", "local", "--development"])?.ok()?;
    ensure_eq!(listed(&other)?, [json!(["local", "plain", true, true, false])]);
    // Other formats and kinds.
    openssl(path, ["genpkey", "-algorithm", "RSA", "-out", "rsa.pem"])?;
    openssl(path, ["genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", "der.pem"])?;
    for file in ["rsa.pem", "der.pem", "theirs.pub"] {
        fs::set_permissions(path.join(file), fs::Permissions::from_mode(0o600))?;
        key(&sandbox, ["import", file, "--name", "x"])?.exits(1)?;
    }
    key(&sandbox, ["trust", "theirs.pem", "--name", "x"])?.exits(1)?;
    ensure_eq!(listed(&sandbox)?.len(), 2);
    Ok(())
}

fn bad_files() -> Outcome {
    let sandbox = Sandbox::new()?;
    let path = sandbox.path();
    openssl(path, ["genpkey", "-algorithm", "ed25519", "-out", "good.pem"])?;
    let set = |name: &str, mode| fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode));
    symlink("good.pem", path.join("link.pem"))?;
    fs::create_dir(path.join("directory.pem"))?;
    fs::write(path.join("huge.pem"), vec![b'\n'; 1 << 20])?;
    fs::copy(path.join("good.pem"), path.join("loose.pem"))?;
    set("huge.pem", 0o600)?;
    set("loose.pem", 0o644)?;
    for (file, words) in [
        ("link.pem", "is a symbolic link; expected a file"),
        ("directory.pem", "is not a regular file"),
        ("huge.pem", "at most 65536 are read"),
        ("loose.pem", "has mode 0644; run chmod 600"),
        ("/dev/zero", "is not a regular file"),
        ("absent.pem", "No such file"),
    ] {
        let output = key(&sandbox, ["import", file, "--name", "x"])?.exits(1)?;
        ensure!(output.err().contains(words), "{file}: {}", output.err());
    }
    // In the store too, where somebody else put them.
    key(&sandbox, ["generate", "mine"])?.ok()?;
    let mine = sandbox.store().join("keys/mine.pem");
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o604))?;
    ensure!(key(&sandbox, ["ls"])?.exits(1)?.err().contains("has mode 0604"), "a loose key was read");
    fs::rename(&mine, path.join("mine.pem"))?;
    symlink(path.join("mine.pem"), &mine)?;
    ensure!(key(&sandbox, ["ls"])?.exits(1)?.err().contains("is a symbolic link"), "a link was followed");
    Ok(())
}

fn replaced() -> Outcome {
    let sandbox = Sandbox::new()?;
    let first = key(&sandbox, ["generate", "release"])?.ok()?.out().trim().to_owned();
    let second = key(&sandbox, ["rotate", "release"])?.ok()?.out().trim().to_owned();
    let third = key(&sandbox, ["rotate", "--keep-for", "30", "release"])?.ok()?.out().trim().to_owned();
    let former = |id: &str| format!("release~{}", &id[..8]);
    let expected = [
        json!(["local", "plain", true, true, false]),
        json!([former(&first), "elsewhere", false, false, true]),
        json!([former(&second), "elsewhere", true, false, false]),
        json!(["release", "plain", true, false, false]),
    ];
    ensure_eq!(listed(&sandbox)?, expected);
    let table = key(&sandbox, ["ls"])?.ok()?.out();
    ensure!(table.contains("trusted until ") && table.contains("revoked at "), "{table}");
    key(&sandbox, ["revoke", &third])?.ok()?;
    // Twice is no harm, and changes nothing.
    let before = fs::read(sandbox.store().join("keys/trust.json"))?;
    key(&sandbox, ["revoke", "release"])?.ok()?;
    ensure_eq!(fs::read(sandbox.store().join("keys/trust.json"))?, before);
    // A revoked key doesn't come back.
    key(&sandbox, ["export", "release", "-o", "release.pub"])?.ok()?;
    fs::remove_file(sandbox.store().join("keys/release.pem"))?;
    let back = key(&sandbox, ["trust", "release.pub", "--name", "again"])?.exits(5)?.err();
    ensure!(back.contains("key \"release\" was revoked at "), "{back}");
    key(&sandbox, ["revoke", "nosuch"])?.exits(3)?;
    key(&sandbox, ["rm", "release", &former(&first)])?.ok()?;
    ensure_eq!(listed(&sandbox)?.len(), 2);
    // The local key may go, and another one comes at its next use; it is trusted when its owner says so.
    key(&sandbox, ["trust", "release.pub", "--name", "local"])?.exits(7)?;
    key(&sandbox, ["rm", "local"])?.ok()?;
    key(&sandbox, ["generate", "other"])?.ok()?;
    let local = listed(&sandbox)?.into_iter().find(|row| row[0] == "local");
    ensure_eq!(local, Some(json!(["local", "plain", false, null, false])));
    key(&sandbox, ["export", "local", "-o", "local.pub"])?.ok()?;
    key(&sandbox, ["trust", "local.pub", "--name", "other"])?.exits(7)?;
    key(&sandbox, ["trust", "local.pub", "--name", "local", "--development"])?.ok()?;
    let local = listed(&sandbox)?.into_iter().find(|row| row[0] == "local");
    ensure_eq!(local, Some(json!(["local", "plain", true, true, false])));
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    let log = sandbox.mvmctl(["audit", "tail", "-n", "100"]).run()?.ok()?.out();
    for act in ["generate", "trust", "rotate", "revoke", "remove"] {
        ensure!(log.contains(&format!("\"{act}\"")), "no {act} in the log:\n{log}");
    }
    Ok(())
}

fn first_use() -> Outcome {
    let sandbox = Sandbox::new()?;
    let start = |number: u32| {
        sandbox.mvmctl(["key", "generate"]).arg(format!("k{number}")).spawn(Stdio::null(), Stdio::null())
    };
    let mut children: Vec<_> = (0..20).map(start).collect::<Result<_, _>>()?;
    for child in &mut children {
        ensure!(child.wait()?.success(), "a process failed");
    }
    let names: Vec<Value> = listed(&sandbox)?.iter().map(|row| row[0].clone()).collect();
    ensure_eq!(names.len(), 21);
    ensure_eq!(names.iter().filter(|name| **name == json!("local")).count(), 1);
    ensure_eq!(names.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), 21);
    let left = fs::read_dir(sandbox.store().join("keys"))?.count();
    ensure_eq!(left, 22);
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

/// Calls that change something. strace counts each kind for itself.
const CALLS: [&str; 6] = ["write", "fsync", "fdatasync", "rename", "unlink", "unlinkat"];

/// Kills a command at each of its calls that change something, until it ends unharmed.
fn killed() -> Outcome {
    let mut kills = 0;
    for arguments in [["generate", "new"], ["rotate", "old"], ["rm", "old"]] {
        for call in CALLS {
            for count in 1.. {
                if killed_at(arguments, call, count)? {
                    break;
                }
                kills += 1;
            }
        }
    }
    ensure!(kills > 15, "only {kills} calls were seen");
    Ok(())
}

/// Kills a command at the `count`th call of a kind; tells whether it ended before that.
fn killed_at(arguments: [&str; 2], call: &str, count: u32) -> Result<bool, Failure> {
    let verb = arguments[0];
    let sandbox = Sandbox::new()?;
    key(&sandbox, ["generate", "old"])?.ok()?;
    let inject = format!("inject={call}:signal=SIGKILL:when={count}");
    let victim = sandbox.mvmctl(["key"]).args(arguments).describe();
    let output = Program::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "--"])
        .args(victim.split(' '))
        .clean_env()
        .run()?;
    // Whatever it left, the store opens, and the command can be repeated unless it was done.
    let rows = listed(&sandbox)?;
    let has = |name: &str| rows.iter().any(|row| row[0] == name);
    ensure!(has("local"), "{verb} at {call} {count}: {rows:?}");
    let done = match verb {
        "generate" => has("new"),
        "rm" => !has("old"),
        _ => false,
    };
    if !done {
        key(&sandbox, arguments)?.ok()?;
    }
    key(&sandbox, ["generate", "after"])?.ok()?;
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(sandbox.store().join("keys"))? {
        files.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let own: &[&str] = match verb {
        "generate" => &["new", "old"],
        "rm" => &[],
        _ => &["old"],
    };
    let expected = own.iter().chain(&["after", "local"]).map(|name| format!("{name}.pem"));
    let expected: BTreeSet<String> = expected.chain(["trust.json".to_owned()]).collect();
    ensure!(files == expected, "{verb} at {call} {count}: {files:?}");
    let rows = listed(&sandbox)?;
    for name in own {
        // The private half is that of the key that the list has under the name.
        let row = rows.iter().find(|row| row[0] == **name);
        ensure_eq!(row, Some(&json!([name, "plain", true, false, false])));
    }
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(output.code() == 0)
}

fn sign() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    secret(&sandbox, "pass", "correct horse\n")?;
    let one = key(&sandbox, ["generate", "one"])?.ok()?.out().trim().to_owned();
    let two = key(&sandbox, ["generate", "--passphrase-file", "pass", "two"])?.ok()?.out().trim().to_owned();
    let pass = sandbox.path().join("pass").to_string_lossy().into_owned();
    let run = |name: &str, keys: &[&str]| {
        let run = sandbox.mvmctl(["run", "--name", name, "--passphrase-file", &pass]);
        run.args(keys.iter().flat_map(|key| ["--key", *key])).arg(&image).arg("true").run()
    };
    run("both", &["one", "two"])?.ok()?;
    let envelope: Value =
        serde_json::from_slice(&fs::read(sandbox.store().join("vms/both/plan.dsse.json"))?)?;
    let signed = envelope["signatures"].as_array().map(Vec::len);
    ensure_eq!(signed, Some(2));
    // What openssl says of it: the DSSE pre-authentication encoding, built here.
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, payload) = (text(&envelope["payloadType"]), STANDARD.decode(text(&envelope["payload"]))?);
    let mut pae = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    pae.extend(payload);
    fs::write(sandbox.path().join("pae"), pae)?;
    for (index, (name, id)) in [("one", &one), ("two", &two)].into_iter().enumerate() {
        let signature = &envelope["signatures"][index];
        ensure_eq!(text(&signature["keyid"]), **id);
        fs::write(sandbox.path().join("sig"), STANDARD.decode(text(&signature["sig"]))?)?;
        fs::write(sandbox.path().join("public.pem"), key(&sandbox, ["export", name])?.ok()?.out())?;
        let verified = openssl(
            sandbox.path(),
            [
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "public.pem",
                "-rawin",
                "-in",
                "pae",
                "-sigfile",
                "sig",
            ],
        )?;
        ensure_eq!(verified, "Signature Verified Successfully\n");
    }
    let admitted = sandbox.mvmctl(["audit", "tail", "-n", "10"]).run()?.ok()?.out();
    ensure!(
        admitted.contains(&one) && admitted.contains(&two),
        "the log doesn't name the signers:\n{admitted}"
    );

    key(&sandbox, ["revoke", "one"])?.ok()?;
    let refused = run("no", &["one"])?.exits(125)?.err();
    ensure!(refused.contains("key \"one\" was revoked at "), "{refused}");
    ensure!(
        run("no", &["nosuch"])?.exits(125)?.err().contains("there is no key \"nosuch\""),
        "an unknown key"
    );
    ensure!(run("no", &["two", "two"])?.exits(125)?.err().contains("twice"), "one key signed twice");
    key(&sandbox, ["revoke", "local"])?.ok()?;
    let local = sandbox.mvmctl(["run", &image, "true"]).run()?.exits(125)?.err();
    ensure!(local.contains("key \"local\" was revoked at ") && local.contains("key rotate local"), "{local}");
    key(&sandbox, ["rotate", "local"])?.ok()?;
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    Ok(())
}
