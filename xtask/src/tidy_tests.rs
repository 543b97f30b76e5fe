use super::*;

/// Returns what is found in `text` at `path`, without the path.
fn found(path: &str, text: &str) -> Vec<(usize, &'static str)> {
    let mut findings = check_file(path, text);
    findings.sort();
    findings.into_iter().map(|finding| (finding.line, finding.rule)).collect()
}

/// A path, a text, and where which rule objects.
type Case<'a> = (&'a str, String, Vec<(usize, &'a str)>);

const LIBRARY: &str = "crates/mvm-ref/src/digest.rs";
const PROGRAM: &str = "crates/mvmctl/src/main.rs";
const TESTS: &str = "crates/mvm-ref/src/digest/tests.rs";

#[test]
fn each_rule_has_its_places() {
    let mark = concat!("TO", "DO");
    let ignored = concat!("#[ig", "nore]");
    let table: Vec<Case<'_>> = vec![
        (LIBRARY, "fn a() { println!(\"x\"); }".into(), vec![(1, "print")]),
        (PROGRAM, "fn a() { println!(\"x\"); }".into(), vec![]),
        (TESTS, "fn a() { println!(\"x\"); }".into(), vec![]),
        (LIBRARY, "#[cfg(test)]\nmod tests {\n fn a() { dbg!(1); }\n}".into(), vec![]),
        (LIBRARY, "fn a() {\n let x = std::env::var(\"X\");\n}".into(), vec![(2, "environment")]),
        (LIBRARY, "fn a() {\n let x = std::env::temp_dir();\n}".into(), vec![]),
        (PROGRAM, "fn a() {\n let x = std::env::var(\"X\");\n}".into(), vec![]),
        ("crates/mvm-ref/build.rs", "fn a() { env::var_os(\"X\"); println!(\"x\"); }".into(), vec![]),
        (PROGRAM, "fn a() { Command::new(\"/bin/sh\"); }".into(), vec![(1, "shell")]),
        (PROGRAM, "fn a() { Command::new(\"shred\"); Command::new(program); }".into(), vec![]),
        (LIBRARY, "fn a() { std::process::Command::new(program); }".into(), vec![(1, "spawn")]),
        ("crates/mvm-launch/src/exec.rs", "fn a() { Command::new(program); }".into(), vec![]),
        (TESTS, "fn a() { Command::new(program); }".into(), vec![]),
        (LIBRARY, "fn a() { let _ = f(); }".into(), vec![(1, "let-underscore")]),
        (LIBRARY, "fn a() { let _ = x.f()?; let _ = x; let _y = f(); }".into(), vec![]),
        (TESTS, "fn a() { let _ = f(); }".into(), vec![]),
        (PROGRAM, "fn a() { todo!() }".into(), vec![(1, "unfinished")]),
        (PROGRAM, format!("// {mark}: more\nfn a() {{}}"), vec![(1, "unfinished")]),
        (PROGRAM, format!("// {mark}S, http://{mark}x\nfn a() {{}}"), vec![]),
        (TESTS, format!("#[test]\n{ignored}\nfn a() {{}}"), vec![(2, "ignored-test")]),
        (PROGRAM, "enum ReadError {\n A,\n Other(String),\n}".into(), vec![(3, "other-string")]),
        (
            PROGRAM,
            "enum ReadError { Other(u32), Another(String) } enum MediaType { Other(String) }".into(),
            vec![],
        ),
        (LIBRARY, "struct S {\n pub root_digest: String,\n}".into(), vec![(2, "string-field")]),
        (LIBRARY, "struct S {\n pub path: Option<String>,\n}".into(), vec![(2, "string-field")]),
        (LIBRARY, "struct S { digest: String, pub digest: Digest, pub pathology: String }".into(), vec![]),
        (LIBRARY, "fn a() {\n unsafe { f() }\n}".into(), vec![(2, "safety")]),
        (LIBRARY, "fn a() {\n // SAFETY: f has no conditions\n unsafe { f() }\n}".into(), vec![]),
        (LIBRARY, "unsafe impl Send for S {}".into(), vec![(1, "safety")]),
    ];
    for (path, text, expected) in table {
        assert_eq!(found(path, &text), expected, "{path}: {text}");
    }
}

#[test]
fn exceptions_need_the_rule_and_a_reason() {
    let field = "pub name: String,";
    let table = [
        (format!("struct S {{\n // tidy: allow string-field: free text\n {field}\n}}"), true),
        (format!("struct S {{\n {field} // tidy: allow string-field: free text\n}}"), true),
        (format!("struct S {{\n // tidy: allow string-field: \n {field}\n}}"), false),
        (format!("struct S {{\n // tidy: allow print: free text\n {field}\n}}"), false),
        (format!("struct S {{\n // tidy: allow string-field: free text\n\n {field}\n}}"), false),
    ];
    for (text, excused) in table {
        assert_eq!(found(LIBRARY, &text).is_empty(), excused, "{text}");
    }
}

#[test]
fn lengths_are_counted() {
    let function = |lines: usize| format!("fn a() {{\n{}}}\n", "f();\n".repeat(lines - 2));
    assert_eq!(found(PROGRAM, &function(100)), []);
    assert_eq!(found(PROGRAM, &function(101)), [(1, "function-length")]);

    let file = |lines: usize| "fn a() {}\n".repeat(lines);
    assert_eq!(found(PROGRAM, &file(500)), []);
    assert_eq!(found(PROGRAM, &file(501)), [(501, "file-length")]);
    assert_eq!(found(PROGRAM, &format!("//! A table, so longer than 500 lines.\n{}", file(600))), []);
}

#[test]
fn roles_follow_paths() {
    let table = [
        ("crates/mvm-ref/src/lib.rs", true, false),
        ("crates/mvm-ref/src/name_tests.rs", true, true),
        ("crates/mvm-ref/tests/all.rs", true, true),
        ("crates/mvm-guest/src/main.rs", false, false),
        ("crates/mvmctl/build.rs", false, false),
        ("tests/src/lib.rs", false, true),
        ("xtask/src/main.rs", false, false),
    ];
    for (path, library, test) in table {
        assert_eq!(Role::of(path), Role { library, test }, "{path}");
    }
}
