use super::*;
use crate::engine::tests::fixture;
use crate::error::ErrorKind;
use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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

/// A layer with one file of 9 bytes, which has the set-user-ID bit, and a device.
fn odd_layer() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(9);
    header.set_mode(0o4755);
    archive.append_data(&mut header, "su", &b"#!/bin/su"[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Char);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_size(0);
    header.set_mode(0o666);
    archive.append_data(&mut header, "null", std::io::empty()).unwrap();
    archive.into_inner().unwrap()
}

/// Makes the engine unpack as the settings say, or as it does by itself.
fn under(fixture: &mut crate::engine::tests::Fixture, settings: &[&str]) {
    let mut policy = UnpackPolicy::default();
    settings.iter().for_each(|setting| policy.set(setting).unwrap());
    fixture.engine.settings.unpack = (!settings.is_empty()).then_some(policy);
}

#[test]
fn a_policy_refuses_with_what_would_allow_it() {
    let mut fixture = fixture();
    let one = fixture.layout_of("one", &[odd_layer()], &json!({}), "amd64");
    let two = fixture.layout_of("two", &[odd_layer(), odd_layer()], &json!({}), "amd64");
    let cases = [
        (
            &one,
            "set-id=refuse",
            "set-id=keep",
            "su: mode 4755, and set-user-ID and set-group-ID bits are refused",
        ),
        (
            &one,
            "devices=refuse",
            "devices=any",
            "null: character device 1:3 is not among the devices allowed",
        ),
        (&one, "entries=1", "entries=COUNT", "entries: 2, at most 1 are allowed"),
        (&one, "apparent=8", "apparent=SIZE", "bytes of files, with holes: 9, at most 8 are allowed"),
        // Over both layers, though each is within the limit.
        (&two, "entries=3", "entries=COUNT", "entries: 4, at most 3 are allowed"),
        (&two, "unpacked=17", "unpacked=SIZE", "bytes of file data: 18, at most 17 are allowed"),
        (&two, "layers=1", "layers=COUNT", "layers: 2, at most 1 are allowed"),
    ];
    for (source, setting, remedy, words) in cases {
        under(&mut fixture, &[setting]);
        let error = fixture.engine.pull(source, &Platform::host(), &crate::Silent, &Cancel::default());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{setting}: {error:?}");
        let chain = crate::chain(&error);
        assert!(chain.ends_with(words), "{setting}: {chain}");
        let hint = format!("--unpack {remedy} allows more, for an image that you trust");
        assert_eq!(error.hint(), Some(hint), "{setting}");
    }
    under(&mut fixture, &[]);
    fixture.pull(&two);
}

#[test]
fn what_the_store_has_passes_no_stricter_policy() {
    let mut fixture = fixture();
    let source = fixture.layout_of("layout", &[odd_layer()], &json!({}), "amd64");
    let root_hash = fixture.pull(&source).root_hash;
    let pull = |fixture: &crate::engine::tests::Fixture| {
        fixture.engine.pull(&source, &Platform::host(), &crate::Silent, &Cancel::default())
    };
    let refused = [
        "set-id=refuse",
        "devices=refuse",
        "entries=1",
        "unpacked=8",
        "apparent=8",
        "path=2",
        "name=3",
        "layers=0",
    ];
    for setting in refused {
        under(&mut fixture, &[setting]);
        let error = pull(&fixture).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{setting}: {error:?}");
        // Without layers at hand it is not taken either.
        let error = fixture.engine.cached(&source, &Platform::host()).unwrap_err();
        assert!(matches!(error, EngineError::OtherPolicy { .. }), "{setting}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    // The ratio of what is stored to what is unpacked is remembered.
    under(&mut fixture, &["ratio=0", "ratio-from=0"]);
    pull(&fixture).unwrap();
    // A stricter one that the layers keep to is recorded, so that they are checked once.
    under(&mut fixture, &["hardlinks=refuse", "entries=2"]);
    assert!(fixture.engine.cached(&source, &Platform::host()).is_err());
    assert_eq!(pull(&fixture).unwrap().root_hash, root_hash);
    assert_eq!(fixture.engine.cached(&source, &Platform::host()).unwrap().unwrap().root_hash, root_hash);
    // Looser ones, and none, take it as it is.
    for settings in [&[][..], &["entries=3", "hardlinks=same-layer"], &["devices=any"]] {
        under(&mut fixture, settings);
        assert_eq!(
            fixture.engine.cached(&source, &Platform::host()).unwrap().unwrap().root_hash,
            root_hash,
            "{settings:?}"
        );
    }
}

#[test]
fn inspect_lists_what_gives_rights() {
    let fixture = fixture();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    let capability = b"41 SCHILY.xattr.security.capability=abcd\n";
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(capability.len() as u64);
    archive.append_data(&mut header, "pax", &capability[..]).unwrap();
    let entries = [
        ("ping", tar::EntryType::Regular, 0o755),
        ("mail", tar::EntryType::Directory, 0o2775),
        ("wall", tar::EntryType::Regular, 0o2755),
    ];
    for (name, kind, mode) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(mode);
        archive.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    for index in 0..1001 {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o4711);
        archive.append_data(&mut header, format!("many/{index:04}"), std::io::empty()).unwrap();
    }
    let layers = [odd_layer(), archive.into_inner().unwrap()];
    let source = fixture.layout_of("layout", &layers, &json!({}), "amd64");
    fixture.pull(&source);
    let found = fixture.engine.inspect_image(&source.to_string()).unwrap().special_files;
    assert_eq!((found.set_id.count, found.set_id.paths.len()), (1003, 1000));
    assert_eq!(found.set_id.paths[0].as_ref(), "/many/0000");
    let list = |paths: &[&str]| crate::PathList {
        count: paths.len() as u64,
        paths: paths.iter().map(|path| crate::Shown::new(path.as_bytes())).collect(),
    };
    assert_eq!((found.file_capabilities, found.devices), (list(&["/ping"]), list(&["/null"])));
}

/// Changes a bit of a file.
fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// Returns the directory of the lowest layer.
fn segment_of(fixture: &crate::engine::tests::Fixture, pulled: &Pulled) -> PathBuf {
    let diff_id = pulled.config.diff_ids()[0];
    fixture.engine.scope.segment(&diff_id, GENERATION).unwrap().unwrap().path().to_owned()
}

/// Hears words.
#[derive(Default)]
struct Words(Mutex<Vec<String>>);

impl Progress for Words {
    fn step(&self, step: Step) {
        if let Step::Notice(words) = step {
            self.0.lock().unwrap().push(words);
        }
    }
}

#[test]
fn a_damaged_layer_is_fetched_anew() {
    let fixture = fixture();
    // Two blocks and a tail.
    let layout = fixture.layout("layout", &"hello\n".repeat(1500), &json!({}));
    let pulled = fixture.pull(&layout);
    let lose = |pulled: &Pulled| {
        let image = fixture.engine.scope.image_by_root(&pulled.root_hash).unwrap().unwrap().path().to_owned();
        fs::remove_file(image).unwrap();
    };
    let mut damages = Vec::new();
    for part in ["tails", "leaves", "index", "sums"] {
        let length = fs::metadata(segment_of(&fixture, &pulled).join(part)).unwrap().len();
        damages.extend([0, length / 3, length / 2, length - 1].map(|offset| (part, offset)));
    }
    for (part, offset) in damages {
        let path = segment_of(&fixture, &pulled).join(part);
        lose(&pulled);
        flip(&path, offset);
        let before = fixture.events().len();
        let words = Words::default();
        let again = fixture.engine.pull(&layout, &Platform::host(), &words, &Cancel::default()).unwrap();
        assert_eq!(again.root_hash, pulled.root_hash, "{part} {offset}");
        let events = fixture.events().split_off(before);
        assert!(
            matches!(
                events[..],
                [
                    Event::Resolve { .. },
                    Event::Delete { subject: Subject::Segment { .. } },
                    Event::Fetch { .. },
                    Event::Verify { .. },
                    Event::Materialize { .. }
                ]
            ),
            "{part} {offset}: {events:?}"
        );
        let words = words.0.into_inner().unwrap();
        let expected = format!("is damaged and fetched anew: {}", path.display());
        assert!(words.len() == 1 && words[0].starts_with("layer 1 (sha256:"), "{words:?}");
        // Which of the files differs can't be said where the list itself does.
        assert!(part == "sums" || words[0].contains(&expected), "{words:?}");
        fixture.engine.verify_image(&layout.to_string(), crate::OnDamage::Report).unwrap();
    }
    // A sound layer is used as it is; one of a version that kept no digests is not.
    let paths = [None, Some(segment_of(&fixture, &pulled).join("sums"))];
    for (path, fetched) in paths.into_iter().zip([false, true]) {
        lose(&pulled);
        path.iter().for_each(|path| fs::remove_file(path).unwrap());
        let before = fixture.events().len();
        fixture.pull(&layout);
        let events = fixture.events().split_off(before);
        assert_eq!(events.iter().any(|event| matches!(event, Event::Fetch { .. })), fetched, "{events:?}");
    }
}

#[test]
fn damaged_blocks_are_copied_and_told_of_by_their_digests() {
    let fixture = fixture();
    let layer = |name: &str, text: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        archive.into_inner().unwrap()
    };
    let base = layer("base", &"base\n".repeat(2000));
    let one = fixture.layout_of("one", std::slice::from_ref(&base), &json!({}), "amd64");
    let two = fixture.layout_of("two", &[base, layer("own", "own\n")], &json!({}), "amd64");
    let pulled = fixture.pull(&one);
    let sound = fixture.pull(&two).root_hash;
    fixture.engine.scope.discard_image(&sound).unwrap();
    fixture.engine.scope.discard_image(&pulled.root_hash).unwrap();
    fixture.pull(&one);
    flip(&segment_of(&fixture, &pulled).join("data"), 4096 + 100);
    // The second image is what it should be, but for the block, which a guest would not take.
    assert_eq!(fixture.pull(&two).root_hash, sound);
    for layout in [&one, &two] {
        let error = fixture.engine.verify_image(&layout.to_string(), crate::OnDamage::Discard).unwrap_err();
        assert_eq!(error.damaged_at(), Some(4096));
    }
    for layout in [&one, &two] {
        fixture.pull(layout);
        fixture.engine.verify_image(&layout.to_string(), crate::OnDamage::Report).unwrap();
    }
}

#[test]
fn the_same_layers_must_make_the_same_root() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let scope = &fixture.engine.scope;
    let record = scope.manifest(&pulled.manifest).unwrap().unwrap();
    let expected = Digest::of(b"what an older version made");
    scope.discard_image(&pulled.root_hash).unwrap();
    scope.record_manifest(&mvm_store::ManifestRecord { root_hash: expected, ..record }).unwrap();
    let error =
        fixture.engine.pull(&layout, &Platform::host(), &crate::Silent, &Cancel::default()).unwrap_err();
    let EngineError::Pull { source, .. } = &error else { panic!("{error:?}") };
    assert!(
        matches!(**source, PullError::OtherRoot { expected: was, got } if (was, got) == (expected, pulled.root_hash)),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Verification);
}

#[test]
fn what_a_bundle_claims_of_a_manifest_is_in_the_way_of_no_pull() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let scope = &fixture.engine.scope;
    let sound = scope.manifest(&pulled.manifest).unwrap().unwrap();
    let document = |digest: &Digest| scope.document(digest).unwrap().unwrap();
    let (manifest, config) = (document(&sound.manifest), document(&sound.config));
    let claim = |text: &[u8]| {
        let (root_hash, posture) = (Digest::of(text), claims::IMPORTED.to_owned());
        for document in [&manifest, &config] {
            scope.put_document(document).unwrap();
        }
        let claim = mvm_store::ManifestRecord { root_hash, posture, ..sound.clone() };
        (root_hash, fixture.engine.record_claim(&claim))
    };
    let root_of = |root: &Digest| {
        let name = format!("plan:{}", root.short());
        let named = scope.resolution(&name, &Platform::host()).unwrap().unwrap();
        (named.manifest, scope.manifest(&named.manifest).unwrap().unwrap().root_hash)
    };
    // Against what was measured here no claim stands.
    assert_eq!(claim(b"a").1.unwrap_err().kind(), ErrorKind::Verification);
    scope.remove_reference(&layout.to_string(), &|_| Default::default()).unwrap();
    let ((one, first), (two, second)) = (claim(b"a"), claim(b"b"));
    first.unwrap();
    second.unwrap();
    assert_eq!(root_of(&one), (sound.manifest, one));
    assert_eq!(root_of(&two).1, two);

    assert_eq!(fixture.pull(&layout).root_hash, pulled.root_hash);
    let found = fixture.events();
    assert!(found.contains(&Event::Verify { digest: sound.manifest, diff_id: None, passed: false }));
    let now = scope.manifest(&sound.manifest).unwrap().unwrap();
    assert_eq!((now.root_hash, now.posture.as_str()), (pulled.root_hash, "compatible"));
    // Each plan's root is still found, and by no pull.
    for root in [one, two] {
        let (named, found) = root_of(&root);
        assert_eq!(found, root);
        assert_ne!(named, sound.manifest);
    }
    fixture.engine.collect_garbage(false, None).unwrap();
    assert_eq!((root_of(&one).1, root_of(&two).1), (one, two));
    assert_eq!(claim(b"a").1.unwrap_err().kind(), ErrorKind::Verification);
}

#[test]
fn an_error_of_the_disk_is_not_lost_before_the_end() {
    // What can't be synced, as a disk that fails.
    let device = fs::File::open("/dev/null").unwrap();
    let work = || std::thread::sleep(std::time::Duration::from_millis(500));
    let error = fetch::while_syncing(&device, work).unwrap_err();
    assert!(matches!(&error, PullError::Sync(source) if source.raw_os_error() == Some(22)), "{error:?}");
    let file = tempfile::tempfile().unwrap();
    assert_eq!(fetch::while_syncing(&file, || 7).unwrap(), 7);
}
