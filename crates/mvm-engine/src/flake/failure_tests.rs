use super::{Circumstances, judge, lacks_attribute};
use crate::builder::BuilderState;
use crate::error::{EngineError, ErrorKind};
use crate::flake::log::BuildLog;
use crate::flake::log::tests::recorded;

const PLENTY: BuilderState =
    BuilderState { store_free: 1 << 30, scratch_free: 1 << 30, killed_for_memory: 0 };

fn around(state: BuilderState) -> Circumstances<'static> {
    Circumstances { root: "/home/me/web", online: false, state: Some(state), log: "1-a" }
}

#[test]
fn failures_are_told_apart() {
    use ErrorKind::{Build, Evaluation, Network, Usage};
    let evaluation = "the flake does not evaluate: ";
    let table = [
        ("eval", Evaluation, format!("{evaluation}attribute 'z' missing\n"), "/home/me/web/flake.nix:2:34"),
        (
            "syntax",
            Evaluation,
            format!("{evaluation}syntax error, unexpected ';'\n"),
            "/home/me/web/flake.nix:1:29",
        ),
        ("thrown", Evaluation, format!("{evaluation}services.web.command: expected a string, got a set"), ""),
        (
            "parameter",
            Evaluation,
            format!("{evaluation}mkStaticSite 'hello': unknown parameter 'servces'"),
            "",
        ),
        ("set", Evaluation, evaluation.to_owned(), "packages.x86_64-linux.set"),
        ("impure", Evaluation, "the flake is impure: access to absolute path '/etc".to_owned(), ""),
        (
            "foreign",
            Usage,
            "the output is built on aarch64-linux; this builder is x86_64-linux".to_owned(),
            "",
        ),
        (
            "offline",
            Network,
            "the builder has no network, and something has to be fetched: unable to download".to_owned(),
            "NixOS/nixpkgs",
        ),
        ("fail", Build, "bad did not build: builder for '/nix/store/".to_owned(), "failed with exit code 3"),
        (
            "noout",
            Build,
            "noout did not build: builder for '/nix/store/".to_owned(),
            "failed to produce output path",
        ),
    ];
    for version in ["2.8", "2.26"] {
        for (name, kind, beginning, within) in &table {
            let (log, _) = recorded(&format!("{version}-{name}.log"), usize::MAX);
            assert!(!lacks_attribute(&log), "{version} {name}");
            let error = EngineError::from(judge(&log, &around(PLENTY)));
            let text = error.to_string();
            assert!(text.starts_with(beginning), "{version} {name}: {text}");
            assert!(text.contains(within), "{version} {name}: {text}");
            assert!(!text.contains("-source/flake.nix"), "{version} {name}: {text}");
            assert_eq!(error.kind(), *kind, "{version} {name}");
        }
        let (log, _) = recorded(&format!("{version}-missing.log"), usize::MAX);
        assert!(lacks_attribute(&log), "{version}");
    }
}

#[test]
fn a_builder_with_too_little_is_told_from_a_build_that_fails() {
    let (log, _) = recorded("2.26-fail.log", usize::MAX);
    let killed = BuilderState { killed_for_memory: 1, ..PLENTY };
    assert_eq!(judge(&log, &around(killed)).to_string(), "the builder ran out of memory");
    // A disk that is full is no reason for a failure that has another one.
    let full = BuilderState { store_free: 0, ..PLENTY };
    assert!(judge(&log, &around(full)).to_string().starts_with("bad did not build"));
    let mut log = BuildLog::default();
    let lines = [
        r#"@nix {"action":"start","id":1,"type":105,"fields":["/nix/store/x-big.drv","",1,1]}"#,
        r#"@nix {"action":"result","id":1,"type":101,"fields":["dd: error writing: No space left on device"]}"#,
        r#"@nix {"action":"msg","level":0,"msg":"error","raw_msg":"builder for '/nix/store/x-big.drv' failed with exit code 1"}"#,
    ];
    lines.iter().for_each(|line| log.read(format!("{line}\n").as_bytes(), &mut |_| {}));
    assert_eq!(judge(&log, &around(full)).to_string(), "the builder's disk is full");
    // Only that builder's own limit was reached.
    assert!(judge(&log, &around(PLENTY)).to_string().starts_with("big did not build"));
    assert_eq!(judge(&BuildLog::default(), &around(PLENTY)).to_string(), "nix failed without a word");
}
