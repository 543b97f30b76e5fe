//! Rules that look at lines: the length of a file, marks of unfinished work, and exceptions.

use crate::tidy::Finding;

/// Lines that a file may have before its header must say why.
const MAX_LINES: usize = 500;

/// Lines at the start of a file that count as its header.
const HEADER_LINES: usize = 40;

/// Words that mark unfinished work. Split, so that this file doesn't contain them.
const MARKS: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Checks the lines of a file.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line: usize, rule: &'static str, message: String| {
        findings.push(Finding { path: path.to_owned(), line, rule, message });
    };
    let count = text.lines().count();
    let explained = text
        .lines()
        .take(HEADER_LINES)
        .any(|line| line.starts_with("//") && line.contains("longer than 500 lines"));
    if count > MAX_LINES && !explained {
        add(
            MAX_LINES + 1,
            "file-length",
            format!(
                "{count} lines, at most {MAX_LINES}; split it, or say in the header why it is \"longer than 500 lines\""
            ),
        );
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(mark) =
            comment(line).and_then(|words| MARKS.into_iter().find(|mark| has_word(words, mark)))
        {
            add(index + 1, "unfinished", format!("{mark} in a comment"));
        }
        if line.trim_start().starts_with(concat!("#[ig", "nore")) {
            add(
                index + 1,
                "ignored-test",
                "a test that does not run must say SKIP and why when it does".to_owned(),
            );
        }
    }
    findings
}

/// Tells whether the source excuses a finding, on its line or the one above.
pub fn allowed(source: &[&str], finding: &Finding) -> bool {
    let mark = format!("tidy: allow {}: ", finding.rule);
    let excuses = |line: usize| {
        line.checked_sub(1)
            .and_then(|index| source.get(index))
            .and_then(|text| comment(text))
            .and_then(|words| words.split_once(&mark))
            .is_some_and(|(_, reason)| !reason.trim().is_empty())
    };
    excuses(finding.line) || excuses(finding.line - 1)
}

/// Returns the words of a line comment. A `//` after a colon is taken for an address, not a comment.
fn comment(line: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(found) = line[from..].find("//") {
        let at = from + found;
        if !line[..at].ends_with(':') {
            return Some(&line[at + 2..]);
        }
        from = at + 2;
    }
    None
}

/// Tells whether `words` has `word` with nothing of an identifier at its sides.
fn has_word(words: &str, word: &str) -> bool {
    words.match_indices(word).any(|(at, _)| {
        let identifier = |c: char| c.is_alphanumeric() || c == '_';
        !words[..at].ends_with(identifier) && !words[at + word.len()..].starts_with(identifier)
    })
}
