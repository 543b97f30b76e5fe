use crate::child::Actor;
use crate::fixture::*;
use mvm_store::{Claim, DATA_START, ImageClaim, ImageRecord, SegmentRecord, SegmentStats, StoreError};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_segment_is_made_once_and_read_back() {
    let fixture = fixture();
    assert!(fixture.scope.segment(&diff_id("a"), GENERATION).unwrap().is_none());
    let (made, new) = segment(&fixture.scope, "a");
    assert!(new);
    let expected = SegmentRecord {
        diff_id: diff_id("a"),
        generation: GENERATION,
        digest: diff_id("a"),
        size: 1,
        tar_size: 1,
        blocks: 2,
        tail_bytes: 1,
        entries: 3,
        index_bytes: 5,
    };
    assert_eq!(*made.record(), expected);
    assert_eq!(fixture.names("staging"), [""; 0]);
    let again = fixture.again();
    let (found, new) = segment(&again, "a");
    assert!(!new);
    assert_eq!(*found.record(), expected);
    assert_eq!(found.path(), fixture.path(&format!("segments/{}-g1", diff_id("a").hex())));
    for segment in [&made, &found] {
        let mut files = segment.open().unwrap();
        let mut bytes = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        files.data.read_to_end(&mut bytes[0]).unwrap();
        files.tails.read_to_end(&mut bytes[1]).unwrap();
        files.leaves.read_to_end(&mut bytes[2]).unwrap();
        files.index.read_to_end(&mut bytes[3]).unwrap();
        let data = [vec![0; 4096], vec![7; 8192]].concat();
        assert_eq!(bytes, [data, b"a".to_vec(), vec![8; 64], b"index".to_vec()]);
    }
}

#[test]
fn a_segment_has_a_framing_where_its_maker_asked_for_one() {
    let fixture = fixture();
    let slot = slot(&fixture.scope, "a");
    slot.framing().unwrap().write_all(b"framing").unwrap();
    let made = fill(slot, "a").unwrap();
    let (found, _) = segment(&fixture.again(), "a");
    for segment in [&made, &found] {
        let mut bytes = Vec::new();
        segment.framing().unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"framing");
    }
    let (without, _) = segment(&fixture.scope, "b");
    assert!(without.framing().unwrap().is_none());
    // As an older version made it.
    std::fs::remove_file(made.path().join("framing")).unwrap();
    let (found, new) = segment(&fixture.again(), "a");
    assert!(!new);
    assert!(found.framing().unwrap().is_none());
    assert_eq!(fixture.scope.seal_segments().unwrap(), 2);
}

#[test]
fn generations_are_apart() {
    let fixture = fixture();
    drop(segment(&fixture.scope, "a"));
    assert!(fixture.scope.segment(&diff_id("a"), GENERATION + 1).unwrap().is_none());
    drop(image(&fixture.scope, &["a"]));
    assert!(fixture.scope.image(&chain(&["a"]), GENERATION + 1).unwrap().is_none());
}

#[test]
fn a_dropped_slot_leaves_nothing() {
    let fixture = fixture();
    drop(slot(&fixture.scope, "a"));
    let ImageClaim::Build(slot) = fixture.scope.claim_image(&chain(&["a"]), 1, &never).unwrap() else {
        panic!("an image from nowhere")
    };
    slot.reserve(8192).unwrap();
    slot.file().write_all(b"half").unwrap();
    assert_eq!(fixture.names("staging").len(), 2);
    drop(slot);
    for below in ["staging", "segments", "images"] {
        assert_eq!(fixture.names(below), [""; 0], "{below}");
    }
}

#[test]
fn a_commit_that_does_not_match_is_refused() {
    let fixture = fixture();
    let stats = SegmentStats { blocks: 1, tail_bytes: 0, entries: 0 };
    let error = slot(&fixture.scope, "a").commit(&layer("b"), stats).unwrap_err();
    let expected = format!("segment {} was committed with layer {}", diff_id("a"), diff_id("b"));
    assert_eq!(error.to_string(), expected);
    for (stats, file, got) in [
        (SegmentStats { blocks: 1, tail_bytes: 0, entries: 0 }, "data", (8192, 4096)),
        (SegmentStats { blocks: 0, tail_bytes: 7, entries: 0 }, "tails", (7, 0)),
        (SegmentStats { blocks: u64::MAX, tail_bytes: 0, entries: 0 }, "data", (u64::MAX, 4096)),
    ] {
        let slot = slot(&fixture.scope, "a");
        let path = slot.path().join(file);
        let error = slot.commit(&layer("a"), stats).unwrap_err();
        let expected = format!("{} has {} bytes, its record says {}", path.display(), got.1, got.0);
        assert_eq!(error.to_string(), expected);
    }
    let ImageClaim::Build(slot) = fixture.scope.claim_image(&chain(&["a"]), 1, &never).unwrap() else {
        panic!("an image from nowhere")
    };
    let error = slot.commit(image_record(&["a"]).0).unwrap_err();
    assert!(matches!(error, StoreError::Length { expected: 1, got: 0, .. }), "{error}");
    for below in ["staging", "segments", "images"] {
        assert_eq!(fixture.names(below), [""; 0], "{below}");
    }
}

#[test]
fn threads_make_each_thing_once() {
    let fixture = fixture();
    let made = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for shared in [true, false].repeat(4) {
            let (scope, made) = (if shared { fixture.scope.clone() } else { fixture.again() }, &made);
            threads.spawn(move || {
                for text in ["a", "b", "c"] {
                    made.fetch_add(segment(&scope, text).1.into(), Ordering::Relaxed);
                }
                made.fetch_add(image(&scope, &["a", "b", "c"]).1.into(), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(made.into_inner(), 4);
    assert_eq!(fixture.names("staging"), [""; 0]);
}

#[test]
fn processes_make_each_thing_once() {
    let fixture = fixture();
    let mut actors: Vec<_> =
        (0..4).map(|n| Actor::start(&format!("pull image-{n}"), fixture.directory.path())).collect();
    let mut said: Vec<_> = actors.iter_mut().flat_map(Actor::all_it_says).collect();
    said.sort();
    assert_eq!(said, ["a", "b", "c", "image"]);
    actors.into_iter().for_each(Actor::ends_well);
    assert_eq!(
        fixture.names("images"),
        [format!("{}.img", image_record(&["a", "b", "c"]).0.root_hash.hex())]
    );
    let listing = fixture.scope.list_images().unwrap();
    assert_eq!(listing.len(), 1);
    assert_eq!(listing[0].references, ["image-0", "image-1", "image-2", "image-3"]);
}

#[test]
fn a_process_waits_for_another_to_commit() {
    let fixture = fixture();
    let mut actor = Actor::start("build a", fixture.directory.path());
    assert_eq!(actor.says().unwrap(), "building");
    let asked = AtomicUsize::new(0);
    let actor = std::sync::Mutex::new(actor);
    let claim = fixture
        .scope
        .claim_segment(&diff_id("a"), GENERATION, &|| {
            // The wait is under way: let the other one finish.
            if asked.fetch_add(1, Ordering::Relaxed) == 2 {
                actor.lock().unwrap().go_on();
            }
            false
        })
        .unwrap();
    assert!(matches!(claim, Claim::Ready(_)), "{claim:?}");
    actor.into_inner().unwrap().ends_well();
}

#[test]
fn a_process_takes_over_from_one_that_was_killed() {
    let fixture = fixture();
    let mut actor = Actor::start("build a", fixture.directory.path());
    assert_eq!(actor.says().unwrap(), "building");
    let asked = AtomicUsize::new(0);
    let actor = std::sync::Mutex::new(actor);
    let claim = fixture
        .scope
        .claim_segment(&diff_id("a"), GENERATION, &|| {
            if asked.fetch_add(1, Ordering::Relaxed) == 2 {
                actor.lock().unwrap().kill();
            }
            false
        })
        .unwrap();
    let Claim::Build(slot) = claim else { panic!("{claim:?}") };
    assert_eq!(slot.files().data.metadata().unwrap().len(), DATA_START);
    drop(fill(slot, "a").unwrap());
    assert_eq!(fixture.names("staging"), [""; 0]);
}

#[test]
fn a_wait_can_be_called_off() {
    let fixture = fixture();
    let held = slot(&fixture.scope, "a");
    let asked = AtomicUsize::new(0);
    let error = fixture
        .again()
        .claim_segment(&diff_id("a"), GENERATION, &|| asked.fetch_add(1, Ordering::Relaxed) == 3)
        .unwrap_err();
    let expected = format!("cancelled while another process was preparing segment-{}-g1", diff_id("a").hex());
    assert_eq!(error.to_string(), expected);
    drop(fill(held, "a").unwrap());
    assert!(!segment(&fixture.scope, "a").1);
}

#[test]
fn two_chains_may_lead_to_one_image() {
    let fixture = fixture();
    let (first, _) = image(&fixture.scope, &["ab", "c"]);
    let (second, made) = image(&fixture.scope, &["a", "bc"]);
    assert!(made);
    assert_eq!(first.record(), second.record());
    assert_eq!(first.path(), second.path());
    for layers in [["ab", "c"], ["a", "bc"]] {
        let found = fixture.scope.image(&chain(&layers), GENERATION).unwrap().unwrap();
        assert_eq!(found.record(), first.record());
        assert_eq!(found.generation(), GENERATION);
    }
    assert_eq!(std::fs::read(first.path()).unwrap(), b"abc");
    assert!(fixture.scope.image(&chain(&["bc", "a"]), GENERATION).unwrap().is_none());
}

#[test]
fn what_is_claimed_can_go_to_another_thread() {
    fn send<T: Send + 'static>() {}
    fn share<T: Send + Sync + 'static>() {}
    share::<mvm_store::Store>();
    share::<mvm_store::Scope>();
    send::<Claim>();
    send::<ImageClaim>();
    share::<mvm_store::Image>();
    share::<mvm_store::Segment>();
}

#[test]
fn a_segment_becomes_one_image_at_most() {
    let fixture = fixture();
    let (segment, _) = segment(&fixture.scope, "a");
    let claim = |layers: &[&str]| match fixture.scope.claim_image(&chain(layers), GENERATION, &never).unwrap()
    {
        ImageClaim::Build(slot) => slot,
        ImageClaim::Ready(_) => panic!("an image from nowhere"),
    };
    // One that is given up leaves the segment as it was, but for what it wrote behind the data.
    let mut slot = claim(&["a", "b"]);
    assert!(slot.adopt(&segment).unwrap());
    slot.file().set_len(DATA_START + 8192 + 5).unwrap();
    drop(slot);
    let mut slot = claim(&["a"]);
    assert!(slot.adopt(&segment).unwrap());
    assert_eq!(slot.file().metadata().unwrap().len(), DATA_START + 8192);
    assert!(!claim(&["a", "c"]).adopt(&segment).unwrap(), "it is the image of another chain");
    let record = ImageRecord { size: DATA_START + 8192, ..image_record(&["a"]).0 };
    let image = slot.commit(record).unwrap();
    let data = segment.open().unwrap().data.metadata().unwrap();
    assert_eq!(image.file().metadata().unwrap().ino(), data.ino());
    assert!(!claim(&["a", "c"]).adopt(&segment).unwrap(), "it is an image");
    assert!(fixture.scope.segment(&diff_id("a"), GENERATION).unwrap().is_some());
}
