//! Help, versions, completions and manual pages.

use super::{Outcome, Sandbox, names};

const VERBS: [(&str, &str); 40] = [
    ("run", "Run a command in a new VM made from an image"),
    ("launch", "Launch a signed plan, also one that was signed on another machine"),
    ("up", "Start the VMs of an mvm.toml"),
    ("down", "Stop and remove the VMs of an mvm.toml"),
    ("validate", "Check an mvm.toml and show what it would make"),
    ("exec", "Run a further command in a running VM"),
    ("cp", "Copy files into a running VM or out of it"),
    ("attach", "Join the main command of a running VM: its output from now on, and its input if it"),
    ("ps", "List VMs"),
    ("stats", "Show what running VMs use of the host, once a second until interrupted"),
    ("logs", "Print what a VM's command and services wrote"),
    ("events", "Show what happened to VMs: started, ready, healthy, died …"),
    ("start", "Start VMs that have ended"),
    ("stop", "Stop VMs: the stop signal, a time of grace, then the end"),
    ("restart", "Stop VMs, if they run, and start them again"),
    ("kill", "Send a signal to the main process of VMs"),
    ("wait", "Wait until VMs end, and print the exit codes of their main processes"),
    ("rm", "Remove VMs that have ended"),
    ("systemd", "Print a systemd user unit that runs a VM"),
    ("build", "Build a flake in the builder VM and make an image of it"),
    ("flake", "Look at flakes, or begin one"),
    ("pull", "Fetch an image, verify it and make its root file system"),
    ("login", "Keep the user name and password for a registry, once it has accepted them"),
    ("logout", "Forget the credentials of a registry"),
    ("image", "List, inspect, load, save, push, verify, pin and remove images"),
    ("vm", "List, inspect, stop and remove VMs"),
    ("volume", "Make, list, grow, export and remove volumes: disks that outlive VMs"),
    ("builder", "Make, look at, collect and remove the builder: the VM with Nix that flakes are built"),
    ("kernel", "Import, build, list and remove guest kernels"),
    ("plan", "Make, show, sign, check and compare plans"),
    ("key", "Make, list, bring, give out, trust, revoke and replace the keys that sign plans"),
    ("policy", "Show the policy that launches are judged under, and judge a plan"),
    ("audit", "Read, check, sign and export the audit log"),
    ("gc", "Remove what no image name, pin, VM or running command needs"),
    ("df", "Show what the store holds on the disk, and what gc would free"),
    ("scope", "List, inspect, limit and remove scopes: partitions of the store that share nothing"),
    ("doctor", "Say what this machine lacks, why it matters, and the command that mends it"),
    ("version", "Print the versions of mvmctl and of what it makes"),
    ("completions", "Print the completion script of a shell"),
    ("man", "Write the manual pages, one file a verb"),
];

const SUB_VERBS: [(&str, &[&str]); 12] = [
    (
        "image",
        &[
            "ls",
            "inspect",
            "tree",
            "verify",
            "verify-signature",
            "provenance",
            "load",
            "tag",
            "rm",
            "pin",
            "unpin",
            "save",
            "push",
        ],
    ),
    (
        "vm",
        &[
            "ls", "inspect", "status", "stats", "logs", "events", "attach", "start", "stop", "restart",
            "kill", "wait", "pause", "resume", "rename", "update", "rollback", "rm",
        ],
    ),
    ("build", &["log", "ls"]),
    ("flake", &["show", "check", "init"]),
    ("volume", &["create", "ls", "inspect", "grow", "export", "rm"]),
    ("builder", &["init", "status", "shell", "gc", "grow", "rm"]),
    ("kernel", &["import", "build", "ls", "default", "rm"]),
    ("key", &["generate", "ls", "import", "export", "trust", "revoke", "rotate", "rm"]),
    ("plan", &["create", "show", "sign", "verify", "bundle", "import", "diff"]),
    ("policy", &["show", "check"]),
    ("audit", &["tail", "show", "verify", "export", "checkpoint", "rotate", "witness"]),
    ("scope", &["ls", "inspect", "set", "rm"]),
];

/// The verbs that a help text lists, with their first line.
fn listed(help: &str) -> Vec<(String, String)> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines
        // A text that goes on has no verb.
        .filter(|line| !line.starts_with("   "))
        .map(|line| {
            let (verb, words) = line.trim().split_once(' ').unwrap();
            (verb.to_owned(), words.trim().to_owned())
        })
        .filter(|(verb, _)| verb != "help")
        .collect()
}

#[test]
fn help_lists_each_verb() {
    let sandbox = Sandbox::new();
    let expected = VERBS.map(|(verb, words)| (verb.to_owned(), words.to_owned()));
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        let help = sandbox.prints(arguments);
        assert_eq!(listed(&help), expected, "{arguments:?}");
        assert!(help.contains("125 when mvmctl fails"), "{help}");
    }
    for (verb, _) in VERBS {
        let help = sandbox.prints(&[verb, "--help"]);
        assert!(help.contains(&format!("Usage: mvmctl {verb} ")), "{help}");
        for option in ["--root <DIR>", "--scope <NAME>", "--quiet"] {
            assert!(help.contains(option), "{verb}: {option}");
        }
    }
    for (verb, verbs) in SUB_VERBS {
        let help = sandbox.prints(&[verb, "--help"]);
        assert_eq!(listed(&help).into_iter().map(|(verb, _)| verb).collect::<Vec<_>>(), verbs, "{verb}");
        for inner in verbs {
            assert!(
                sandbox.prints(&[verb, inner, "--help"]).contains(&format!("Usage: mvmctl {verb} {inner} "))
            );
        }
    }
    assert!(!sandbox.root().exists(), "help needs no store");
}

#[test]
fn without_a_verb_the_help_is_an_error() {
    let sandbox = Sandbox::new();
    for arguments in [&[][..], &["image"], &["vm"], &["kernel"], &["plan"], &["policy"], &["audit"]] {
        let Outcome { code, stdout, stderr } = sandbox.mvmctl(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains("Commands:"), "{stderr}");
    }
}

#[test]
fn help_of_run_names_dockers_options() {
    let help = Sandbox::new().prints(&["run", "--help"]);
    for option in [
        "--name <NAME>",
        "--cpus <N>",
        "-m, --memory <SIZE>",
        "-e, --env <NAME[=VALUE]>",
        "--env-file <FILE>",
        "-w, --workdir <DIR>",
        "-u, --user <USER[:GROUP]>",
        "--entrypoint <PROGRAM>",
        "-i, --interactive",
        "-t, --tty",
        "--rm",
        "-d, --detach",
        "--platform <OS/ARCH>",
        "--pull <PULL>",
        "--kernel <DIGEST>",
        "--policy <NAME|FILE>",
    ] {
        assert!(help.contains(option), "{option}\n{help}");
    }
}

#[test]
fn versions_are_told_in_words_and_as_json() {
    let sandbox = Sandbox::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(sandbox.prints(&["--version"]), format!("mvmctl {version}\n"));
    let json = sandbox.json(&["version", "--json"]);
    let object = json.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["guest", "image_format", "mvmctl", "wire"]);
    assert_eq!(json["mvmctl"], version);
    let guest = json["guest"].as_str().unwrap();
    assert_eq!(guest.len(), "sha256:".len() + 64);
    let (format, wire) = (json["image_format"].as_u64().unwrap(), json["wire"].as_u64().unwrap());
    let short = &guest["sha256:".len()..][..12];
    assert_eq!(
        sandbox.prints(&["version"]),
        format!("mvmctl {version}\nimage format {format}\nwire {wire}\nguest {short}\n")
    );
}

#[test]
fn each_shell_has_completions() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sandbox.prints(&["completions", shell]);
        // What the script says to mvmctl makes it complete.
        assert!(script.contains("COMPLETE") && script.contains("mvmctl"), "{shell}: {script}");
    }
    let Outcome { code, stderr, .. } = sandbox.mvmctl(&["completions", "csh"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("error: invalid value 'csh' for '<SHELL>'\n"), "{stderr}");
}

#[test]
fn manual_pages_are_written_for_each_verb() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("share/man/man1");
    let place = directory.to_str().unwrap();
    let told =
        Outcome { code: 0, stdout: String::new(), stderr: format!("wrote the manual pages to {place}\n") };
    assert_eq!(sandbox.mvmctl(&["man", place]), told);
    let pages = names(&directory);
    let mut expected = vec!["mvmctl.1".to_owned()];
    expected.extend(VERBS.map(|(verb, _)| format!("mvmctl-{verb}.1")));
    for (verb, verbs) in SUB_VERBS {
        expected.extend(verbs.iter().map(|inner| format!("mvmctl-{verb}-{inner}.1")));
    }
    for page in expected {
        assert!(pages.contains(&page), "{page}: {pages:?}");
        let text = std::fs::read_to_string(directory.join(&page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert_eq!(sandbox.prints(&["--quiet", "man", place]), "");
}
