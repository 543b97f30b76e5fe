//! Guests that build: their Nix knows the store of the root, and what they build stays on a volume.

use std::fs;
use std::path::PathBuf;

use mvm_tests::fixtures::nix::Nix;
use serde_json::Value;

use super::{LIMIT, Place, built, words};
use crate::{Outcome, ensure, ensure_eq};

/// A flake whose guest has Debian's Nix, started by its own loader.
const FLAKE: &str = r#"{
  outputs = { self, nixpkgs, mvm }:
    let
      pkgs = nixpkgs.legacyPackages.x86_64-linux;
      tree = builtins.path { path = ./nix; name = "nix-tree"; };
      nix = pkgs.runCommand "nix" { } ''
        mkdir -p $out/bin
        for name in nix nix-store; do
          printf '#!%s\nexec %s --library-path %s --argv0 %s %s "$@"\n' \
            ${pkgs.busybox}/bin/sh ${tree}/loader ${tree} $name ${tree}/nix >$out/bin/$name
        done
        chmod 555 $out/bin/*
      '';
      guest = parameters: mvm.lib.x86_64-linux.mkGuest ({ command = "sleep 1000"; } // parameters);
      builds = word: guest {
        name = "builds";
        packages = [ nix ];
        # Debian's Nix knows another shell for the sandbox, and finds itself by its loader.
        env.NIX_CONFIG = "sandbox-paths = /bin/sh=${pkgs.busybox}/bin/busybox\nbuild-hook =\nsubstituters =";
        env.WORD = word;
      };
    in {
      packages.x86_64-linux = {
        default = builds "one";
        other = builds "other";
      };
    };
}
"#;

const BUILD: &str = r#"nix build --offline --print-out-paths --out-link /nix/var/nix/gcroots/made --expr \
  'derivation { name = "made"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo built >$out" ]; }'"#;

pub(super) fn writable_store() -> Outcome {
    let place = Place::new()?;
    let flake = place.sandbox.path().join("builds");
    fs::create_dir(&flake)?;
    Nix::of("trixie")?.copy_to(&flake.join("nix"))?;
    fs::write(flake.join("flake.nix"), FLAKE)?;
    let of = |attribute: &str| PathBuf::from(format!("{}#{attribute}", flake.display()));
    let mvmctl = |line: &[&str]| place.sandbox.mvmctl(line).limit(LIMIT).run();

    let first = place.build(&flake, &["--writable-store", "-t", "builds"])?;
    let provenance = place.sandbox.json(["image", "provenance", "builds", "--json"])?.to_string();
    ensure!(provenance.contains(r#""writableStore":"true""#), "{provenance}");
    let output = built(&first)?["output"].as_str().unwrap_or_default().to_owned();

    let start = |image: &str| mvmctl(&["run", "-d", "--name", "vm", "-v", "store:/nix", image]);
    let shell = |script: &str| mvmctl(&["exec", "vm", "sh", "-ec", script]);
    let end = || -> Outcome {
        mvmctl(&["vm", "stop", "vm"])?.ok()?;
        mvmctl(&["vm", "rm", "vm"])?.ok()?;
        Ok(())
    };
    words(mvmctl(&["run", "-v", "store:/nix:ro", "builds"])?, 125, &["mounts.read_only"])?;
    start("builds")?.ok()?;
    let known: Value = serde_json::from_str(&shell("nix path-info --json --all")?.ok()?.out())?;
    let paths = place.sandbox.json(["image", "inspect", "builds"])?;
    let paths = paths["build"]["paths"].as_array().map(Vec::len);
    ensure_eq!(known.as_object().map(serde_json::Map::len), paths);
    let made = shell(BUILD)?.ok()?.out().trim().to_owned();
    ensure!(made.ends_with("-made"), "{made}");
    // Nothing of the root is garbage, and all of it is as it was built.
    shell("nix-store --gc && nix-store --verify --check-contents")?.ok()?;
    end()?;

    // Another image with the same volume: what was built is there, the new paths are known, and the old ones are not.
    let other = place.build(&of("other"), &["--writable-store", "-t", "other"])?;
    let new = built(&other)?["output"].as_str().unwrap_or_default();
    start("other")?.ok()?;
    let script = format!("cat {made}; nix path-info {made} {new}; nix-store --verify");
    ensure!(shell(&script)?.ok()?.out().starts_with("built\n"), "not what was built");
    words(shell(&format!("nix path-info {output}"))?, 1, &["is not valid"])?;
    end()
}
