//! Indexes and layouts: which image is meant, and where its parts lie.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use super::documents::{plain, store, tree};
use super::image::{INDEX, Image, MANIFEST, digest};
use super::tar::Tar;
use super::{Case, Kind, Peer, Tree, hostile, oddity};

const LENIENT: Peer = Peer::Differs("it doesn't look");
const ONE_PLATFORM: Peer = Peer::Differs("it follows no index in the index");
const NAME: &str = "org.opencontainers.image.ref.name";

/// Returns the entry of an index for a manifest of one layer with a file `a` of this content.
fn entry(image: &mut Image, content: &str, platform: Value) -> io::Result<Value> {
    let archive = Tar::new().file("a", content).finish();
    let (layer, diff_id) = (image.blob(&archive)?, digest(&archive));
    let mut config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers"}});
    config["rootfs"]["diff_ids"] = json!([diff_id]);
    for key in ["os", "architecture", "variant"] {
        if let Some(text) = platform.get(key) {
            config[key] = text.clone();
        }
    }
    let mut manifest = image.manifest(config.to_string().as_bytes())?;
    manifest["layers"] = json!([{"mediaType": super::image::TAR, "digest": layer, "size": archive.len()}]);
    let text = manifest.to_string();
    let digest = image.blob(text.as_bytes())?;
    let mut entry = json!({"mediaType": MANIFEST, "digest": digest, "size": text.len()});
    if !platform.is_null() {
        entry["platform"] = platform;
    }
    Ok(entry)
}

/// Writes a layout whose name leads to an entry through so many indexes in each other.
fn nested(image: &mut Image, entry: &Value, levels: usize) -> io::Result<()> {
    let mut inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    for _ in 1..levels {
        let digest = image.blob(inner.as_bytes())?;
        let entry =
            json!({"mediaType": INDEX, "digest": digest, "size": inner.len(), "platform": linux("amd64")});
        inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    }
    named(image, &inner, INDEX)
}

fn linux(architecture: &str) -> Value {
    json!({"os": "linux", "architecture": architecture})
}

/// Writes a layout whose name leads to an index of these entries.
fn many(image: &mut Image, entries: &[Value]) -> io::Result<()> {
    let text = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    named(image, &text, INDEX)
}

/// Writes a layout whose name leads to a document of a type.
fn named(image: &mut Image, text: &str, media_type: &str) -> io::Result<()> {
    let digest = image.blob(text.as_bytes())?;
    let entry = json!({"mediaType": media_type, "digest": digest, "size": text.len(), "annotations": {NAME: "latest"}});
    image.write("index.json", json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
}

/// Writes the usual image with a changed index.json.
fn listed(change: impl Fn(&mut Value)) -> impl Fn(&mut Image) -> io::Result<()> {
    move |image| {
        let manifest = plain(image)?.to_string();
        let mut index = image.index(manifest.as_bytes())?;
        change(&mut index);
        image.write("index.json", index.to_string())
    }
}

pub(super) fn cases() -> Vec<Case> {
    [platforms(), entries(), layouts(), places()].into_iter().flatten().collect()
}

/// The choice for a platform.
fn platforms() -> Vec<Case> {
    vec![
        oddity("two-of-one-platform", "the first counts", |i| {
            let (first, second) = (entry(i, "x", linux("amd64"))?, entry(i, "y", linux("amd64"))?);
            many(i, &[first, second])
        })
        .accepted(tree)
        .umoci(ONE_PLATFORM),
        oddity("variants", "v1 is what every amd64 machine runs", |i| {
            let variant = |v: &str| json!({"os": "linux", "architecture": "amd64", "variant": v});
            let (v3, v1) = (entry(i, "y", variant("v3"))?, entry(i, "x", variant("v1"))?);
            many(i, &[v3, v1])
        })
        .accepted(tree)
        .umoci(ONE_PLATFORM),
        oddity("attestations", "BuildKit lists them as unknown/unknown", |i| {
            let mut attestation = entry(i, "y", json!({"os": "unknown", "architecture": "unknown"}))?;
            attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
            let image = entry(i, "x", linux("amd64"))?;
            many(i, &[attestation, image])
        })
        .accepted(tree)
        .umoci(ONE_PLATFORM),
        oddity("artifacts-beside", "things that aren't images, in one index with one", |i| {
            let other = json!({"mediaType": "application/vnd.example", "digest": digest(b"x"), "size": 1});
            let image = entry(i, "x", linux("amd64"))?;
            many(i, &[other, image])
        })
        .accepted(tree)
        .umoci(ONE_PLATFORM),
        oddity("only-entry-without-platform", "its config says what it is for", |i| {
            let image = entry(i, "x", Value::Null)?;
            many(i, &[image])
        })
        .accepted(tree)
        .umoci(Peer::NotAsked("it follows such an index or not, by version")),
        oddity("platform-in-other-words", "x86_64 is what other tools call amd64", |i| {
            let image = entry(i, "x", linux("x86_64"))?;
            many(i, &[image])
        })
        .accepted(tree),
        hostile("no-such-platform", "not for this machine", |i| {
            let (s390x, arm) = (entry(i, "x", linux("s390x"))?, entry(i, "x", linux("arm64"))?);
            many(i, &[s390x, arm])
        })
        .refused(Kind::Platform, "linux/arm64, linux/s390x"),
        hostile("platform-that-lies", "the index says amd64, the config arm64", |i| {
            let mut image = entry(i, "x", linux("arm64"))?;
            image["platform"] = linux("amd64");
            many(i, &[image])
        })
        .refused(Kind::PlatformLie, "linux/arm64").umoci(LENIENT),
        hostile("system-that-lies", "the index says Linux, the config Windows", |i| {
            let mut image = entry(i, "x", json!({"os": "windows", "architecture": "amd64"}))?;
            image["platform"] = linux("amd64");
            many(i, &[image])
        })
        .refused(Kind::OperatingSystem, "windows"),
        oddity("index-in-an-index", "tools that join indexes make such", |i| {
            let image = entry(i, "x", linux("amd64"))?;
            nested(i, &image, 2)
        })
        .accepted(tree)
        .umoci(Peer::NotAsked("versions differ")),
        hostile("fifty-indexes-in-each-other", "readers that call themselves for each level", |i| {
            let image = entry(i, "x", linux("amd64"))?;
            nested(i, &image, 50)
        })
        .refused(Kind::IndexDepth, "more than 4")
        .umoci(Peer::NotAsked("it unpacks what it finds at the end")),
        hostile("forty-indexes-in-one", "documents that lead to more documents", |i| {
            let other = entry(i, "x", linux("s390x"))?;
            let mut entries = Vec::new();
            for number in 0..40 {
                let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other], "annotations": {"n": number.to_string()}});
                let text = inner.to_string();
                entries.push(json!({"mediaType": INDEX, "digest": i.blob(text.as_bytes())?, "size": text.len()}));
            }
            many(i, &entries)
        })
        .refused(Kind::IndexCount, "16"),
        hostile("index-without-entries", "there is no image", |i| many(i, &[])).refused(Kind::Platform, "none"),
    ]
}

/// Entries that are bad, and what they do to the others.
fn entries() -> Vec<Case> {
    vec![
        oddity("bad-entry-beside", "one entry of another kind leaves the others", |i| {
            let bad =
                json!({"mediaType": MANIFEST, "digest": format!("sha512:{}", "0".repeat(128)), "size": 1});
            listed(move |index| {
                index["manifests"].as_array_mut().map(|list| list.insert(0, bad.clone())).unwrap_or_default();
            })(i)
        })
        .accepted(tree)
        .umoci(Peer::NotAsked("versions differ")),
        oddity("bad-entry-beside-in-an-index", "the same one level below", |i| {
            let bad =
                json!({"mediaType": MANIFEST, "digest": "md5:0", "size": -1, "platform": linux("amd64")});
            let image = entry(i, "x", linux("amd64"))?;
            many(i, &[bad, json!(5), image])
        })
        .accepted(tree)
        .umoci(ONE_PLATFORM),
        hostile("only-entry-is-bad", "the error says why", |i| {
            listed(|index| index["manifests"][0]["digest"] = json!("sha256:xyz"))(i)
        })
        .refused(Kind::DigestValue, "index entry 0"),
        hostile("entry-as-path", "2024-3727: a digest that is a path", |i| {
            listed(|index| index["manifests"][0]["digest"] = json!("sha256:../../index.json"))(i)
        })
        .refused(Kind::DigestValue, "../../index.json"),
        hostile("one-name-twice", "a name that means two images", |i| {
            let (one, other) = (entry(i, "x", linux("amd64"))?, entry(i, "y", linux("amd64"))?);
            let named = [one, other].map(|mut entry| {
                entry["annotations"] = json!({NAME: "latest"});
                entry
            });
            i.write("index.json", json!({"schemaVersion": 2, "manifests": named}).to_string())
        })
        .refused(Kind::SeveralImages, "latest, latest"),
        oddity("one-image-listed-twice", "the same name for the same image", |i| {
            listed(|index| {
                let entry = index["manifests"][0].clone();
                index["manifests"].as_array_mut().map(|list| list.push(entry)).unwrap_or_default();
            })(i)
        })
        .accepted(tree)
        .umoci(Peer::NotAsked("versions differ")),
        hostile("no-such-name", "names are annotations, and there are none", |i| {
            listed(|index| {
                drop(index["manifests"][0].as_object_mut().map(|entry| entry.remove("annotations")))
            })(i)
        })
        .refused(Kind::NoSuchName, "latest"),
        hostile("entry-of-another-size", "the manifest is longer", |i| {
            listed(|index| index["manifests"][0]["size"] = json!(5))(i)
        })
        .refused(Kind::BlobSize, "5")
        .skopeo(LENIENT),
        hostile("entry-of-four-gibibytes", "2020-1702: nothing is set aside for what is claimed", |i| {
            listed(|index| index["manifests"][0]["size"] = json!(1_u64 << 32))(i)
        })
        .refused(Kind::BlobSize, "4294967296"),
        hostile("manifest-with-another-digest", "the blob is not what its name says", |i| {
            let manifest = plain(i)?.to_string();
            let index = i.index(manifest.as_bytes())?;
            let digest = index["manifests"][0]["digest"].as_str().unwrap_or_default().to_owned();
            fs::write(
                i.blob_path(&digest),
                manifest.replace("\"x\"", "\"y\"").replace(":2,", ": 2").replace("\"layers\"", "\"layerS\""),
            )?;
            i.write("index.json", index.to_string())
        })
        .refused(Kind::DocumentDigest, "sha256:"),
        hostile("config-with-another-digest", "the blob is not what its name says", |i| {
            let manifest = plain(i)?;
            let digest = manifest["config"]["digest"].as_str().unwrap_or_default().to_owned();
            let config = fs::read_to_string(i.blob_path(&digest))?;
            fs::write(i.blob_path(&digest), config.replace("amd64", "arm64"))?;
            store(i, manifest.to_string())
        })
        .refused(Kind::DocumentDigest, "image config sha256:"),
        hostile("layer-with-another-digest", "the blob is not what its name says", |i| {
            let manifest = plain(i)?;
            let digest = manifest["layers"][0]["digest"].as_str().unwrap_or_default().to_owned();
            let mut layer = fs::read(i.blob_path(&digest))?;
            layer[512] ^= 1;
            fs::write(i.blob_path(&digest), layer)?;
            store(i, manifest.to_string())
        })
        .refused(Kind::LayerDigest, "sha256:"),
    ]
}

/// Files of the layout.
fn layouts() -> Vec<Case> {
    let marker = |text: &'static str| {
        move |i: &mut Image| {
            i.write("oci-layout", text)?;
            i.layer(Tar::new().file("a", "x"))
        }
    };
    let index = |text: &'static str| {
        move |i: &mut Image| {
            plain(i)?;
            i.write("index.json", text)
        }
    };
    vec![
        hostile("layout-of-version-2", "of the future", marker(r#"{"imageLayoutVersion":"2.0.0"}"#))
            .refused(Kind::LayoutVersion, "2.0.0")
            .skopeo(LENIENT),
        oddity(
            "layout-of-version-1-1",
            "a later version of the same kind",
            marker(r#"{"imageLayoutVersion":"1.1.0"}"#),
        )
        .accepted(tree)
        .umoci(Peer::NotAsked("versions differ")),
        hostile("layout-that-says-nothing", "no version", marker("{}"))
            .refused(Kind::Marker, "imageLayoutVersion")
            .skopeo(LENIENT),
        hostile("index-that-is-a-list", "an index is an object", index("[]"))
            .refused(Kind::Json, "index.json"),
        hostile("index-that-is-empty", "no bytes at all", index("")).refused(Kind::Json, "index.json"),
        hostile("index-that-is-a-manifest", "2021-41190", |i| {
            let manifest = plain(i)?.to_string();
            i.write("index.json", manifest)
        })
        .refused(Kind::Shape, "index.json"),
        hostile("index-of-null", "nothing is listed", index(r#"{"schemaVersion":2,"manifests":null}"#))
            .refused(Kind::EmptyLayout, "no image"),
        oddity("index-with-more", "the specification wants unknown properties ignored", |i| {
            listed(|index| {
                index["artifactType"] = json!("x/y");
                index["subject"] = json!({"digest": "bad"});
                index["x-more"] = json!([[]]);
            })(i)
        })
        .accepted(tree)
        .umoci(Peer::NotAsked("versions differ")),
        oddity("index-without-schema-version", "everyone takes it for 2", |i| {
            listed(|index| drop(index.as_object_mut().map(|index| index.remove("schemaVersion"))))(i)
        })
        .accepted(tree),
        hostile("manifests-twice", "which one counts depends on the reader", |i| {
            let manifest = plain(i)?.to_string();
            let text = i.index(manifest.as_bytes())?.to_string();
            i.write("index.json", format!("{{\"manifests\":[],{}", &text[1..]))
        })
        .refused(Kind::Json, "twice")
        .umoci(Peer::Differs("Go takes the last of several"))
        .skopeo(Peer::Differs("Go takes the last of several")),
        oddity("layout-with-other-files", "a layout may lie beside anything", |i| {
            i.write("README", "text")?;
            fs::create_dir_all(i.directory().join("blobs/sha512"))?;
            fs::write(i.directory().join("blobs/sha256/not-a-digest"), "x")?;
            i.layer(Tar::new().file("a", "x"))
        })
        .accepted(|| Tree::new().file("a", "x"))
        .skopeo(Peer::Same),
    ]
}

/// What lies where blobs should.
fn places() -> Vec<Case> {
    /// Puts something in the place of the layer's blob, or of the index.
    fn replaced(
        place: fn(&Image, &Value) -> std::path::PathBuf,
        put: fn(&std::path::Path, &std::path::Path) -> io::Result<()>,
    ) -> impl Fn(&mut Image) -> io::Result<()> {
        move |image| {
            let manifest = plain(image)?;
            store(image, manifest.to_string())?;
            let path = place(image, &manifest);
            let aside = path.with_extension("aside");
            fs::rename(&path, &aside)?;
            put(&path, &aside)
        }
    }
    fn layer(image: &Image, manifest: &Value) -> std::path::PathBuf {
        image.blob_path(manifest["layers"][0]["digest"].as_str().unwrap_or_default())
    }
    fn index(image: &Image, _: &Value) -> std::path::PathBuf {
        image.directory().join("index.json")
    }
    let no_link =
        Peer::Differs("it follows links; what one leads to is opened before it is known to be a file");
    vec![
        hostile("blob-is-a-link", "a link out of the layout", |i| {
            replaced(layer, |at, aside| symlink(aside, at))(i)
        })
        .refused(Kind::NotAFile, "blobs/sha256/")
        .umoci(no_link)
        .skopeo(no_link),
        hostile("blob-is-a-link-to-a-device", "a file without end", |i| {
            replaced(layer, |at, _| symlink("/dev/zero", at))(i)
        })
        .refused(Kind::NotAFile, "blobs/sha256/")
        .umoci(Peer::NotAsked("it would read for ever")),
        hostile("blob-is-a-pipe", "readers that wait for a writer", |i| {
            replaced(layer, |at, _| Ok(mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?))(i)
        })
        .refused(Kind::NotAFile, "blobs/sha256/")
        .umoci(Peer::NotAsked("it would wait for ever")),
        hostile("blob-is-a-directory", "what is no file has no bytes", |i| {
            replaced(layer, |at, _| fs::create_dir(at))(i)
        })
        .refused(Kind::NotAFile, "blobs/sha256/"),
        hostile("index-is-a-pipe", "readers that wait for a writer", |i| {
            replaced(index, |at, _| Ok(mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?))(i)
        })
        .refused(Kind::NotAFile, "index.json")
        .umoci(Peer::NotAsked("it would wait for ever")),
        hostile("index-is-a-link", "a link out of the layout", |i| {
            replaced(index, |at, aside| symlink(aside, at))(i)
        })
        .refused(Kind::NotAFile, "index.json")
        .umoci(no_link)
        .skopeo(no_link),
        oddity("blobs-elsewhere", "layouts that share their blobs", |i| {
            let manifest = plain(i)?;
            store(i, manifest.to_string())?;
            let blobs = i.directory().join("blobs");
            fs::rename(&blobs, i.directory().join("shared"))?;
            symlink("shared", blobs)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
    ]
}
