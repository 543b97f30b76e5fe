use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::error::ErrorKind;
use crate::verify::OnDamage;
use mvm_ref::Platform;
use mvm_store::{ManifestRecord, ResolutionRecord};
use serde_json::json;
use std::os::unix::fs::FileExt as _;

/// Gives what was pulled from `layout` another name, as if it had come from a registry.
fn name(fixture: &Fixture, layout: &str, reference: &str) -> Digest {
    let scope = &fixture.engine.scope;
    let resolution = scope.resolution(layout, &Platform::host()).unwrap().unwrap();
    let requested = reference.parse::<ImageSource>().unwrap().to_string();
    scope.record_resolution(&ResolutionRecord { requested, ..resolution.clone() }).unwrap();
    resolution.manifest
}

#[test]
fn images_are_found_by_any_of_their_names() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({"Cmd": ["/bin/sh"]}));
    let pulled = fixture.pull(&layout);
    name(&fixture, &layout.to_string(), "debian:12");
    name(&fixture, &layout.to_string(), "ghcr.io/team/app");
    let digests = [pulled.manifest, pulled.config_digest, pulled.root_hash];
    let mut names = vec![
        layout.to_string(),
        "debian:12".to_owned(),
        "library/debian:12".to_owned(),
        "docker.io/library/debian:12".to_owned(),
        "docker://debian:12".to_owned(),
        "ghcr.io/team/app".to_owned(),
        "ghcr.io/team/app:latest".to_owned(),
    ];
    for digest in digests {
        names.extend([
            digest.to_string(),
            digest.hex(),
            digest.hex()[..12].to_owned(),
            digest.hex()[..4].to_owned(),
        ]);
        names.push(format!("sha256:{}", &digest.hex()[..7]));
    }
    for name in names {
        let found = fixture.engine.find_image(&name).map(|image| image.manifest);
        // Four digits can be the beginning of two of the three digests; of one image they are still.
        assert_eq!(found.unwrap(), pulled.manifest, "{name}");
    }
    let three = &digests[0].hex()[..3];
    for name in ["debian", "debian:11", "app", three, "", "sha256:", "ffffffff", "no such name", "../../etc"]
    {
        let error = fixture.engine.find_image(name).unwrap_err();
        assert!(matches!(&error, EngineError::UnknownImage(asked) if asked == name), "{name}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn the_beginning_of_several_digests_is_ambiguous() {
    let fixture = fixture();
    let config = json!({"Cmd": ["/bin/sh"]});
    let layout = fixture.layout("layout", "hello\n", &config);
    let pulled = fixture.pull(&layout);
    // Another manifest of the same image: a mirror that compresses otherwise has one.
    let scope = &fixture.engine.scope;
    let record = scope.manifest(&pulled.manifest).unwrap().unwrap();
    let manifest = scope.put_document(b"another manifest").unwrap();
    scope.record_manifest(&ManifestRecord { manifest, ..record }).unwrap();
    for text in [pulled.config_digest.to_string(), pulled.config_digest.hex()[..8].to_owned()] {
        let error = fixture.engine.find_image(&text).unwrap_err();
        assert!(
            matches!(&error, EngineError::Ambiguous { text: asked, count: 2 } if *asked == text),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    assert_eq!(fixture.engine.find_image(&manifest.hex()).unwrap().manifest, manifest);
    assert_eq!(fixture.engine.find_image(&layout.to_string()).unwrap().manifest, pulled.manifest);
}

#[test]
fn a_pulled_image_is_listed_and_inspected() {
    let fixture = fixture();
    let config = json!({
        "Entrypoint": ["/entry"], "Cmd": ["a", "b"], "Env": ["PATH=/bin"], "WorkingDir": "/srv", "User": "1000:1000",
        "StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
    });
    let layout = fixture.layout("layout", "hello\n", &config);
    let pulled = fixture.pull(&layout);
    let rows = fixture.engine.images().unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(row.reference, Some(layout.to_string()));
    assert_eq!(
        (row.manifest, row.config, row.root_hash, row.size, &row.platform),
        (pulled.manifest, pulled.config_digest, pulled.root_hash, pulled.size, &Platform::host())
    );
    assert_eq!(fixture.engine.images_to_verify().unwrap(), [pulled.manifest]);

    let details = fixture.engine.inspect_image(&layout.to_string()).unwrap();
    assert_eq!(details.references, [layout.to_string()]);
    assert_eq!(details.posture, "compatible");
    assert_eq!(details.layers.len(), 1);
    assert_eq!((details.root.root_hash, details.root.size), (pulled.root_hash, pulled.size));
    assert_eq!(std::fs::metadata(&details.root.path).unwrap().len(), pulled.size);
    let process = details.process;
    assert_eq!(
        (process.entrypoint, process.cmd),
        (vec!["/entry".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!((process.env, process.working_dir), (vec!["PATH=/bin".to_owned()], "/srv".to_owned()));
    assert_eq!((process.user, process.stop_signal), ("1000:1000".to_owned(), "SIGINT".to_owned()));
    assert_eq!(process.exposed_ports.into_iter().collect::<Vec<_>>(), ["80/tcp"]);
    assert_eq!(process.volumes.into_iter().collect::<Vec<_>>(), ["/data"]);

    let kinds: Vec<_> = fixture
        .events()
        .into_iter()
        .map(|event| format!("{event:?}").split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["Resolve", "Fetch", "Verify", "Materialize"]);
    // Another pull finds everything.
    assert_eq!(fixture.pull(&layout).root_hash, pulled.root_hash);
    let again = fixture.events().split_off(4);
    assert!(matches!(again[..], [Event::Resolve { .. }, Event::CacheHit { .. }]), "{again:?}");
    assert_eq!(fixture.engine.audit_verify().unwrap().entries, 6);
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let verified = fixture.engine.verify_image(&layout.to_string(), OnDamage::Discard).unwrap();
    assert_eq!(verified.blocks, pulled.data_blocks);
    let places =
        [0, 1024, pulled.hash_start - 1, pulled.hash_start, pulled.hash_start + 4096, pulled.size - 1];
    for (number, offset) in places.into_iter().enumerate() {
        flip(&fixture, pulled.root_hash, offset);
        for (on_damage, is_discarded) in [(OnDamage::Report, false), (OnDamage::Discard, true)] {
            let error = fixture.engine.verify_image(&layout.to_string(), on_damage).unwrap_err();
            assert_eq!(error.damaged_at().map(|at| at / 4096), Some(offset / 4096));
            assert!(
                matches!(&error, EngineError::Damaged { root_hash, name, discarded, .. }
                    if (*root_hash, name.as_str()) == (pulled.root_hash, layout.to_string().as_str())
                        && *discarded == is_discarded),
                "{error:?}"
            );
            assert_eq!(error.kind(), ErrorKind::Verification, "at {offset}");
        }
        // Each of the two looks is on record.
        let found = Event::Damage { subject: Subject::Image { root_hash: pulled.root_hash } };
        let told = fixture.events().into_iter().filter(|event| *event == found).count();
        assert_eq!(told, 2 * (number + 1), "at {offset}");
        assert_eq!(fixture.pull(&layout).root_hash, pulled.root_hash);
        fixture.engine.verify_image(&layout.to_string(), OnDamage::Report).unwrap();
    }
}

/// Changes a byte of an image's file.
fn flip(fixture: &Fixture, root_hash: Digest, offset: u64) {
    let image = fixture.engine.scope.image_by_root(&root_hash).unwrap().unwrap();
    flip_in(image.path(), offset);
}

fn flip_in(path: &std::path::Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_damaged_image_is_fetched_anew_under_all_its_names() {
    let fixture = fixture();
    let text = "hello\n".repeat(2000);
    let layout = fixture.layout("layout", &text, &json!({}));
    let pulled = fixture.pull(&layout);
    let diff_id = pulled.config.diff_ids()[0];
    name(&fixture, &layout.to_string(), "debian:12");
    let cached = |image: &str| {
        let image: ImageSource = image.parse().unwrap();
        fixture.engine.cached(&image, &Platform::host()).unwrap().map(|pulled| pulled.root_hash)
    };
    for asked in ["debian:12".to_owned(), layout.to_string()] {
        assert_eq!(cached(&asked), Some(pulled.root_hash));
        // The layer's data and the image are one file.
        flip(&fixture, pulled.root_hash, 4096 + 100);
        let error = fixture.engine.verify_image(&asked, OnDamage::Discard).unwrap_err();
        let canonical = asked.parse::<ImageSource>().unwrap().to_string();
        let hint = format!("mvmctl pull {canonical}");
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Verification, Some(hint)));
        for name in ["debian:12".to_owned(), layout.to_string()] {
            assert_eq!(cached(&name), None, "{name}");
        }
        let before = fixture.events().len();
        assert_eq!(fixture.pull(&layout).root_hash, pulled.root_hash);
        let events = fixture.events().split_off(before);
        assert!(
            matches!(
                events[..],
                [Event::Resolve { .. }, Event::Fetch { .. }, Event::Verify { .. }, Event::Materialize { .. }]
            ),
            "{events:?}"
        );
        for name in ["debian:12".to_owned(), layout.to_string()] {
            assert_eq!(
                fixture.engine.verify_image(&name, OnDamage::Discard).unwrap().blocks,
                pulled.data_blocks
            );
        }
    }
    let deleted = |subject| Event::Delete { subject };
    let events = fixture.events();
    assert!(events.contains(&deleted(Subject::Image { root_hash: pulled.root_hash })), "{events:?}");
    assert!(events.contains(&deleted(Subject::Segment { diff_id })), "{events:?}");
}

#[test]
fn removing_a_name_keeps_an_image_that_has_another() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let tag = "docker.io/library/debian:12".to_owned();
    name(&fixture, &layout.to_string(), &tag);
    let before = fixture.events().len();

    let error = fixture.engine.remove_image(&pulled.root_hash.hex()[..12]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(fixture.engine.remove_image("debian:12").unwrap(), [format!("untagged {tag}")]);
    assert_eq!(
        fixture.engine.verify_image(&layout.to_string(), OnDamage::Discard).unwrap().blocks,
        pulled.data_blocks
    );
    let removed = fixture.engine.remove_image(&pulled.manifest.hex()[..12]).unwrap();
    assert_eq!(removed[0], format!("untagged {layout}"));
    assert!(removed.iter().any(|line| line.starts_with("deleted image ")), "{removed:?}");
    assert!(fixture.engine.images().unwrap().is_empty());
    assert_eq!(fixture.engine.remove_image("debian:12").unwrap_err().kind(), ErrorKind::NotFound);

    let deleted: Vec<_> = fixture.events().split_off(before);
    let subjects: Vec<Subject> = deleted
        .into_iter()
        .map(|event| match event {
            Event::Delete { subject } => subject,
            other => panic!("{other:?}"),
        })
        .collect();
    for requested in [tag, layout.to_string()] {
        let subject = Subject::Reference { requested: requested.parse().unwrap() };
        assert!(subjects.contains(&subject), "{requested}: {subjects:?}");
    }
    assert!(subjects.contains(&Subject::Image { root_hash: pulled.root_hash }), "{subjects:?}");
}

#[test]
fn a_removed_image_leaves_nothing_after_collection() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    fixture.pull(&layout);
    fixture.engine.remove_image(&layout.to_string()).unwrap();
    let planned = fixture.engine.collect_garbage(true, None).unwrap();
    let audited = fixture.events().len();
    let done = fixture.engine.collect_garbage(false, None).unwrap();
    assert_eq!(planned.removed.len(), done.removed.len());
    assert!(fixture.events().len() >= audited);
    assert!(fixture.engine.collect_garbage(false, None).unwrap().removed.is_empty());
    // What is gone can be had again.
    let pulled = fixture.pull(&layout);
    assert_eq!(
        fixture.engine.verify_image(&layout.to_string(), OnDamage::Discard).unwrap().blocks,
        pulled.data_blocks
    );
}

#[test]
fn what_is_collected_has_a_word_and_maybe_an_event() {
    let digest = Digest::of(b"x");
    let collected =
        |kind, name: String| Collected { kind, reason: Reason::Unreferenced, path: name.into(), bytes: 1 };
    let hex = digest.hex();
    let table = [
        (
            CollectedKind::Image,
            format!("images/{hex}.img"),
            Some(Subject::Image { root_hash: digest }),
            "image",
        ),
        (
            CollectedKind::Segment,
            format!("segments/{hex}-g1"),
            Some(Subject::Segment { diff_id: digest }),
            "layer",
        ),
        (CollectedKind::Document, format!("documents/{hex}"), Some(Subject::Blob { digest }), "document"),
        (CollectedKind::Leftover, format!("staging/{hex}"), None, "leftover"),
        (CollectedKind::Image, "images/short".to_owned(), None, "image"),
        (CollectedKind::Image, format!("images/{}ü", &hex[..63]), None, "image"),
    ];
    for (kind, name, subject, word) in table {
        let event = deletion(&collected(kind, name.clone()));
        let torn = Collected { reason: Reason::Torn, ..collected(kind, name.clone()) };
        let repaired = subject.clone().map(|subject| Event::Recover { subject });
        assert_eq!(deletion(&torn), repaired, "{name}");
        assert_eq!(event, subject.map(|subject| Event::Delete { subject }), "{name}");
        assert_eq!(kind_name(kind), word);
    }
}
