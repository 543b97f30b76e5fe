use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::error::ErrorKind;
use crate::{Compression, SaveFormat, SaveRequest, SaveTarget, Silent};
use mvm_ref::ImageSource;
use serde_json::{Value, json};
use std::fs;

/// Writes a layout whose image has `name`, and returns the digest of its manifest.
fn named(fixture: &Fixture, layout: &str, name: impl FnOnce(Digest) -> String) -> Digest {
    fixture.layout(layout, layout, &json!({"Cmd": ["/hello"]}));
    let path = fixture.path(layout).join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = &mut index["manifests"][0];
    let digest = entry["digest"].as_str().unwrap().parse().unwrap();
    entry["annotations"] = json!({"io.containerd.image.name": name(digest)});
    fs::write(&path, index.to_string()).unwrap();
    digest
}

fn load(fixture: &Fixture, bundle: Bundle) -> Result<Vec<Loaded>, EngineError> {
    fixture.engine.load(bundle, &Platform::host(), &Silent, &Cancel::default())
}

#[test]
fn a_digest_in_a_name_is_that_of_the_image() {
    let fixture = fixture();
    let other = Digest::of(b"another image's manifest");
    for name in [format!("r.example/app@{other}"), format!("r.example/app:1@{other}")] {
        named(&fixture, "evil", |_| name.clone());
        let error = load(&fixture, Bundle::Path(fixture.path("evil"))).unwrap_err();
        assert!(
            matches!(&error, EngineError::OthersName { name: n, .. } if n.to_string() == name),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert_eq!(fixture.engine.images().unwrap().len(), 0);
    }
    let digest = named(&fixture, "good", |digest| format!("r.example/app@{digest}"));
    let loaded = load(&fixture, Bundle::Path(fixture.path("good"))).unwrap();
    assert_eq!(loaded[0].names, [format!("r.example/app@{digest}").parse().unwrap()]);
}

#[test]
fn what_the_store_has_for_a_digest_has_that_digest() {
    let fixture = fixture();
    let image = fixture.pull(&fixture.layout("layout", "text", &json!({})));
    let (index, other) = (Digest::of(b"its index"), Digest::of(b"another"));
    for (digest, found) in [(image.manifest, true), (index, true), (other, false)] {
        let name = format!("r.example/app@{digest}");
        let source: ImageSource = name.parse().unwrap();
        fixture.engine.name(&name, &Platform::host(), image.manifest, Some(index)).unwrap();
        let cached = fixture.engine.cached(&source, &Platform::host()).unwrap();
        assert_eq!(cached.map(|cached| cached.manifest), found.then_some(image.manifest), "{name}");
    }
}

#[test]
fn a_digest_names_no_other_image_than_its_own() {
    let fixture = fixture();
    let image = fixture.pull(&fixture.layout("layout", "text", &json!({})));
    // The archive's name is that of a tag in the repository `sha256`.
    named(&fixture, "evil", |_| format!("docker.io/library/{}", image.manifest));
    load(&fixture, Bundle::Path(fixture.path("evil"))).unwrap();
    let found = fixture.engine.inspect_image(&image.manifest.to_string()).unwrap();
    assert_eq!(found.manifest, image.manifest);
}

#[test]
fn an_archive_comes_through_a_pipe_with_a_name() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "text", &json!({}));
    let expected = fixture.pull(&layout);
    let pipe = fixture.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let request = SaveRequest {
        images: vec![layout.to_string()],
        format: SaveFormat::OciArchive,
        compression: "none".parse::<Compression>().unwrap(),
    };
    let loaded = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(&fixture, Bundle::Path(pipe.clone())));
        fixture.engine.save_images(&request, SaveTarget::Path(&pipe), &Silent, &Cancel::default()).unwrap();
        loading.join().unwrap()
    });
    assert_eq!(loaded.unwrap()[0].root_hash, expected.root_hash);
}
