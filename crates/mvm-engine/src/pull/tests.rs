use super::*;
use crate::engine::tests::fixture;
use crate::error::ErrorKind;
use serde_json::json;
use std::fs;

#[test]
fn a_layer_that_is_not_what_it_should_be_is_in_the_log() {
    let fixture = fixture();
    let source = fixture.layout("layout", "hello\n", &json!({}));
    // A byte of the file's content: the archive stays a good one.
    let blobs = fixture.path("layout").join("blobs/sha256");
    let layer = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::metadata(path).unwrap().len() >= 1024)
        .unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    bytes[512] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let error =
        fixture.engine.pull(&source, &Platform::host(), &crate::Silent, &Cancel::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error:?}");
    let digest = format!("sha256:{}", layer.file_name().unwrap().to_str().unwrap()).parse().unwrap();
    let last = fixture.events().pop().unwrap();
    assert_eq!(last, Event::Verify { digest, diff_id: None, passed: false });
}
