use super::*;
use crate::engine::tests::fixture;
use crate::error::{ErrorKind, chain};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

#[test]
fn a_volume_is_made_grown_given_out_and_removed() {
    let fixture = fixture();
    let engine = &fixture.engine;
    let made = engine.create_volume(&name("data"), Some(Size::new((20 << 20) + 1))).unwrap();
    assert_eq!((made.size, made.holder.clone()), (21 << 20, None));
    assert!(made.used < 8 << 20, "{made:?}");
    assert_eq!(engine.scope.usage().unwrap().volumes.count, 1);
    assert!(!engine.ensure_volume(&name("data")).unwrap());
    assert!(engine.ensure_volume(&name("other")).unwrap());
    let listed: Vec<_> =
        engine.volumes().unwrap().into_iter().map(|v| (v.name.to_string(), v.size)).collect();
    assert_eq!(listed, [("data".to_owned(), 21 << 20), ("other".to_owned(), VOLUME_SIZE)]);

    assert_eq!(engine.grow_volume(&name("data"), Size::new(64 << 20)).unwrap().size, 64 << 20);
    let copy = fixture.path("copy");
    let cancel = Cancel::default();
    engine.export_volume(&name("data"), &fs::File::create(&copy).unwrap(), Some(&copy), &cancel).unwrap();
    let disk = disk_of(engine, "data");
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&disk).unwrap());
    assert!(copy.metadata().unwrap().blocks() * 512 < 8 << 20, "holes stay holes");

    assert!(engine.remove_volume(&name("data")).unwrap() > 0);
    assert!(!disk.exists());
    engine.remove_volume(&name("other")).unwrap();
    assert_eq!(engine.volumes().unwrap(), []);
    assert_eq!(engine.scope.usage().unwrap().staging.count, 0);
}

#[test]
fn what_cannot_be_is_refused() {
    let fixture = fixture();
    let engine = &fixture.engine;
    engine.create_volume(&name("data"), Some(Size::new(16 << 20))).unwrap();
    let locked = engine.scope.lock_volume(&name("data"), VolumeUse::Write, "VM web").unwrap();
    assert_eq!(engine.volume(&name("data")).unwrap().holder.as_deref(), Some("VM web"));
    let busy = "volume data is in use by VM web";
    let none = "no volume none is in scope default";
    let size = |bytes| Some(Size::new(bytes));
    type Case = (Result<(), EngineError>, &'static str, ErrorKind);
    let cases: Vec<Case> = vec![
        (engine.remove_volume(&name("data")).map(drop), busy, ErrorKind::Conflict),
        (engine.grow_volume(&name("data"), Size::new(1 << 30)).map(drop), busy, ErrorKind::Conflict),
        (engine.remove_volume(&name("none")).map(drop), none, ErrorKind::NotFound),
        (engine.volume(&name("none")).map(drop), none, ErrorKind::NotFound),
        (
            engine.create_volume(&name("data"), None).map(drop),
            "there is a volume data already",
            ErrorKind::Conflict,
        ),
        (
            engine.create_volume(&name("tiny"), size(1)).map(drop),
            "a volume of 1 bytes is not supported; it has 16777216 to 17592184995840",
            ErrorKind::Usage,
        ),
        (
            engine.create_volume(&name("huge"), size(u64::MAX)).map(drop),
            "a volume of 18446744073709551615 bytes is not supported; it has 16777216 to 17592184995840",
            ErrorKind::Usage,
        ),
    ];
    for (result, words, kind) in cases {
        let error = result.unwrap_err();
        assert_eq!((chain(&error).as_str(), error.kind()), (words, kind));
    }
    drop(locked);
    let shrunk = engine.grow_volume(&name("data"), Size::new(16 << 20)).unwrap_err();
    assert_eq!(chain(&shrunk), "volume data has 16777216 bytes; a volume grows and can't have 16777216");
    engine.scope.set_quota(Some(1 << 20)).unwrap();
    let full = engine.create_volume(&name("more"), None).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Refused, "{full:?}");
    engine.remove_volume(&name("data")).unwrap();
}
