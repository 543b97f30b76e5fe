//! Audit logs: entries are canonical, and a log is whole or it is not.

use mvm_plan::audit::{Chain, Entry, verify};
use mvm_plan::canonical;

/// Reads the input as a log, and each of its lines as an entry.
pub fn body(data: &[u8]) {
    if let Ok(summary) = verify(data) {
        assert_eq!(summary.bytes, data.len() as u64);
        assert_eq!(summary.entries, data.iter().filter(|byte| **byte == b'\n').count() as u64);
        let cut = data.len().saturating_sub(2);
        assert!(verify(&data[..cut]).is_err() || data.is_empty(), "a log that was cut short");
    }
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let Ok(entry) = Entry::parse(line) else { continue };
        let text = canonical::to_vec(&entry).expect("an entry has a canonical text");
        assert_eq!(Some(&text[..]), line.strip_suffix(b"\n").or(Some(line)));
        if let Ok(chain) = Chain::resume(line) {
            assert_eq!(chain.entries(), entry.seq + 1);
        }
    }
}
