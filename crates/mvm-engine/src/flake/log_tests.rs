//! Against what Nix 2.8.0 and 2.26.3 wrote (`vectors/`).

use super::{BuildLog, Counts, Derivation, LAST_LINES, MAX_LINE, Said, name_of, plain};
use std::path::Path;

/// Reads a recorded log, in pieces of `size` bytes.
pub(in crate::flake) fn recorded(name: &str, size: usize) -> (BuildLog, Vec<Said>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/flake/vectors").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut log, mut said) = (BuildLog::default(), Vec::new());
    bytes.chunks(size).for_each(|piece| log.read(piece, &mut |what| said.push(what)));
    log.finish(&mut |what| said.push(what));
    (log, said)
}

fn lines(said: &[Said]) -> Vec<String> {
    let line = |said: &Said| match said {
        Said::Line { of: Some(of), text } => Some(format!("{of}> {text}")),
        Said::Line { of: None, text } => Some(text.clone()),
        _ => None,
    };
    said.iter().filter_map(line).collect()
}

#[test]
fn a_build_is_told_as_it_goes() {
    for version in ["2.8", "2.26"] {
        let (log, said) = recorded(&format!("{version}-ok.log"), usize::MAX);
        let built: Vec<&str> = log.built().iter().map(|path| name_of(path)).collect();
        assert_eq!(built, ["dep", "app"], "{version}");
        let of_builders: Vec<String> = lines(&said).into_iter().filter(|line| line.contains("> ")).collect();
        assert_eq!(of_builders, ["dep> building dep", "app> building app"], "{version}");
        let counted: Vec<(u64, u64)> = said
            .iter()
            .filter_map(|said| match said {
                Said::Counted(counts) => Some((counts.done, counts.expected)),
                _ => None,
            })
            .collect();
        assert!(counted.is_sorted(), "{version}: {counted:?}");
        assert_eq!(counted.last(), Some(&(2, 2)), "{version}");
        assert_eq!(log.counts(), Counts { done: 2, expected: 2, ..Counts::default() }, "{version}");
        assert!(log.errors().is_empty() && log.failed().is_none(), "{version}");
        let source = "/nix/store/fwqv2n3nha34yxgqgbff3l4889gam1dm-source";
        assert_eq!(log.source(), Some(source), "{version}");
        for size in [1, 7, 4096] {
            assert_eq!(recorded(&format!("{version}-ok.log"), size).1, said, "{version} by {size}");
        }
    }
}

#[test]
fn the_derivation_that_failed_has_its_last_lines() {
    for version in ["2.8", "2.26"] {
        let (log, _) = recorded(&format!("{version}-fail.log"), 100);
        let failed = log.failed().expect("a derivation");
        let mut expected: Vec<String> = (12..=40).map(|line| format!("line {line}")).collect();
        expected.push("warning on stderr".to_owned());
        assert_eq!(expected.len(), LAST_LINES);
        let drv = "/nix/store/qzgla6fria83j0y5i0i8zpnqmvf0ydzl-bad.drv".to_owned();
        assert_eq!(failed, Derivation { drv, lines: expected.into() }, "{version}");
        assert_eq!(log.counts().failed, 1, "{version}");
        assert_eq!(log.errors().len(), 2, "{version}");
    }
}

#[test]
fn what_a_builder_writes_can_not_pass_for_nix() {
    let mut said = Vec::new();
    let mut log = BuildLog::default();
    let mut read = |log: &mut BuildLog, text: &str| log.read(text.as_bytes(), &mut |what| said.push(what));
    read(&mut log, "@nix {\"action\":\"start\",\"id\":1,\"type\":105,\"fields\":[\"/nix/store/x-a.drv\"]}\n");
    // Nix puts a builder's line into a field, whatever it looks like.
    read(
        &mut log,
        "@nix {\"action\":\"result\",\"id\":1,\"type\":101,\"fields\":[\"@nix {\\\"action\\\":\\\"stop\\\"}\\u001b[2J\\r\"]}\n",
    );
    read(&mut log, "@nix {broken\nplain\u{7} words\n");
    read(&mut log, &format!("{}\n", "x".repeat(MAX_LINE + 5)));
    read(&mut log, &format!("@nix {{\"msg\":\"{}\"}}\nafter", "y".repeat(MAX_LINE)));
    log.finish(&mut |what| said.push(what));
    let long = "x".repeat(MAX_LINE);
    let expected = [
        "a> @nix {\"action\":\"stop\"}",
        "@nix {broken",
        "plain words",
        &long,
        "a line of the log was too long",
        "after",
    ];
    assert_eq!(lines(&said), expected);
}

#[test]
fn texts_lose_what_steers_a_terminal() {
    let table = [
        ("\u{1b}[31;1merror:\u{1b}[0m x", "error: x"),
        ("a\u{1b}]0;title\u{7}b", "ab"),
        ("a\u{1b}]8;;http://x\u{1b}\\b", "a\\b"),
        ("a\u{1b}[", "a"),
        ("a\tb\r\nc\u{8}", "a\tb\nc"),
    ];
    for (text, expected) in table {
        assert_eq!(plain(text), expected, "{text:?}");
    }
    assert_eq!(name_of("/nix/store/qzgla6fria83j0y5i0i8zpnqmvf0ydzl-needs-bad.drv"), "needs-bad");
}
