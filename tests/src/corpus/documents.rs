//! Manifests: what they are, and what is in them.

use std::io;

use serde_json::{Value, json};

use super::image::{CONFIG, INDEX, Image, MANIFEST, TAR, digest};
use super::tar::Tar;
use super::{Case, Draft, Kind, Peer, Tree, hostile, oddity};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";

const LENIENT: Peer = Peer::Differs("it doesn't look");
const GO: Peer = Peer::Differs("Go takes the last of several");

/// Adds the layer that all these images have, and returns the manifest.
pub(super) fn plain(image: &mut Image) -> io::Result<Value> {
    image.layer(Tar::new().file("a", "x"))?;
    let config = image.config().to_string();
    image.manifest(config.as_bytes())
}

/// Returns the tree of that layer.
pub(super) fn tree() -> Tree {
    Tree::new().file("a", "x")
}

/// Writes an index that names a manifest of these bytes.
pub(super) fn store(image: &mut Image, manifest: impl AsRef<[u8]>) -> io::Result<()> {
    let index = image.index(manifest.as_ref())?.to_string();
    image.write("index.json", index)
}

/// Writes the usual image with a changed manifest.
fn changed(change: impl Fn(&mut Value)) -> impl Fn(&mut Image) -> io::Result<()> {
    move |image| {
        let mut manifest = plain(image)?;
        change(&mut manifest);
        store(image, manifest.to_string())
    }
}

/// Writes the usual image with the text of its manifest changed.
fn written(change: impl Fn(String) -> Vec<u8>) -> impl Fn(&mut Image) -> io::Result<()> {
    move |image| {
        let manifest = plain(image)?.to_string();
        store(image, change(manifest))
    }
}

/// Replaces the beginning `{` by `{` and these properties.
fn with(properties: &'static str) -> impl Fn(String) -> Vec<u8> {
    move |text| format!("{{{properties},{}", &text[1..]).into_bytes()
}

pub(super) fn cases() -> Vec<Case> {
    [kinds(), properties(), more_properties(), descriptors(), layers(), texts()]
        .into_iter()
        .flatten()
        .collect()
}

/// What a document is.
fn kinds() -> Vec<Case> {
    vec![
        hostile("manifest-and-index", "2021-41190: a manifest to one reader, an index to another", |i| {
            let mut manifest = plain(i)?;
            manifest["manifests"] = json!([]);
            store(i, manifest.to_string())
        })
        .refused(Kind::Ambiguous, "sha256:")
        .umoci(LENIENT)
        .skopeo(Peer::Same),
        hostile("manifest-and-index-in-capitals", "2021-41190, for readers to whom case is nothing", |i| {
            let mut manifest = plain(i)?;
            manifest["MANIFESTS"] = json!([]);
            store(i, manifest.to_string())
        })
        .refused(Kind::Ambiguous, "sha256:")
        .umoci(LENIENT)
        .skopeo(Peer::Same),
        hostile("manifest-with-null-manifests", "2021-41190: null is there to some", |i| {
            let mut manifest = plain(i)?;
            manifest["manifests"] = Value::Null;
            store(i, manifest.to_string())
        })
        .refused(Kind::Ambiguous, "sha256:")
        .umoci(LENIENT),
        hostile("manifest-that-says-index", "2021-41190: the type and the content differ", |i| {
            changed(|m| m["mediaType"] = json!(INDEX))(i)
        })
        .refused(Kind::MediaTypes, INDEX)
        .umoci(LENIENT)
        .skopeo(LENIENT),
        hostile("manifest-that-says-docker", "the descriptor says another type", |i| {
            changed(|m| m["mediaType"] = json!(DOCKER_MANIFEST))(i)
        })
        .refused(Kind::MediaTypes, DOCKER_MANIFEST)
        .umoci(LENIENT)
        .skopeo(LENIENT),
        hostile("manifest-that-says-text", "a type that is no image", |i| {
            changed(|m| m["mediaType"] = json!("text/plain"))(i)
        })
        .refused(Kind::MediaTypes, "text/plain")
        .umoci(LENIENT)
        .skopeo(LENIENT),
        oddity("manifest-without-media-type", "images of OCI 1.0 have none", |i| {
            changed(|m| drop(m.as_object_mut().map(|m| m.remove("mediaType"))))(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity("manifest-with-empty-media-type", "Go writes what is unset so", |i| {
            changed(|m| m["mediaType"] = json!(""))(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        hostile("schema-version-1", "Docker's first manifests name no digest of their content", |i| {
            changed(|m| m["schemaVersion"] = json!(1))(i)
        })
        .refused(Kind::Schema1, "sha256:")
        .umoci(LENIENT)
        .skopeo(LENIENT),
        hostile("schema-version-3", "of the future", |i| changed(|m| m["schemaVersion"] = json!(3))(i))
            .refused(Kind::SchemaVersion, "3")
            .umoci(LENIENT)
            .skopeo(LENIENT),
        hostile("schema-version-as-text", "a number is no text", |i| {
            changed(|m| m["schemaVersion"] = json!("2"))(i)
        })
        .refused(Kind::Json, "invalid type: string \"2\"")
        .skopeo(Peer::Same),
        oddity("schema-version-missing", "everyone takes it for 2", |i| {
            changed(|m| drop(m.as_object_mut().map(|m| m.remove("schemaVersion"))))(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        hostile("schema-1-layers", "fsLayers beside layers", |i| changed(|m| m["fsLayers"] = json!([]))(i))
            .refused(Kind::Schema1, "sha256:")
            .umoci(LENIENT)
            .skopeo(Peer::Same),
        oddity("docker-manifest", "Docker's types of all documents, in a layout", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            let config = i.config().to_string();
            let mut manifest = i.manifest(config.as_bytes())?;
            manifest["mediaType"] = json!(DOCKER_MANIFEST);
            manifest["config"]["mediaType"] = json!(DOCKER_CONFIG);
            manifest["layers"][0]["mediaType"] = json!(DOCKER_TAR);
            let mut index = i.index(manifest.to_string().as_bytes())?;
            index["manifests"][0]["mediaType"] = json!(DOCKER_MANIFEST);
            i.write("index.json", index.to_string())
        })
        .accepted(tree)
        .umoci(Peer::Differs("it knows no types but OCI's"))
        .skopeo(Peer::Differs("it finds no names beside Docker's types")),
        hostile("helm-chart", "an artifact that is no image", |i| {
            changed(|m| m["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json"))(i)
        })
        .refused(Kind::NotAnImage, "application/vnd.cncf.helm.config.v1+json")
        .skopeo(LENIENT),
    ]
}

/// Properties of manifests.
fn properties() -> Vec<Case> {
    vec![
        hostile("layers-missing", "a manifest of nothing", |i| {
            changed(|m| drop(m.as_object_mut().map(|m| m.remove("layers"))))(i)
        })
        .refused(Kind::Shape, "layers")
        .umoci(LENIENT)
        .skopeo(LENIENT),
        hostile("layers-null", "fewer layers than diff IDs", |i| changed(|m| m["layers"] = Value::Null)(i))
            .refused(Kind::Pair, "0 layers")
            .umoci(LENIENT)
            .skopeo(LENIENT),
        oddity("layers-null-for-none", "Go writes an empty list so", |i| {
            let config = i.config().to_string();
            let mut manifest = i.manifest(config.as_bytes())?;
            manifest["layers"] = Value::Null;
            store(i, manifest.to_string())
        })
        .accepted(Tree::new)
        .skopeo(Peer::Same),
        oddity("no-layers", "an image from scratch that nothing was added to", |i| {
            let config = i.config().to_string();
            let manifest = i.manifest(config.as_bytes())?.to_string();
            store(i, manifest)
        })
        .accepted(Tree::new)
        .skopeo(Peer::Same),
        hostile("layers-as-object", "an object is no list", |i| changed(|m| m["layers"] = json!({}))(i))
            .refused(Kind::Json, "sha256:")
            .skopeo(Peer::Same),
        hostile("config-missing", "nothing says what the layers are", |i| {
            changed(|m| drop(m.as_object_mut().map(|m| m.remove("config"))))(i)
        })
        .refused(Kind::Shape, "config")
        .skopeo(Peer::Differs("it takes it for a descriptor of nothing")),
        hostile("config-null", "null is no descriptor", |i| changed(|m| m["config"] = Value::Null)(i))
            .refused(Kind::Json, "sha256:")
            .skopeo(Peer::Differs("it takes it for a descriptor of nothing")),
        hostile("config-as-list", "a list that some readers take for an object", |i| {
            changed(|m| m["config"] = json!([CONFIG, digest(b"x"), 1]))(i)
        })
        .refused(Kind::Json, "sha256:")
        .skopeo(Peer::Same),
    ]
}

/// Properties that manifests needn't have, and their names.
fn more_properties() -> Vec<Case> {
    vec![
        oddity("unknown-properties", "the specification wants them ignored", |i| {
            changed(|m| {
                m["x-more"] = json!({"deep": [{"layers": []}]});
                m["config"]["x-more"] = json!(null);
                m["layers"][0]["x-more"] = json!(["manifests"]);
            })(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity("artifact-properties", "of OCI 1.1", |i| {
            changed(|m| {
                m["artifactType"] = json!("application/vnd.example+type");
                m["subject"] = json!({"mediaType": MANIFEST, "digest": digest(b"x"), "size": 1});
                m["annotations"] = json!({"a": "b"});
            })(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity(
            "annotations-with-bad-digests",
            "2026-95839: readers that take annotations for digests",
            |i| {
                changed(|m| {
                    for key in ["org.opencontainers.image.base.digest", "vnd.docker.reference.digest"] {
                        m["annotations"][key] = json!("sha256:../../etc/passwd");
                        m["layers"][0]["annotations"][key] = json!("sha256:");
                    }
                    let digest = "containerd.io/uncompressed";
                    m["layers"][0]["annotations"][digest] = json!("x");
                })(i)
            },
        )
        .accepted(tree)
        .skopeo(Peer::Same),
        hostile("annotations-of-numbers", "annotations are texts", |i| {
            changed(|m| m["layers"][0]["annotations"] = json!({"a": 5}))(i)
        })
        .refused(Kind::Json, "sha256:")
        .skopeo(Peer::Same),
        oddity("names-in-capitals", "Go reads names in any case, so whoever wrote them saw no harm", |i| {
            written(|text| {
                text.replace("\"layers\"", "\"Layers\"").replace("\"digest\"", "\"Digest\"").into()
            })(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        hostile("layers-twice", "which one counts depends on the reader", |i| {
            written(with(r#""layers":[]"#))(i)
        })
        .refused(Kind::Json, "twice")
        .umoci(GO)
        .skopeo(GO),
        hostile("layers-twice-in-other-case", "Go takes the last, others the one in the right case", |i| {
            written(with(r#""LAYERS":[]"#))(i)
        })
        .refused(Kind::Json, "twice")
        .umoci(GO)
        .skopeo(GO),
        hostile("layers-twice-with-a-long-s", "Go takes the long s for an s", |i| {
            written(with("\"layer\u{17f}\":[]"))(i)
        })
        .refused(Kind::Json, "twice")
        .umoci(GO)
        .skopeo(GO),
    ]
}

/// Begins a case with a changed descriptor of its layer.
fn layer(name: &'static str, why: &'static str, change: fn(&mut Value)) -> Draft {
    hostile(name, why, changed(move |manifest| change(&mut manifest["layers"][0])))
}

/// Begins a case with an odd descriptor of its layer.
fn odd(name: &'static str, why: &'static str, change: fn(&mut Value)) -> Draft {
    oddity(name, why, changed(move |manifest| change(&mut manifest["layers"][0])))
}

/// Sizes and digests.
fn descriptors() -> Vec<Case> {
    vec![
        layer("size-negative", "sizes count bytes", |l| l["size"] = json!(-1))
            .refused(Kind::Json, "-1")
            .umoci(LENIENT)
            .skopeo(LENIENT),
        layer("size-of-half-a-byte", "sizes are whole", |l| l["size"] = json!(2048.5))
            .refused(Kind::Json, "2048.5")
            .skopeo(Peer::Same),
        layer("size-as-text", "a text is no number", |l| l["size"] = json!("2048"))
            .refused(Kind::Json, "2048")
            .skopeo(Peer::Same),
        layer("size-beyond-numbers", "more than int64 has", |l| l["size"] = json!(u64::MAX))
            .refused(Kind::DescriptorSize, "layer 0")
            .skopeo(Peer::Same),
        layer("size-of-an-exabyte", "nothing is set aside for what a descriptor claims", |l| {
            l["size"] = json!(1_u64 << 60);
        })
        .refused(Kind::BlobSize, "1152921504606846976")
        .skopeo(LENIENT),
        layer("size-one-less", "the blob is a byte longer", |l| l["size"] = json!(2047))
            .refused(Kind::BlobSize, "2047")
            .skopeo(LENIENT),
        layer("size-one-more", "the blob is a byte shorter", |l| l["size"] = json!(2049))
            .refused(Kind::BlobSize, "2049")
            .skopeo(LENIENT),
        layer("size-missing", "sizes are required", |l| drop(l.as_object_mut().map(|l| l.remove("size"))))
            .refused(Kind::Json, "size")
            .skopeo(LENIENT),
        layer("digest-in-capitals", "two names of one blob", |l| upper(&mut l["digest"]))
            .refused(Kind::DigestValue, "layer 0")
            .skopeo(Peer::Same),
        layer("digest-short", "a beginning is no digest", |l| l["digest"] = json!("sha256:abcdef"))
            .refused(Kind::DigestValue, "abcdef")
            .skopeo(Peer::Same),
        layer("digest-of-another-kind", "sha512 is registered, and mvm names content by sha256", |l| {
            l["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
        })
        .refused(Kind::DigestAlgorithm, "sha512")
        .skopeo(Peer::Same),
        layer("digest-of-no-kind", "md5 proves nothing", |l| {
            l["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e")
        })
        .refused(Kind::DigestAlgorithm, "md5")
        .skopeo(Peer::Same),
        layer("digest-as-path", "2024-3727: a digest that is a path", |l| {
            l["digest"] = json!("sha256:../../../../../../../../tmp/mvm-corpus-canary/file");
        })
        .refused(Kind::DigestValue, "../../tmp/mvm-corpus-canary/file")
        .skopeo(Peer::Differs("before its version 1.16 it follows the path")),
        layer("digest-with-a-line-break", "words of an error are one line", |l| {
            l["digest"] = json!("sha256:\n\u{1b}[31mred");
        })
        .refused(Kind::DigestValue, "red")
        .skopeo(Peer::Same),
        layer("digest-missing", "digests are required", |l| {
            drop(l.as_object_mut().map(|l| l.remove("digest")))
        })
        .refused(Kind::Json, "digest")
        .skopeo(Peer::Same),
        layer("digest-of-nothing-there", "a blob that is missing", |l| {
            l["digest"] = json!(digest(b"elsewhere"))
        })
        .refused(Kind::NoBlob, "sha256:")
        .skopeo(Peer::Same),
    ]
}

/// What layers are.
fn layers() -> Vec<Case> {
    vec![
        layer("foreign-layer", "2020-15157: layers from elsewhere take the user's password along", |l| {
            l["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
            l["urls"] = json!(["http://127.0.0.1:9/layer"]);
        })
        .refused(Kind::Foreign, "layer 0")
        .umoci(LENIENT)
        .skopeo(Peer::Same),
        layer("foreign-layer-of-docker", "what Windows images have", |l| {
            l["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        })
        .refused(Kind::Foreign, "layer 0")
        .skopeo(LENIENT),
        odd("addresses-of-an-ordinary-layer", "what the registry has isn't fetched from elsewhere", |l| {
            l["urls"] = json!(["http://127.0.0.1:9/layer", "file:///etc/passwd"]);
        })
        .accepted(tree)
        .skopeo(Peer::Differs("it asks the addresses and not the layout")),
        odd("data-in-a-descriptor", "OCI 1.1 lets content stand in the descriptor; the blob counts", |l| {
            l["data"] = json!("bm90IHRoZSBsYXllcg==");
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        odd("platform-of-a-layer", "of no meaning there", |l| l["platform"] = json!({"os": "plan9"}))
            .accepted(tree)
            .skopeo(Peer::Same),
        odd("type-with-parameters", "media types may have them, in any case", |l| {
            l["mediaType"] = json!("Application/vnd.oci.image.layer.v1.TAR; charset=utf-8");
        })
        .accepted(tree)
        .umoci(Peer::Differs("it compares texts"))
        .skopeo(Peer::Same),
        layer("layer-of-in-toto", "an attestation is no layer", |l| {
            l["mediaType"] = json!("application/vnd.in-toto+json")
        })
        .refused(Kind::NotAnImage, "layer 0")
        .skopeo(LENIENT),
        layer("layer-of-no-type", "types are required", |l| {
            drop(l.as_object_mut().map(|l| l.remove("mediaType")))
        })
        .refused(Kind::NotAnImage, "layer 0")
        .skopeo(LENIENT),
        oddity("one-layer-twice", "the same layer may come twice", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            i.layer(Tar::new().file("a", "y"))?;
            i.layer(Tar::new().file("a", "x"))
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity("layer-of-many-descriptors", "one blob under two types", |i| {
            let archive = Tar::new().file("a", "x").finish();
            i.stored(&archive, TAR, &digest(&archive))?;
            i.stored(&archive, DOCKER_TAR, &digest(&archive))
        })
        .accepted(tree)
        .umoci(Peer::Differs("it knows no types but OCI's")),
    ]
}

fn upper(value: &mut Value) {
    if let Some(text) = value.as_str() {
        *value = json!(text.replace("sha256:", "SHA256:").to_uppercase().replace("SHA256:", "sha256:"));
    }
}

/// What the bytes are.
fn texts() -> Vec<Case> {
    let padded =
        |size: usize| written(move |text| [text.as_bytes(), &vec![b' '; size - text.len()]].concat());
    vec![
        hostile("byte-order-mark", "JSON has none", |i| {
            written(|text| format!("\u{feff}{text}").into_bytes())(i)
        })
        .refused(Kind::Json, "sha256:")
        .skopeo(Peer::Same),
        hostile("sixteen-bit-text", "JSON is UTF-8", |i| {
            written(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect())(i)
        })
        .refused(Kind::Json, "sha256:")
        .skopeo(Peer::Same),
        hostile("text-after-the-document", "a second document", |i| {
            written(|text| format!("{text}{text}").into_bytes())(i)
        })
        .refused(Kind::Json, "trailing")
        .umoci(LENIENT)
        .skopeo(Peer::Same),
        hostile("not-a-number", "JSON has no NaN", |i| written(with(r#""x":NaN"#))(i))
            .refused(Kind::Json, "sha256:")
            .skopeo(Peer::Same),
        oddity("number-without-end", "in a property that nobody reads", |i| {
            written(|text| format!("{{\"x\":1{},{}", "0".repeat(100_000), &text[1..]).into_bytes())(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        hostile("nested-ten-thousand-deep", "readers that call themselves for each level", |i| {
            written(|text| {
                format!("{{\"x\":{}{},{}", "[".repeat(10_000), "]".repeat(10_000), &text[1..]).into_bytes()
            })(i)
        })
        .refused(Kind::Nesting, "100 levels")
        .skopeo(Peer::Same),
        oddity("nested-ninety-deep", "a property that nobody reads", |i| {
            written(|text| {
                format!("{{\"x\":{}{},{}", "[".repeat(90), "]".repeat(90), &text[1..]).into_bytes()
            })(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity("manifest-of-four-mebibytes", "as much as registries take", move |i| padded(4 << 20)(i))
            .accepted(tree)
            .skopeo(Peer::Same),
        hostile("manifest-of-four-mebibytes-and-a-byte", "2020-1702: manifests without limit", move |i| {
            padded((4 << 20) + 1)(i)
        })
        .refused(Kind::DocumentLimit, "4194305")
        .umoci(LENIENT)
        .skopeo(LENIENT),
        hostile("manifest-with-an-escape-in-its-type", "words of an error are one line", |i| {
            changed(|m| m["config"]["mediaType"] = json!("\u{1b}[2J\nx"))(i)
        })
        .refused(Kind::NotAnImage, "image config")
        .skopeo(LENIENT),
    ]
}
