//! The table of allowed edges between crates, and who may use which heavy dependency.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::tidy::Finding;

/// Which crates of the workspace a crate may depend on, in pipeline order.
const EDGES: [(&str, &[&str]); 14] = [
    ("mvm-ref", &[]),
    ("mvm-tree", &["mvm-ref"]),
    ("mvm-image", &["mvm-ref", "mvm-tree"]),
    ("mvm-plan", &["mvm-ref"]),
    ("mvm-wire", &[]),
    ("mvm-fetch", &["mvm-ref"]),
    ("mvm-store", &["mvm-ref"]),
    ("mvm-launch", &["mvm-ref", "mvm-plan", "mvm-wire"]),
    ("mvm-guest", &["mvm-wire"]),
    (
        "mvm-engine",
        &["mvm-ref", "mvm-tree", "mvm-image", "mvm-plan", "mvm-wire", "mvm-fetch", "mvm-store", "mvm-launch"],
    ),
    ("mvmctl", &["mvm-engine", "mvm-ref", "mvm-plan", "mvm-store"]),
    ("mvm-tests", &["mvm-ref", "mvm-engine"]),
    (
        "mvm-fuzz",
        &[
            "mvm-ref",
            "mvm-tree",
            "mvm-image",
            "mvm-plan",
            "mvm-wire",
            "mvm-fetch",
            "mvm-store",
            "mvm-launch",
            "mvm-engine",
        ],
    ),
    ("xtask", &[]),
];

/// Dependencies from outside that only the named crates may have.
const RESERVED: [(&str, &[&str]); 9] = [
    ("tokio", &["mvm-fetch", "mvm-engine"]),
    ("hyper", &["mvm-fetch"]),
    ("reqwest", &["mvm-fetch"]),
    ("rustls", &["mvm-fetch", "mvm-tests"]),
    ("rusqlite", &["mvm-store"]),
    ("anyhow", &["mvmctl"]),
    ("clap", &["mvmctl"]),
    ("libtest-mimic", &["mvm-tests"]),
    ("libfuzzer-sys", &["mvm-fuzz"]),
];

/// Programs that are shipped.
const SHIPPED: [&str; 2] = ["mvmctl", "mvm-guest"];

/// Packages that no shipped program needs to reach.
const UNSHIPPED: [&str; 3] = ["mvm-fuzz", "mvm-tests", "xtask"];

/// The part of `cargo metadata` that is looked at.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Absent for ordinary dependencies.
    kind: Option<String>,
}

/// Checks the edges of the workspace. Dependencies of tests are free.
pub fn check(metadata: &Metadata) -> Vec<Finding> {
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    let mut graph: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let shipped = || package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            findings.push(finding(
                name,
                "edges",
                format!("{name} is not in the table of xtask/src/edges.rs"),
            ));
            continue;
        };
        for dependency in shipped() {
            let to = dependency.name.as_str();
            if members.contains(to) {
                graph.entry(name).or_default().push(to);
                if !allowed.contains(&to) {
                    findings.push(finding(name, "edges", format!("{name} must not depend on {to}")));
                }
            }
            let reserved = RESERVED.iter().find(|(crate_name, _)| *crate_name == to);
            if let Some((_, users)) = reserved.filter(|(_, users)| !users.contains(&name)) {
                let users = users.join(" and ");
                findings.push(finding(name, "edges", format!("{to} is for {users} only")));
            }
        }
    }
    let reached = reach(&graph);
    for name in members {
        if !reached.contains(name) && !UNSHIPPED.contains(&name) {
            findings.push(finding(name, "unreached", format!("no shipped program reaches {name}")));
        }
    }
    findings
}

/// Returns what the shipped programs reach, themselves included.
fn reach<'a>(graph: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut next: Vec<&str> = SHIPPED.to_vec();
    while let Some(name) = next.pop() {
        if reached.insert(name) {
            next.extend(graph.get(name).into_iter().flatten());
        }
    }
    reached
}

fn finding(package: &str, rule: &'static str, message: String) -> Finding {
    let path = match package {
        "xtask" => "xtask/Cargo.toml".to_owned(),
        "mvm-fuzz" => "fuzz/Cargo.toml".to_owned(),
        "mvm-tests" => "tests/Cargo.toml".to_owned(),
        name => format!("crates/{name}/Cargo.toml"),
    };
    Finding { path, line: 1, rule, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Vec<String> {
        check(&serde_json::from_str(json).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn allowed_edges_are_silent() {
        let json = r#"{"packages": [
            {"name": "mvm-ref", "dependencies": [{"name": "thiserror", "kind": null}, {"name": "tokio", "kind": "dev"}]},
            {"name": "mvm-engine", "dependencies": [{"name": "mvm-ref", "kind": null}, {"name": "mvm-guest", "kind": "dev"}]},
            {"name": "mvm-guest", "dependencies": []},
            {"name": "mvmctl", "dependencies": [{"name": "mvm-engine", "kind": null}, {"name": "clap", "kind": null}]},
            {"name": "xtask", "dependencies": []}
        ]}"#;
        assert_eq!(found(json), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_wrong_edge_is_found() {
        let json = r#"{"packages": [
            {"name": "mvm-ref", "dependencies": [{"name": "mvm-wire", "kind": null}, {"name": "rustls", "kind": "build"}]},
            {"name": "mvm-wire", "dependencies": []},
            {"name": "mvm-util", "dependencies": []}
        ]}"#;
        assert_eq!(
            found(json),
            [
                "crates/mvm-ref/Cargo.toml:1: mvm-ref must not depend on mvm-wire [edges]",
                "crates/mvm-ref/Cargo.toml:1: rustls is for mvm-fetch and mvm-tests only [edges]",
                "crates/mvm-util/Cargo.toml:1: mvm-util is not in the table of xtask/src/edges.rs [edges]",
                "crates/mvm-ref/Cargo.toml:1: no shipped program reaches mvm-ref [unreached]",
                "crates/mvm-util/Cargo.toml:1: no shipped program reaches mvm-util [unreached]",
                "crates/mvm-wire/Cargo.toml:1: no shipped program reaches mvm-wire [unreached]",
            ]
        );
    }
}
