//! Errors: one line, a hint where there is one, and a documented exit code.

use super::{Outcome, Sandbox};

fn failure(code: i32, stderr: &str) -> Outcome {
    Outcome { code, stdout: String::new(), stderr: stderr.to_owned() }
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let sandbox = Sandbox::new();
    let vm = "mvmctl: no VM is named nosuch\n  hint: mvmctl vm ls --all lists them\n";
    let image = "mvmctl: no image \"nosuch\" is in the store\n  hint: mvmctl image ls lists them\n";
    let kernel = "mvmctl: no kernel \"ffffffff\" in the store\n  hint: mvmctl kernel ls lists them\n";
    let no_kernel = "mvmctl: no kernel has been imported\n  hint: mvmctl kernel build makes the tuned one; mvmctl \
                     kernel import takes an unpacked package\n";
    let table: [(&[&str], i32, &str); 13] = [
        (&["vm", "stop", "nosuch"], 3, vm),
        (&["vm", "rm", "nosuch"], 3, vm),
        (&["vm", "rm", "--force", "nosuch"], 3, vm),
        (&["exec", "nosuch", "true"], 125, vm),
        (&["image", "inspect", "nosuch"], 3, image),
        (&["image", "verify", "nosuch"], 3, image),
        (&["image", "rm", "nosuch"], 3, image),
        (&["kernel", "rm", "ffffffff"], 3, kernel),
        (&["kernel", "default", "ffffffff"], 3, kernel),
        (&["run", "--kernel", "ffffffff", "debian:12"], 125, kernel),
        (&["run", "debian:12"], 125, no_kernel),
        (&["run", "--pull", "never", "debian:12", "true"], 125, no_kernel),
        (&["run", "-d", "--name", "web", "debian:12"], 125, no_kernel),
    ];
    for (arguments, code, stderr) in table {
        assert_eq!(sandbox.mvmctl(arguments), failure(code, stderr), "{arguments:?}");
    }
    assert_eq!(sandbox.prints(&["vm", "ls", "--all"]).lines().count(), 1, "nothing was made");
}

#[test]
fn an_unknown_policy_is_named_before_anything_else() {
    let Outcome { code, stdout, stderr } = Sandbox::new().mvmctl(&["run", "--policy", "lax", "debian:12"]);
    assert_eq!((code, stdout.as_str()), (125, ""));
    assert!(
        stderr.starts_with("mvmctl: ") && stderr.contains("\"lax\"") && stderr.lines().count() <= 2,
        "{stderr}"
    );
    assert!(stderr.contains("development") && stderr.contains("production"), "{stderr}");
}

#[test]
fn a_layout_that_is_absent_or_none_is_not_found() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    std::fs::write(sandbox.path("file"), b"not a tar").unwrap();
    for (image, code) in
        [("oci:absent", 3), ("oci-archive:absent", 3), ("oci:empty", 3), ("oci-archive:file", 4)]
    {
        let Outcome { code: got, stdout, stderr } = sandbox.mvmctl(&["pull", image]);
        assert_eq!((got, stdout.as_str()), (code, ""), "{image}: {stderr}");
        let name = image.split_once(':').unwrap().1;
        assert!(
            stderr.starts_with("mvmctl: ") && stderr.contains(&format!("\"{name}\"")),
            "{image}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{image}: {stderr}");
    }
    assert_eq!(sandbox.prints(&["image", "ls"]).lines().count(), 1);
}

#[test]
fn a_registry_that_is_not_there_is_a_network_error() {
    let sandbox = Sandbox::new();
    // A port that was free a moment ago, on this machine.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // At once, however patient it is with a registry that has answered before.
    let image = format!("127.0.0.1:{port}/team/app");
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["pull", "--retries", "100", &image]);
    assert_eq!((code, stdout.as_str()), (6, ""), "{stderr}");
    assert!(stderr.starts_with(&format!("mvmctl: cannot reach 127.0.0.1:{port}")), "{stderr}");
}

#[test]
fn wrong_usage_is_two_but_where_the_code_is_the_commands() {
    let sandbox = Sandbox::new();
    let name = "VM name \"Bad/Name\" is not valid; use 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit";
    let memory = "\"lots\" is not a size; write MiB (512) or a number with b, k, m or g (2g)";
    let table: [(&[&str], i32, &str); 14] = [
        (&["vm", "stop", "Bad/Name"], 2, name),
        (&["vm", "rm", ""], 2, "VM name \"\" is not valid"),
        (&["--scope", "../x", "image", "ls"], 2, "scope name \"../x\" is not valid"),
        (&["pull", "https://example.com/x"], 2, "is an address, not an image reference"),
        (&["pull", "dir:x"], 2, "image source dir: is not supported"),
        (&["pull", "--platform", "", "x"], 2, "--platform"),
        (&["nosuch"], 2, "unrecognized subcommand 'nosuch'"),
        (&["image", "verify"], 2, "--all"),
        (&["run", "--name", "Bad/Name", "debian:12"], 125, name),
        (&["run", "--memory", "lots", "debian:12"], 125, memory),
        (&["--root", "run", "run", "--bogus", "debian:12"], 125, "unexpected argument '--bogus'"),
        (&["run"], 125, "<IMAGE>"),
        (&["run", "--cpus", "many", "debian:12"], 125, "invalid value 'many' for '--cpus <N>'"),
        (&["exec", "web"], 125, "<COMMAND>..."),
    ];
    for (arguments, code, words) in table {
        let Outcome { code: got, stdout, stderr } = sandbox.mvmctl(arguments);
        assert_eq!((got, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(words), "{arguments:?}: {stderr}");
    }
    assert!(!sandbox.root().exists());
}

#[test]
fn the_commands_own_options_are_not_ours() {
    let sandbox = Sandbox::new();
    for arguments in [&["run", "debian:12", "ls", "--bogus", "-la"][..], &["exec", "web", "ls", "--help"]] {
        let Outcome { code, stderr, .. } = sandbox.mvmctl(arguments);
        assert_eq!(code, 125, "{arguments:?}");
        assert!(stderr.starts_with("mvmctl: no "), "{arguments:?}: {stderr}");
    }
}

#[test]
fn environment_files_are_checked() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("good"), "# comment\n\nA=1\n  B=2\nC\n").unwrap();
    std::fs::write(sandbox.path("bad"), "A=1\nnot a variable\n").unwrap();
    let run = |file: &str| sandbox.mvmctl(&["run", "--env-file", file, "debian:12"]);
    assert!(run("good").stderr.starts_with("mvmctl: no kernel has been imported\n"));
    assert_eq!(run("bad"), failure(125, "mvmctl: bad:2: \"not a variable\" is not NAME=VALUE\n"));
    let absent = "mvmctl: read absent: No such file or directory (os error 2)\n";
    assert_eq!(run("absent"), failure(125, absent));
    let variable = sandbox.mvmctl(&["run", "-e", "=x", "debian:12"]);
    assert_eq!(variable, failure(125, "mvmctl: -e \"=x\" is not NAME[=VALUE]\n"));
}

#[test]
fn a_place_that_is_no_store_is_left_alone() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.root()).unwrap();
    std::fs::write(sandbox.root().join("thesis.txt"), b"a year's work").unwrap();
    let place = sandbox.root();
    let words =
        format!("mvmctl: {} is not a store and not empty: it contains \"thesis.txt\"\n", place.display());
    assert_eq!(sandbox.mvmctl(&["image", "ls"]), failure(1, &words));
    assert_eq!(super::names(&place), ["thesis.txt"]);
}

#[test]
fn an_error_is_one_line_whatever_it_names() {
    let sandbox = Sandbox::new();
    let Outcome { code, stderr, .. } = sandbox.mvmctl(&["image", "inspect", "a\u{1b}[31m\nb"]);
    assert_eq!(code, 3);
    assert_eq!(stderr.lines().count(), 2, "{stderr:?}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
    std::fs::write(sandbox.path("x\ny"), b"").unwrap();
    let Outcome { code, stderr, .. } = sandbox.mvmctl(&["kernel", "import", "x\ny"]);
    assert_ne!(code, 0);
    assert_eq!(stderr.lines().count(), 1, "{stderr:?}");
}

#[test]
fn a_kernel_that_is_none_is_not_imported() {
    let sandbox = Sandbox::new();
    let absent = "mvmctl: read absent: No such file or directory (os error 2)\n";
    assert_eq!(sandbox.mvmctl(&["kernel", "import", "absent"]), failure(1, absent));
    std::fs::write(sandbox.path("vmlinux"), b"#!/bin/sh\n").unwrap();
    std::fs::write(sandbox.path("config"), b"").unwrap();
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["kernel", "import", "vmlinux"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("mvmctl: import the kernel vmlinux: "), "{stderr}");
    let source = sandbox.mvmctl(&["kernel", "build", "--source", "absent.tar.xz"]);
    assert_ne!(source.code, 0);
    assert!(source.stderr.contains("absent.tar.xz"), "{source:?}");
}

#[test]
fn a_damaged_audit_log_is_found() {
    let sandbox = Sandbox::new();
    sandbox.prints(&["image", "ls"]);
    let log = sandbox.root().join("audit/audit.jsonl");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, b"{\"seq\":0}\n").unwrap();
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["audit", "verify"]);
    assert_eq!((code, stdout.as_str()), (4, ""), "{stderr}");
    let words = format!("mvmctl: the audit log {} does not verify: ", log.display());
    assert!(stderr.starts_with(&words), "{stderr}");
    assert_eq!(sandbox.prints(&["audit", "tail"]), "{\"seq\":0}\n");
}
