use super::*;
use crate::error::chain;

fn log(text: Option<&str>) -> (tempfile::TempDir, AuditLog) {
    let directory = tempfile::tempdir().unwrap();
    let log = AuditLog::new(directory.path());
    if let Some(text) = text {
        fs::write(log.settings_path(), text).unwrap();
    }
    (directory, log)
}

#[test]
fn settings_are_read_and_written() {
    let table = [
        (None, ROTATE_AT, ""),
        (Some("/mnt/w \"1\".jsonl"), ROTATE_AT, "witness = \"/mnt/w \\\"1\\\".jsonl\"\n"),
        (None, 4096, "rotate-at = 4096\n"),
        (Some("/ü"), 5000, "witness = \"/ü\"\nrotate-at = 5000\n"),
    ];
    for (witness, rotate_at, text) in table {
        let settings = LogSettings { witness: witness.map(PathBuf::from), rotate_at };
        let (_directory, log) = log(None);
        log.set_settings(settings.clone()).unwrap();
        assert_eq!(fs::read_to_string(log.settings_path()).unwrap_or_default(), text);
        assert_eq!(log.settings().unwrap(), settings);
        log.set_settings(LogSettings { witness: None, rotate_at: ROTATE_AT }).unwrap();
        assert!(!log.settings_path().exists());
    }
}

#[test]
fn settings_that_cannot_be_understood_stop_everything() {
    let long = "#".repeat(70_000);
    let table = [
        ("witness = 1", "reading them as TOML: TOML parse error at line 1, column 11"),
        ("witnes = \"/w\"", "reading them as TOML: TOML parse error at line 1, column 1"),
        ("rotate-at = -1", "reading them as TOML: TOML parse error at line 1, column 13"),
        ("rotate-at = 4095", "rotate-at is 4095; expected 4096 or more"),
        ("witness = \"w\"", "witness \"w\" is not an absolute path without control characters"),
        ("witness = \"/w\\n\"", "witness \"/w\\n\" is not an absolute path without control characters"),
        (&long, "they have more than 65536 bytes"),
    ];
    for (text, expected) in table {
        let (_directory, log) = log(Some(text));
        let words = chain(&log.settings().unwrap_err());
        let place = format!("the settings of the audit log {}: {expected}", log.settings_path().display());
        assert!(words.starts_with(&place), "{words}");
        let scope = mvm_ref::ScopeName::default();
        let event = mvm_plan::audit::Event::Unwitnessed;
        assert!(matches!(log.append(&scope, vec![event]), Err(AuditError::Settings { .. })), "{text}");
        assert!(!log.current().exists());
    }
}
