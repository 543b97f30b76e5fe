use super::*;
use crate::engine::tests::fixture;
use crate::error::ErrorKind;
use serde_json::json;

fn kind<'a>(usage: &'a DiskUsage, name: &str) -> &'a KindUsage {
    usage.kinds.iter().find(|kind| kind.kind == name).unwrap()
}

#[test]
fn what_is_on_the_disk_by_kind() {
    let fixture = fixture();
    let empty = fixture.engine.disk_usage().unwrap();
    let names: Vec<_> = empty.kinds.iter().map(|kind| kind.kind).collect();
    assert_eq!(
        names,
        [
            "images",
            "layers",
            "documents",
            "volumes",
            "staging",
            "kernels",
            "vms",
            "scratch",
            "cache",
            "plans",
            "audit"
        ]
    );
    assert_eq!((empty.total, empty.reclaimable, empty.other_scopes), (0, 0, 0));
    let layout = fixture.layout("layout", &"hello\n".repeat(2000), &json!({}));
    fixture.pull(&layout);
    let pulled = fixture.engine.disk_usage().unwrap();
    let (images, layers) = (kind(&pulled, "images"), kind(&pulled, "layers"));
    // The layer's data is the image's very file.
    assert_eq!((images.count, layers.count, images.shared), (1, 1, images.size));
    assert_eq!(layers.shared, images.size);
    let sum: u64 = pulled.kinds.iter().map(|kind| kind.size).sum();
    assert_eq!((pulled.total, pulled.reclaimable), (sum - images.size, 0));
    fixture.engine.scope.remove_reference(&layout.to_string(), &|_| Default::default()).unwrap();
    let gone = fixture.engine.disk_usage().unwrap();
    assert_eq!((kind(&gone, "images").size, kind(&gone, "layers").size), (0, 0));
}

#[test]
fn the_settings_of_the_store_hold_for_collection_and_pulls() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    fixture.pull(&layout);
    let settings = fixture.path("store/settings.toml");
    fs::write(&settings, "[layers]\nbudget = \"0\"\n").unwrap();
    assert_eq!(fixture.engine.disk_usage().unwrap().layer_budget, 0);
    let report = fixture.engine.collect_garbage(true, None).unwrap();
    assert_eq!(report.removed.len(), 1, "{report:?}");
    assert!(fixture.engine.collect_garbage(true, Some(1 << 30)).unwrap().removed.is_empty());
    // A pull leaves no more than the budget.
    let other = fixture.layout("other", "other\n", &json!({}));
    fixture.pull(&other);
    assert_eq!(fixture.engine.scope.usage().unwrap().segments.count, 0);
    assert_eq!(fixture.engine.images().unwrap().len(), 2);

    for text in ["[layers]\nbudget = 5\n", "x", "\u{0}"] {
        fs::write(&settings, text).unwrap();
        let error = fixture.engine.collect_garbage(true, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{text:?}: {error:?}");
        assert!(crate::error::chain(&error).contains("settings.toml"), "{error:?}");
    }
    fs::remove_file(&settings).unwrap();
    std::os::unix::fs::symlink("/dev/null", &settings).unwrap();
    assert!(fixture.engine.collect_garbage(true, None).is_err());
}

#[test]
fn pins_by_name() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let name = layout.to_string();
    let engine = &fixture.engine;
    assert!(matches!(engine.unpin_image(&name).unwrap_err(), EngineError::NotPinned(asked) if asked == name));
    assert_eq!(engine.pin_image(&name).unwrap(), pulled.manifest);
    assert!(engine.images().unwrap()[0].pinned && engine.inspect_image(&name).unwrap().pinned);
    let error = engine.remove_image(&name).unwrap_err();
    assert_eq!(
        (error.kind(), error.hint()),
        (ErrorKind::Conflict, Some(format!("mvmctl image unpin {name}")))
    );
    assert_eq!(engine.unpin_image(&pulled.root_hash.hex()[..12]).unwrap(), pulled.manifest);
    engine.remove_image(&name).unwrap();
    assert!(engine.images().unwrap().is_empty());
}

#[test]
fn an_image_beyond_the_quota_is_refused_and_leaves_nothing() {
    let fixture = fixture();
    let engine = &fixture.engine;
    let text: String = (0..400_000).map(|number| format!("{number:09}\n")).collect();
    let small = fixture.layout("small", "small\n", &json!({}));
    fixture.pull(&small);
    let large = fixture.layout("large", &text, &json!({}));
    let used = engine.scope.usage().unwrap().total;
    // As it is fetched already; and what no descriptor says: that layer and image together need more.
    for (quota, needed) in
        [(used, true), (used + 1024, true), (used + 4_010_000, true), (used + (8 << 20), false)]
    {
        engine.scope.set_quota(Some(quota)).unwrap();
        let pulled =
            engine.pull(&large, &mvm_ref::Platform::host(), &crate::Silent, &crate::Cancel::default());
        match (needed, pulled) {
            (false, Ok(_)) => assert!(engine.scope.usage().unwrap().total <= quota),
            (true, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
                assert!(error.hint().unwrap().contains("mvmctl scope set default --quota SIZE"));
                assert!(
                    crate::error::chain(&error).contains(&format!("may hold {quota} bytes")),
                    "{error:?}"
                );
                assert_eq!(engine.scope.usage().unwrap().total, used);
            }
            (_, other) => panic!("{quota}: {other:?}"),
        }
    }
    // What is there is no further burden.
    engine.scope.set_quota(Some(0)).unwrap();
    fixture.pull(&small);
}

#[test]
fn what_lies_outside_of_scopes_goes_once_nobody_needs_it() {
    let fixture = fixture();
    let engine = &fixture.engine;
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let put = |path: &str, text: &str| {
        let path = fixture.path("store").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let [with_image, without, unmarked] = [1, 2, 3].map(|number: u8| Digest::of(&[number]));
    let initramfs = |digest: &Digest| put(&format!("initramfs/{}.cpio", digest.hex()), "bytes");
    let mark =
        |digest: &Digest, root: &Digest| put(&format!("initramfs/{}.{}", digest.hex(), root.hex()), "");
    let needed = [initramfs(&with_image), mark(&with_image, &pulled.root_hash), mark(&with_image, &without)];
    let mut gone = vec![initramfs(&without), mark(&without, &unmarked), initramfs(&unmarked)];
    let kept = put("cache/signatures/default/x.json", "{}");
    gone.push(put("cache/signatures/no-scope/x.json", "{}").parent().unwrap().to_owned());
    // No process has so high a number.
    gone.push(put("cache/provenance/default/x.4294967-0.new", "{"));
    let half_written = put(&format!("cache/provenance/default/x.{}-0.new", std::process::id()), "{");
    let nonce = "00000000000000000000000000000000";
    let [early, late] = [(b"early", 1), (b"later", i64::MAX)].map(|(plan, end)| {
        let digest = Digest::of(plan);
        (digest, put(&format!("used-plans/{}", digest.hex()), &format!("{nonce}\n{end}\n")))
    });
    gone.push(early.1.clone());
    gone.sort();
    // Of earlier versions: no more is known than that some bundle was taken in.
    let resolution =
        engine.scope.resolution(&layout.to_string(), &mvm_ref::Platform::host()).unwrap().unwrap();
    let import = mvm_store::ResolutionRecord { requested: "plan:0123".to_owned(), ..resolution };
    engine.scope.record_resolution(&import).unwrap();
    let listed = |report: &GcReport| {
        let store = fixture.path("store").canonicalize().unwrap();
        let of_store =
            report.removed.iter().map(|item| store.join(&item.path)).filter(|path| path.starts_with(&store));
        let mut paths: Vec<_> = of_store.collect();
        paths.sort();
        paths
    };
    let report = engine.collect_garbage(true, None).unwrap();
    assert!(!listed(&report).contains(&initramfs(&unmarked)), "{report:?}");
    engine.scope.remove_reference("plan:0123", &|_| Default::default()).unwrap();

    let report = engine.collect_garbage(true, None).unwrap();
    assert_eq!(listed(&report), gone);
    assert!(gone.iter().all(|path| path.exists()), "a dry run removed something");
    let plans = kind(&engine.disk_usage().unwrap(), "plans").clone();
    assert_eq!((plans.count, plans.reclaimable > 0), (8, true));
    assert_eq!(listed(&engine.collect_garbage(false, None).unwrap()), gone);
    assert!(gone.iter().all(|path| !path.exists()), "something is left");
    assert!(
        needed.iter().chain([&kept, &half_written, &late.1]).all(|path| path.exists()),
        "something is lost"
    );
    let told = [Subject::Blob { digest: without }, Subject::Plan { digest: early.0 }];
    for subject in told {
        assert!(fixture.events().contains(&Event::Delete { subject: subject.clone() }), "{subject:?}");
    }
    assert_eq!(listed(&engine.collect_garbage(false, None).unwrap()), [] as [std::path::PathBuf; 0]);
}
