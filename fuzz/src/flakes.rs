//! What a flake's directory and a builder say: git's index, a lock file, the log of a build.

use mvm_engine::fuzzing::{build_log, flake_lock, git_index};

/// Reads the input as each of them.
pub fn body(data: &[u8]) {
    for path in git_index(data) {
        assert!(!path.starts_with(b"/"), "an absolute path");
        let inside = |name: &[u8]| !matches!(name, b"" | b"." | b".." | b".git");
        assert!(path.split(|byte| *byte == b'/').all(inside), "{path:?}");
    }
    if let Some(lock) = flake_lock(data) {
        assert_eq!(flake_lock(&lock).as_ref(), Some(&lock), "what is written is read as the same");
    }
    let whole = build_log(data, usize::MAX);
    assert_eq!(build_log(data, 3), whole, "lines do not depend on how they come");
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(whole.iter().all(|line| !line.contains(steers)), "{whole:?}");
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let log = [
        r#"@nix {"action":"start","id":1,"level":0,"text":"","type":104}"#,
        r#"@nix {"action":"start","fields":["/nix/store/00000000000000000000000000000000-a.drv","",1,1],"id":2,"level":3,"type":105}"#,
        r#"@nix {"action":"result","fields":["a line"],"id":2,"type":101}"#,
        r#"@nix {"action":"result","fields":[0,2,1,0],"id":1,"type":105}"#,
        r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m x","raw_msg":"x of /nix/store/00000000000000000000000000000000-a.drv"}"#,
        r#"@nix {"action":"stop","id":2}"#,
        "words of nobody",
    ];
    let lock = r#"{"nodes":{"a":{"locked":{}},"root":{"inputs":{"a":"a","b":["a","c"]}}},"root":"root","version":7}"#;
    vec![index(2), index(4), lock.as_bytes().to_vec(), log.join("\n").into_bytes()]
}

/// Makes an index of two files.
fn index(version: u8) -> Vec<u8> {
    let mut bytes = vec![b'D', b'I', b'R', b'C', 0, 0, 0, version, 0, 0, 0, 2];
    for (cut, name) in [(0, &b"dir/a"[..]), (1, if version == 4 { b"b" } else { b"dir/b" })] {
        let start = bytes.len();
        bytes.extend([0; 24]);
        bytes.extend(0o100_644_u32.to_be_bytes());
        bytes.extend([0; 34]);
        if version == 4 {
            bytes.push(cut);
        }
        bytes.extend(name);
        bytes.push(0);
        while version < 4 && !(bytes.len() - start).is_multiple_of(8) {
            bytes.push(0);
        }
    }
    bytes.extend([0; 20]);
    bytes
}
