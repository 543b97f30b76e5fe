//! What the verbs print over an empty store, and where it goes.

use super::{Outcome, Sandbox, names};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

#[test]
fn an_empty_store_lists_nothing() {
    let sandbox = Sandbox::new();
    let table: [(&[&str], &str); 6] = [
        (&["image", "ls"], "IMAGE   MANIFEST   ROOT HASH   PLATFORM   PULLED   SIZE\n"),
        (&["vm", "ls"], "NAME   IMAGE   STATUS   HEALTH   PORTS   ISOLATION   COMMAND\n"),
        (&["vm", "ls", "--all"], "NAME   IMAGE   STATUS   HEALTH   PORTS   ISOLATION   COMMAND\n"),
        (&["kernel", "ls"], "   DIGEST   VERSION   MACHINE   MODULES   SIZE\n"),
        (&["audit", "tail"], ""),
        (&["image", "verify", "--all"], ""),
    ];
    for (arguments, expected) in table {
        assert_eq!(sandbox.prints(arguments), expected, "{arguments:?}");
    }
    let zeros = "0".repeat(64);
    assert_eq!(
        sandbox.prints(&["audit", "verify", "--quiet"]),
        format!("ok: 0 entries, head sha256:{zeros}\n")
    );
    let freed = |words: &str| Outcome { code: 0, stdout: String::new(), stderr: format!("{words} 0B\n") };
    // What others' VMs may have left on this host.
    sandbox.prints(&["gc", "--quiet"]);
    assert_eq!(sandbox.mvmctl(&["gc"]), freed("freed"));
    assert_eq!(sandbox.mvmctl(&["gc", "--dry-run"]), freed("would free"));
    assert_eq!(sandbox.prints(&["gc", "--quiet"]), "");
}

#[test]
fn json_is_json_also_where_there_is_nothing() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["image", "ls", "--json"][..],
        &["image", "verify", "--all", "--json"],
        &["vm", "ls", "--json"],
        &["kernel", "ls", "--json"],
    ] {
        assert_eq!(sandbox.json(arguments), json!([]), "{arguments:?}");
    }
    let report = sandbox.json(&["gc", "--json"]);
    assert_eq!((&report["removed"], &report["freed"]), (&json!([]), &json!(0)));
}

#[test]
fn doctor_says_what_is_missing_and_what_to_do() {
    let sandbox = Sandbox::new();
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["doctor", "--json"]);
    // A new store has no kernel, and no VM boots without one.
    assert_eq!((code, stderr.as_str()), (8, ""));
    let checks: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    let named: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let confinement = [
        "descriptors",
        "environment",
        "dies-with-supervisor",
        "no-new-privs",
        "no-capabilities",
        "seccomp",
        "resource-limits",
        "own-user",
        "landlock",
        "cgroup",
    ];
    let programs = ["qemu-system-x86_64", "mke2fs", "slirp4netns", "virtiofsd"];
    assert_eq!(named[..4], programs);
    assert_eq!(named[4..8], ["KVM", "store", "kernel", "name server"]);
    assert_eq!(named[8..], confinement);
    for check in &checks {
        let keys: Vec<_> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["found", "name", "ok", "remedy", "required", "why"]);
    }
    let kernel = json!({
        "name": "kernel", "ok": false, "required": true, "found": "none imported", "why": "VMs boot it",
        "remedy": "mvmctl kernel build, or mvmctl kernel import on an unpacked kernel package",
    });
    assert_eq!(checks[6], kernel);
    assert_eq!(checks[5]["ok"], json!(true));
    assert!(
        checks[5]["found"].as_str().unwrap().starts_with(sandbox.root().to_str().unwrap()),
        "{}",
        checks[5]
    );
    assert_eq!(checks[4]["required"], json!(false));

    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["doctor"]);
    assert_eq!((code, stderr.as_str()), (8, ""));
    let expected = "MISSING  kernel: none imported\n         why: VMs boot it\n         do:  mvmctl kernel build, or \
                    mvmctl kernel import on an unpacked kernel package\n";
    assert!(stdout.contains(expected), "{stdout}");
}

#[test]
fn doctor_works_where_there_can_be_no_store() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.root(), b"a file").unwrap();
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["doctor"]);
    assert_eq!((code, stderr.as_str()), (8, ""));
    assert!(stdout.contains("MISSING  store: "), "{stdout}");
    let root = sandbox.root();
    let remedy = format!(
        "do:  make {0} a directory that this user owns, or choose another one with --root",
        root.display()
    );
    assert!(stdout.contains(&remedy), "{stdout}");
}

#[test]
fn the_store_lies_where_it_is_asked_for() {
    let sandbox = Sandbox::new();
    let directory = |name: &str| sandbox.path(name).into_os_string();
    let table = [
        (vec!["--root", "relative"], vec![("MVM_ROOT", "unused")], "relative"),
        (vec![], vec![("MVM_ROOT", "by-variable"), ("XDG_DATA_HOME", "unused")], "by-variable"),
        (vec![], vec![("XDG_DATA_HOME", "data"), ("HOME", "unused")], "data/mvm"),
        (vec![], vec![("HOME", "home")], "home/.local/share/mvm"),
        // An empty variable counts as none.
        (vec![], vec![("MVM_ROOT", ""), ("HOME", "other")], "other/.local/share/mvm"),
    ];
    for (arguments, variables, expected) in table {
        let mut command = sandbox.command();
        command.env_clear();
        for (name, value) in &variables {
            command.env(name, if value.is_empty() { Default::default() } else { directory(value) });
        }
        let output = command.args(&arguments).args(["image", "ls"]).output().unwrap();
        assert!(output.status.success(), "{variables:?}: {output:?}");
        let root = sandbox.path(expected);
        assert!(root.join("store.json").is_file(), "{variables:?}");
        let mode = root.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{variables:?}");
        assert!(!sandbox.path("unused").exists());
    }
    let output = sandbox.command().env_clear().args(["image", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, b"mvmctl: no place for the store: neither --root nor $HOME is set\n");
}

#[test]
fn scopes_are_apart() {
    let sandbox = Sandbox::new();
    sandbox.prints(&["image", "ls"]);
    sandbox.prints(&["scope", "set", "tenant-a", "--quota", "none"]);
    sandbox.prints(&["--scope", "tenant-a", "image", "ls"]);
    let typo = sandbox.mvmctl(&["--scope", "tenant", "image", "ls"]);
    assert_eq!((typo.code, typo.stdout.as_str()), (3, ""), "{}", typo.stderr);
    assert_eq!(names(&sandbox.root().join("scopes")), ["default", "tenant-a"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = sandbox.command().args(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), vec![]));
}
