use crate::fixture::*;
use mvm_ref::Digest;
use mvm_store::{CollectedKind, GcOptions, GcReport, ImageClaim, Scope};
use std::io::Read;

fn discarded(scope: &Scope, root: &Digest) -> Vec<(CollectedKind, String)> {
    scope.discard_image(root).unwrap().iter().map(|item| (item.kind, entry(item))).collect()
}

fn segment_names(texts: &[&str]) -> Vec<(CollectedKind, String)> {
    let mut names: Vec<_> =
        texts.iter().map(|text| (CollectedKind::Segment, format!("{}-g1", diff_id(text).hex()))).collect();
    names.sort();
    names
}

#[test]
fn a_discarded_image_is_made_anew_from_nothing_that_was_there() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let layers = ["base", "top"];
    let root = pull(scope, "a", &layers).manifest.root_hash;
    drop(pull(scope, "b", &layers));
    drop(pull(scope, "other", &["base", "side"]));
    let open = scope.image_by_root(&root).unwrap().unwrap();

    let mut expected = vec![(CollectedKind::Image, format!("{}.img", root.hex()))];
    expected.extend(segment_names(&layers));
    assert_eq!(discarded(scope, &root), expected);
    let mut kept = String::new();
    open.file().read_to_string(&mut kept).unwrap();
    assert_eq!(kept, "basetop");

    assert!(scope.image_by_root(&root).unwrap().is_none());
    assert!(scope.image(&chain(&layers), GENERATION).unwrap().is_none());
    let listings = scope.list_images().unwrap();
    let sizes: Vec<_> = listings.iter().map(|image| (image.root_hash == root, image.size)).collect();
    assert!(sizes.contains(&(true, None)) && sizes.contains(&(false, Some(8))), "{sizes:?}");
    assert_eq!(discarded(scope, &root), []);

    let again = pull(scope, "b", &layers);
    assert_eq!((again.manifest.root_hash, again.built), (root, set(&["base", "top", "image"])));
    assert_eq!(pull(scope, "a", &layers).built, set(&[]));
    assert_eq!(pull(scope, "other", &["base", "side"]).built, set(&[]));
    assert_eq!(scope.gc(&GcOptions::default(), &|_| false).unwrap(), GcReport::default());
}

#[test]
fn a_segment_in_use_is_forgotten_and_replaced() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let pulled = pull(scope, "a", &["base", "top"]);
    let layers = [diff_id("base"), diff_id("top")].into();
    assert_eq!(scope.discard_segments(&layers).unwrap(), []);
    assert!(scope.segment(&diff_id("base"), GENERATION).unwrap().is_none());
    assert!(segment(&fixture.again(), "base").1);
    drop(pulled);
    assert_eq!(
        scope.gc(&GcOptions::default(), &|_| false).unwrap().removed.iter().map(entry).collect::<Vec<_>>(),
        [format!("{}-g1", diff_id("top").hex())]
    );
}

#[test]
fn data_that_was_adopted_is_not_adopted_again() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let (lowest, _) = segment(scope, "a");
    let ImageClaim::Build(mut slot) = scope.claim_image(&chain(&["a"]), GENERATION, &never).unwrap() else {
        panic!("there is an image already");
    };
    assert!(slot.adopt(&lowest).unwrap());
    let (record, _) = image_record(&["a"]);
    let size = slot.file().metadata().unwrap().len();
    drop((slot.commit(mvm_store::ImageRecord { size, ..record }).unwrap(), lowest));
    // Its manifest records which layers it has.
    let pulled = pull(scope, "a", &["a"]);
    assert_eq!(pulled.built, set(&[]));
    let root = pulled.image.record().root_hash;
    drop(pulled);
    let removed = discarded(scope, &root);
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert_eq!((fixture.names("images"), fixture.names("segments")), (vec![], vec![]));
}
