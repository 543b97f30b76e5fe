//! Builds the guest agent as a static program and hands its path to `src/guest.rs`; lists the files of the flake library
//! for `src/flake_library.rs`.
//!
//! It has a target directory of its own: linking the whole workspace statically would break procedural macros, and
//! cargo holds the lock of the outer target directory while this runs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(required("CARGO_MANIFEST_DIR"));
    let workspace = manifest.ancestors().nth(2).expect("this crate lies in crates/ of the workspace");
    for path in ["crates/mvm-guest", "crates/mvm-wire", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let architecture = required("CARGO_CFG_TARGET_ARCH");
    let target = format!("{architecture}-unknown-linux-gnu");
    let output = PathBuf::from(required("OUT_DIR")).join("guest");
    build(workspace, &target, &output);
    let binary = output.join(&target).join("release/mvm-guest");
    println!("cargo::rustc-env=MVM_GUEST={}", binary.display());
    list_library(&workspace.join("nix"));
}

/// What of `nix/` is the library; the rest is for its tests.
const LIBRARY: [&str; 4] = ["flake.lock", "flake.nix", "lib", "templates"];

/// Writes an expression of all files of the library, in order of their paths.
fn list_library(top: &Path) {
    let mut files = Vec::new();
    for part in LIBRARY {
        println!("cargo::rerun-if-changed={}", top.join(part).display());
        collect(&top.join(part), &mut files);
    }
    let inside = |path: &PathBuf| path.strip_prefix(top).expect("it was found there").to_owned();
    files.sort_by_key(inside);
    let mut text = String::from("&[\n");
    for path in &files {
        let name = inside(path);
        text.push_str(&format!("    ({name:?}, include_bytes!({path:?}) as &[u8]),\n"));
    }
    text.push_str("]\n");
    let output = PathBuf::from(required("OUT_DIR")).join("flake_library.rs");
    fs::write(&output, text).expect("cargo's directory for this can be written to");
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        return files.push(path.to_owned());
    }
    for entry in fs::read_dir(path).expect("the library can be listed") {
        collect(&entry.expect("the library can be listed").path(), files);
    }
}

fn build(workspace: &Path, target: &str, output: &Path) {
    let mut cargo = Command::new(required("CARGO"));
    cargo.current_dir(workspace).args(["build", "--release", "--locked", "--package", "mvm-guest"]);
    cargo.args(["--target", target, "--target-dir"]).arg(output);
    // What cargo sets for this build script describes the outer build; wrappers such as clippy's must not see the guest.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let outer = text.starts_with("CARGO_") && text != "CARGO_HOME" && !text.starts_with("CARGO_NET_");
        if outer || text.starts_with("RUSTC") || text == "RUSTFLAGS" || text == "RUSTDOCFLAGS" {
            cargo.env_remove(name);
        }
    }
    for name in ["OPT_LEVEL", "DEBUG", "PROFILE", "TARGET", "HOST", "NUM_JOBS", "OUT_DIR"] {
        cargo.env_remove(name);
    }
    let remap = format!("--remap-path-prefix={}=/mvm", workspace.display());
    let flags = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static", "-Cstrip=symbols", &remap];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let status = cargo.status().expect("cargo can be run again");
    assert!(status.success(), "the guest agent did not build for {target}: {status}");
}

fn required(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
