use super::*;
use crate::Silent;
use crate::engine::tests::{Fixture, fixture};
use crate::error::ErrorKind;
use mvm_ref::ImageSource;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn request(images: &[&str], format: &str, compression: &str) -> SaveRequest {
    SaveRequest {
        images: images.iter().map(|image| (*image).to_owned()).collect(),
        format: format.parse().unwrap(),
        compression: compression.parse().unwrap(),
    }
}

fn archive(fixture: &Fixture, request: &SaveRequest) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    fixture.engine.save_images(request, SaveTarget::Stream(&mut bytes), &Silent, &Cancel::default())?;
    Ok(bytes)
}

fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: Result<tar::Entry<'_, &[u8]>, io::Error>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Pulls two images and returns by what they can be asked for.
fn two_images(fixture: &Fixture) -> [String; 2] {
    ["one", "two"].map(|name| {
        let source = fixture.layout(name, &format!("{name}\n"), &json!({"Cmd": ["/hello"]}));
        fixture.pull(&source);
        source.to_string()
    })
}

#[test]
fn what_is_saved_is_what_was_pulled() {
    let fixture = fixture();
    let [one, two] = two_images(&fixture);
    let both = [one.as_str(), two.as_str()];
    for compression in ["none", "gzip", "zstd"] {
        let saved = archive(&fixture, &request(&both, "oci-archive", compression)).unwrap();
        assert_eq!(archive(&fixture, &request(&both, "oci-archive", compression)).unwrap(), saved);
        let members = members(&saved);
        for (path, bytes) in &members {
            if let Some(hex) = path.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                assert_eq!(Digest::of(bytes).hex(), hex);
            }
        }
        let index: Value = serde_json::from_slice(&members["index.json"]).unwrap();
        let file = fixture.path("saved.tar");
        fs::write(&file, &saved).unwrap();
        for (number, name) in both.iter().enumerate() {
            let expected = fixture.engine.inspect_image(name).unwrap();
            let digest = index["manifests"][number]["digest"].as_str().unwrap();
            let source: ImageSource = format!("oci-archive:{}:@{digest}", file.display()).parse().unwrap();
            let pulled = fixture.pull(&source);
            assert_eq!(pulled.root_hash, expected.root.root_hash, "{compression}");
            assert_eq!(pulled.config_digest, expected.config_digest, "{compression}");
            // Layers that were not compressed are what the manifest says of them.
            assert_eq!(pulled.manifest == expected.manifest, compression == "none");
        }
    }
}

#[test]
fn docker_finds_what_it_looks_for() {
    let fixture = fixture();
    let [one, _] = two_images(&fixture);
    let config = fixture.engine.inspect_image(&one).unwrap().config_digest;
    for (format, compression, suffix) in [("docker-archive", "none", true), ("oci-archive", "gzip", false)] {
        let members = members(&archive(&fixture, &request(&[&one], format, compression)).unwrap());
        let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
        let path = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(Digest::of(&members[path]), config);
        assert_eq!(manifest[0]["RepoTags"], json!([]));
        let layer = manifest[0]["Layers"][0].as_str().unwrap();
        assert_eq!(members[layer].starts_with(b"hello\0"), suffix, "a Docker archive has plain layers");
        assert_eq!(members.contains_key("oci-layout"), !suffix);
    }
    let error = archive(&fixture, &request(&[&one], "docker-archive", "gzip")).unwrap_err();
    assert!(matches!(&error, EngineError::Export(ExportError::PlainOnly)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn a_directory_is_a_layout_and_appears_whole() {
    let fixture = fixture();
    let [one, two] = two_images(&fixture);
    let path = fixture.path("layout");
    let save = |images: &[&str], path: &Path| {
        let request = request(images, "oci", "gzip");
        fixture.engine.save_images(&request, SaveTarget::Path(path), &Silent, &Cancel::default())
    };
    save(&[&one], &path).unwrap();
    let source: ImageSource = format!("oci:{}", path.display()).parse().unwrap();
    assert_eq!(fixture.pull(&source).root_hash, fixture.engine.inspect_image(&one).unwrap().root.root_hash);
    let error = save(&[&two], &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    fs::create_dir(fixture.path("empty")).unwrap();
    save(&[&two], &fixture.path("empty")).unwrap();
    assert!(fixture.path("empty/index.json").exists());
}

#[test]
fn a_damaged_layer_leaves_no_file_and_is_fetched_again() {
    let fixture = fixture();
    let [one, _] = two_images(&fixture);
    let file = fixture.path("out/saved.tar");
    fs::create_dir(fixture.path("out")).unwrap();
    let save = || {
        let request = request(&[&one], "oci-archive", "none");
        fixture.engine.save_images(&request, SaveTarget::Path(&file), &Silent, &Cancel::default())
    };
    save().unwrap();
    let whole = fs::read(&file).unwrap();
    let layer = fixture.engine.inspect_image(&one).unwrap().layers[0];
    let parts = || {
        let segment = fixture.engine.scope.segment(&layer, mvm_image::GENERATION).unwrap().unwrap();
        ["tails", "framing"].map(|part| segment.path().join(part))
    };
    for number in [0, 1] {
        let part = &parts()[number];
        let mut damaged = fs::read(part).unwrap();
        // In the framing: before the end, which says the length.
        let at = damaged.len().saturating_sub(12);
        damaged[at] ^= 1;
        fs::write(part, &damaged).unwrap();
        fs::write(&file, "what was there before").unwrap();
        let error = save().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{}: {error:?}", part.display());
        assert_eq!(fs::read(&file).unwrap(), b"what was there before");
        save().unwrap();
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
    fs::remove_file(&parts()[1]).unwrap();
    save().unwrap();
    assert_eq!(fs::read(&file).unwrap(), whole);
    fs::remove_file(&parts()[1]).unwrap();
    fs::remove_dir_all(fixture.path("one")).unwrap();
    let error = save().unwrap_err();
    assert!(matches!(error, EngineError::Export(ExportError::Older { .. })), "{error:?}");
    fixture.engine.scope.discard_segments(&[layer].into()).unwrap();
    let error = save().unwrap_err();
    assert!(matches!(error, EngineError::Export(ExportError::Lost { .. })), "{error:?}");
    assert_eq!(fs::read_dir(fixture.path("out")).unwrap().count(), 1);
}
