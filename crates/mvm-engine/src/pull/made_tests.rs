use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::error::{ErrorKind, chain};
use mvm_tree::UnpackPolicy;

fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes).unwrap();
    archive.into_inner().unwrap()
}

fn make(fixture: &Fixture, archive: &[u8]) -> Result<Segment, EngineError> {
    fixture.engine.made_layer("a layer", &mut |out| out.write_all(archive), &Cancel::default())
}

#[test]
fn a_layer_is_made_once_and_makes_the_image_that_a_fetched_one_makes() {
    let fixture = fixture();
    let (one, two) = (archive("one", &[7; 300_000]), archive("two", b"2"));
    let mut writes = 0;
    let mut write = |out: &mut dyn Write| {
        writes += 1;
        out.write_all(&one)
    };
    let first = fixture.engine.made_layer("a layer", &mut write, &Cancel::default()).unwrap();
    fixture.engine.made_layer("a layer", &mut write, &Cancel::default()).unwrap();
    assert_eq!(writes, 3, "the second one only for its digest");
    let record = *first.record();
    assert_eq!(
        (record.diff_id, record.digest, record.size),
        (Digest::of(&one), Digest::of(&one), one.len() as u64)
    );

    let layers = vec![first, make(&fixture, &two).unwrap()];
    let image = fixture.engine.made_image("an image", layers, &Cancel::default()).unwrap();
    let other = crate::engine::tests::fixture();
    let layout = other.layout_of("layout", &[one.clone(), two.clone()], &serde_json::json!({}), "amd64");
    assert_eq!(image.record().root_hash, other.pull(&layout).root_hash);

    let layers = [&one, &two].map(|archive| make(&fixture, archive).unwrap()).into();
    let again = fixture.engine.made_image("an image", layers, &Cancel::default()).unwrap();
    assert_eq!(again.record(), image.record());
}

#[test]
fn what_changes_while_it_is_read_makes_nothing() {
    let fixture = fixture();
    let archives = [archive("one", &[1; 5000]), archive("one", &[2; 5000])];
    let mut turns = archives.iter();
    let mut write = |out: &mut dyn Write| out.write_all(turns.next().unwrap());
    let error = fixture.engine.made_layer("a layer", &mut write, &Cancel::default()).unwrap_err();
    assert!(
        chain(&error).starts_with("make a layer: what goes into it changed while it was read"),
        "{error:?}"
    );
    assert!(fixture.engine.scope.segment(&Digest::of(&archives[0]), GENERATION).unwrap().is_none());

    let mut turn = 0;
    let mut write = |out: &mut dyn Write| {
        turn += 1;
        let all = &archives[0];
        out.write_all(&all[..all.len() / turn])?;
        if turn == 1 { Ok(()) } else { Err(io::Error::other("gone")) }
    };
    let error = fixture.engine.made_layer("a layer", &mut write, &Cancel::default()).unwrap_err();
    assert_eq!(chain(&error), "make a layer: read what goes into it: gone");
}

#[test]
fn limits_hold_for_what_is_made_here() {
    let mut fixture = fixture();
    let big = archive("big", &vec![3; 4 << 20]);
    let mut policy = UnpackPolicy::default();
    policy.set("unpacked=1MiB").unwrap();
    fixture.engine.settings.unpack = Some(policy);
    let error = make(&fixture, &big).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.hint().unwrap().contains("--unpack unpacked=SIZE"), "{error:?}");

    fixture.engine.settings.unpack = None;
    fixture.engine.scope.set_quota(Some(1 << 20)).unwrap();
    let error = make(&fixture, &big).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.hint().unwrap().contains("scope set"), "{error:?}");

    let cancel = Cancel::default();
    cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
    let error = fixture.engine.made_layer("x", &mut |out| out.write_all(&big), &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn a_damaged_layer_is_made_anew() {
    let fixture = fixture();
    let one = archive("one", b"1");
    let path = make(&fixture, &one).unwrap().path().join("tails");
    std::fs::write(&path, b"2").unwrap();
    make(&fixture, &one).unwrap().check().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"1");
}
