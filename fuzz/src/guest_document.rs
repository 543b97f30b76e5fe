//! Guest documents: what is read is valid, and has one text.

use mvm_wire::GuestDocument;

/// Reads the input as a guest document.
pub fn body(data: &[u8]) {
    let Ok(document) = GuestDocument::parse(data) else { return };
    assert!(document.validate().is_ok());
    let Ok(text) = document.to_bytes() else { return };
    let again = GuestDocument::parse(&text).expect("what was written can be read");
    assert_eq!(again, document);
    assert_eq!(again.to_bytes().ok(), Some(text));
    let archive = mvm_launch::document_archive(&document).expect("a valid document");
    assert_eq!(archive.len() % 4, 0);
    assert!(archive.starts_with(b"070701"));
}
