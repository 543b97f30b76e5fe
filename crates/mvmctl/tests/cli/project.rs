//! `validate`: what an mvm.toml would make, and its mistakes.

use super::{Outcome, Sandbox};

const SHOP: &str = r#"
name = "shop"
[volumes.data]
[vm.web]
image = "debian:12"
ports = ["8080:80", 443]
after = { db = "healthy" }
[vm.web.services.http]
command = ["httpd"]
[vm.db]
image = "oci:images/db"
memory = "1g"
mounts = ["data:/var/lib/db"]
[vm.db.health.ready]
command = "true"
"#;

#[test]
fn what_would_be_made_is_shown_in_the_order_of_starts() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("mvm.toml"), SHOP).unwrap();
    let here = sandbox.path("").canonicalize().unwrap();
    let here = here.display().to_string();
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["validate"]);
    let expected = "\
VM         IMAGE                         CPUS   MEMORY     RUNS   CHECKS   PORTS                                           AFTER
shop-db    oci:HERE/images/db            1      1024 MiB   main   ready    -                                               -
shop-web   docker.io/library/debian:12   1      512 MiB    http   -        127.0.0.1:8080->80/tcp, 127.0.0.1:any->443/tcp   db healthy
";
    let squeezed = |text: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.replace(&here, "HERE").lines().map(words).collect::<Vec<_>>().join("\n")
    };
    assert_eq!((code, squeezed(&stdout), stderr.as_str()), (0, squeezed(expected), "volume shop-data\n"));
    for file in [".", "mvm.toml", "./mvm.toml"] {
        assert_eq!(sandbox.prints(&["-q", "validate", "-f", file]), stdout, "{file}");
    }
    let json = sandbox.json(&["-q", "validate", "--json"]);
    assert_eq!(json["vms"][1]["after"], serde_json::json!([{ "vm": "db", "until": "healthy" }]));
    assert!(!sandbox.root().exists(), "no store is needed");
}

#[test]
fn mistakes_are_shown_with_their_places() {
    let sandbox = Sandbox::new();
    let text = SHOP.replace("memory = \"1g\"", "memroy = \"1g\"").replace("\"data:", "\"dta:");
    std::fs::write(sandbox.path("other.toml"), text).unwrap();
    let said = "mvmctl: other.toml:12:1: unknown key `memroy` in [vm.db]
  12 | memroy = \"1g\"
     | ^^^^^^ did you mean `memory`?
other.toml:13:11: there is no volume `dta` in this file
  13 | mounts = [\"dta:/var/lib/db\"]
     |           ^^^^^^^^^^^^^^^^^ did you mean `data`?
";
    let failed = sandbox.mvmctl(&["validate", "-f", "other.toml"]);
    assert_eq!(failed, Outcome { code: 2, stdout: String::new(), stderr: said.to_owned() });
    let Outcome { code, stdout, stderr } = sandbox.mvmctl(&["validate", "--json", "-f", "other.toml"]);
    assert_eq!((code, stderr.as_str()), (2, said));
    let expected = serde_json::json!({ "mistakes": [
        { "line": 12, "column": 1, "message": "unknown key `memroy` in [vm.db]", "help": "did you mean `memory`?" },
        { "line": 13, "column": 11, "message": "there is no volume `dta` in this file", "help": "did you mean `data`?" },
    ] });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap(), expected);
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let sandbox = Sandbox::new();
    let said = "mvmctl: read mvm.toml: No such file or directory (os error 2)\n";
    let expected = Outcome { code: 1, stdout: String::new(), stderr: said.to_owned() };
    assert_eq!(sandbox.mvmctl(&["validate"]), expected);
}
