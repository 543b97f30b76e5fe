//! Options and settings of the way to a registry: what they allow, and what they rule out.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;

use crate::bad_input::refused;
use crate::{BUSYBOX, Case, Outcome, PULL, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "network::offline_answers_from_the_store", needs: PULL, run: offline },
    Case { name: "network::mirrors_and_rules", needs: PULL, run: mirrors },
    Case { name: "network::bad_rules", needs: &[Need::Mvmctl, UMOCI, BUSYBOX], run: bad_rules },
    Case { name: "network::proxies", needs: PULL, run: proxies },
    Case { name: "network::patience", needs: &[Need::Mvmctl], run: patience },
];

fn offline() -> Outcome {
    let registry = Registry::start()?;
    registry.push(&fixtures::busybox()?, "team/app:one", &[])?;
    let image = format!("{}/team/app:one", registry.address());
    let sandbox = Sandbox::new()?;
    let before = registry.log()?.len();
    let absent = sandbox.mvmctl(["pull", "--offline", &image]).run()?;
    refused(&absent, 3, &[&image, "--offline rules out asking", &format!("hint: mvmctl pull {image}")])?;
    ensure_eq!(registry.log()?.len(), before);

    let online = sandbox.mvmctl(["pull", &image]).run()?.ok()?.out();
    drop(registry);
    ensure_eq!(sandbox.mvmctl(["pull", "--offline", &image]).run()?.ok()?.out(), online);
    // A layout is at hand.
    let layout = format!("oci:{}", fixtures::busybox()?.display());
    sandbox.mvmctl(["pull", "--offline", &layout]).run()?.ok()?;
    let login = sandbox.mvmctl(["login", "--offline", "-u", "user", "--password-stdin", "localhost:1"]);
    refused(&login.input("word").run()?, 2, &["--offline"])?;
    Ok(())
}

fn write(sandbox: &Sandbox, name: &str, text: &str) -> std::io::Result<String> {
    let path = sandbox.path().join(name);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn mirrors() -> Outcome {
    let registry = Registry::start()?;
    let copy = registry.push(&fixtures::busybox()?, "copies/team/app:one", &[])?;
    let address = registry.address();
    let digest = Sandbox::new()?.mvmctl(["pull", &copy]).run()?.ok()?.out();
    // A port that was free a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let rules = format!(
        "[[registry]]\nprefix = \"hub.example\"\nlocation = \"home.invalid\"\n\
         [[registry.mirror]]\nlocation = \"{gone}\"\n[[registry.mirror]]\nlocation = \"{address}/copies\"\n\
         [[registry]]\nprefix = \"hub.example/secret\"\nblocked = true\n"
    );
    let sandbox = Sandbox::new()?;
    let conf = write(&sandbox, "rules.conf", &rules)?;
    let image = "hub.example/team/app:one";
    let pulled = sandbox.mvmctl(["pull", "--registries-conf", &conf, image]).run()?.ok()?;
    ensure_eq!(pulled.out(), digest);
    let words = pulled.err();
    ensure!(words.contains(&format!("mirror {gone} is passed over")), "{words}");
    ensure!(words.contains(&format!("served by the mirror as {address}/copies/team/app:one")), "{words}");
    // It is known by the name that was asked for.
    ensure_eq!(sandbox.json(["image", "ls", "--json"])?[0]["reference"], image);
    let blocked = sandbox.mvmctl(["pull", "--registries-conf", &conf, "hub.example/secret/app"]).run()?;
    refused(&blocked, 5, &["hub.example/secret/app:latest is blocked"])?;

    // The user's own file is found.
    let other = Sandbox::new()?;
    write(&other, ".config/containers/registries.conf", &rules)?;
    ensure_eq!(other.mvmctl(["pull", image]).run()?.ok()?.out(), digest);
    Ok(())
}

fn bad_rules() -> Outcome {
    let sandbox = Sandbox::new()?;
    let bad = write(&sandbox, "bad.conf", "x = 1\n[[registry]]\nlocation = 5\n")?;
    let old = write(&sandbox, "old.conf", "[registries.search]\nregistries = []\n")?;
    for (conf, text) in [
        (&bad[..], "line 3, column 12"),
        (&old[..], "version 1"),
        ("/none.conf", "cannot read \"/none.conf\""),
    ] {
        let output = sandbox.mvmctl(["pull", "--registries-conf", conf, "localhost:1/x"]).run()?;
        refused(&output, 2, &[text])?;
    }
    // What needs no registry needs no rules for them.
    let layout = format!("oci:{}", fixtures::busybox()?.display());
    sandbox.mvmctl(["pull", "--registries-conf", &bad, &layout]).run()?.ok()?;
    for (option, value) in [
        ("--insecure-registry", "http://host"),
        ("--insecure-registry", "host/path"),
        ("--timeout", "0"),
        ("--retries", "-1"),
    ] {
        let output = sandbox.mvmctl(["pull", &format!("{option}={value}"), "localhost:1/x"]).run()?;
        ensure_eq!(output.code(), 2);
    }
    let ca = write(&sandbox, "ca.pem", "nothing")?;
    let output = sandbox.mvmctl(["pull", "--ca-cert", &ca, "localhost:1/x"]).run()?;
    refused(&output, 2, &["holds no PEM certificates"])
}

fn proxies() -> Outcome {
    let registry = Registry::start()?;
    registry.push(&fixtures::busybox()?, "team/app:one", &[])?;
    let sandbox = Sandbox::new()?;
    let gone = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let proxy = format!("http://user:password@{gone}");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let output = sandbox.mvmctl(["pull", "--retries", "0", "r.example/x"]).env(name, &proxy).run()?;
        refused(&output, 6, &["r.example", "Connection refused"])?;
        ensure!(!output.err().contains("password"), "{}", output.err());
    }
    // Loopback is reached without one.
    let image = format!("{}/team/app:one", registry.address());
    let pull = sandbox.mvmctl(["pull", &image]).env("HTTP_PROXY", &proxy).env("ALL_PROXY", &proxy);
    pull.run()?.ok()?;
    let output = sandbox.mvmctl(["pull", "r.example/x"]).env("HTTPS_PROXY", "ftp://user:password@x").run()?;
    ensure_eq!(output.code(), 2);
    ensure!(output.err().contains("the variable HTTPS_PROXY"), "{}", output.err());
    ensure!(!output.err().contains("password"), "{}", output.err());
    Ok(())
}

fn patience() -> Outcome {
    let sandbox = Sandbox::new()?;
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let image = format!("{}/x", silent.local_addr()?);
    let output = sandbox.mvmctl(["pull", "--timeout", "1", "--retries", "1", &image]).run()?;
    refused(&output, 6, &["no answer from", "for 1 s", "hint: --timeout"])?;
    let notes: Vec<_> =
        output.err().lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect();
    let expected = format!(
        "note: no answer from {} for 1 s; trying again in 0.5 s, at most 1 time",
        silent.local_addr()?
    );
    ensure_eq!(notes, [expected]);
    Ok(())
}
