use super::*;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn config() -> String {
    let digest = Digest::of(b"config");
    format!(
        r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":6}}"#
    )
}

fn parse(text: &str, delivered_as: Option<&str>) -> Result<MediaType, DocumentError> {
    Document::parse(text.as_bytes(), delivered_as).map(|document| match document {
        Document::Manifest(manifest) => manifest.media_type().clone(),
        Document::Index(index) => index.media_type().clone(),
    })
}

#[test]
fn the_kind_comes_from_the_type_or_else_the_shape() {
    let config = config();
    let manifest = format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#);
    let typed = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}",{config},"layers":null}}"#);
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    let cases = [
        (manifest.as_str(), None, MediaType::OciManifest),
        (&manifest, Some(OCI_MANIFEST), MediaType::OciManifest),
        (&manifest, Some(DOCKER_MANIFEST), MediaType::DockerManifest),
        (&manifest, Some("application/json; charset=utf-8"), MediaType::OciManifest),
        (&manifest, Some("text/plain"), MediaType::OciManifest),
        (&typed, None, MediaType::DockerManifest),
        (&typed, Some(DOCKER_MANIFEST), MediaType::DockerManifest),
        (index, None, MediaType::OciIndex),
        (index, Some(DOCKER_LIST), MediaType::DockerIndex),
    ];
    for (text, delivered_as, kind) in cases {
        assert_eq!(parse(text, delivered_as).unwrap(), kind, "{text} {delivered_as:?}");
    }
}

#[test]
fn documents_that_readers_could_take_for_each_other_are_refused() {
    let config = config();
    type Fits = fn(&DocumentError) -> bool;
    let cases: &[(String, Option<&str>, Fits)] = &[
        (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.into(), None, |e| {
            matches!(e, DocumentError::Ambiguous("manifests", "layers"))
        }),
        (format!(r#"{{"mediaType":"{OCI_MANIFEST}",{config},"manifests":[],"layers":[]}}"#), None, |e| {
            matches!(e, DocumentError::Ambiguous("manifests", "layers"))
        }),
        (format!(r#"{{{config},"manifests":[]}}"#), None, |e| {
            matches!(e, DocumentError::Ambiguous("manifests", "config"))
        }),
        (format!(r#"{{"mediaType":"{OCI_MANIFEST}",{config},"layers":[]}}"#), Some(DOCKER_MANIFEST), |e| {
            matches!(e, DocumentError::MediaTypeMismatch { .. })
        }),
        (r#"{"manifests":[]}"#.into(), Some(OCI_MANIFEST), |e| {
            matches!(e, DocumentError::Shape { property: "layers", .. })
        }),
        (format!(r#"{{{config},"layers":[]}}"#), Some(OCI_INDEX), |e| {
            matches!(e, DocumentError::Shape { property: "manifests", .. })
        }),
        ("{}".into(), None, |e| matches!(e, DocumentError::Shape { property: "config", .. })),
        (r#"{"manifests":[],"manifests":[]}"#.into(), None, |e| matches!(e, DocumentError::Json(_))),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), None, |e| matches!(e, DocumentError::Schema1)),
        (
            r#"{"fsLayers":[]}"#.into(),
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            |e| matches!(e, DocumentError::Schema1),
        ),
        (r#"{"schemaVersion":3,"manifests":[]}"#.into(), None, |e| {
            matches!(e, DocumentError::SchemaVersion(3))
        }),
        (r#"{"schemaVersion":-2}"#.into(), None, |e| matches!(e, DocumentError::Json(_))),
        (format!(r#"{{"mediaType":"application/vnd.x+json",{config}}}"#), None, |e| {
            matches!(e, DocumentError::NotAnImage { .. })
        }),
        ("<html>".into(), None, |e| matches!(e, DocumentError::Json(_))),
        (String::new(), None, |e| matches!(e, DocumentError::Json(_))),
        (r#"{"manifests":[]} x"#.into(), None, |e| matches!(e, DocumentError::Json(_))),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), None, |e| {
            matches!(e, DocumentError::Nesting)
        }),
        (format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), None, |e| {
            matches!(e, DocumentError::Nesting)
        }),
        (format!(r#"{{"x":{}{}}}"#, "[".repeat(90), "]".repeat(90)), None, |e| {
            matches!(e, DocumentError::Shape { property: "config", .. })
        }),
        (format!(r#"{{{config}}}"#), None, |e| matches!(e, DocumentError::Shape { property: "layers", .. })),
        (r#"{"manifests":[],"layers":null}"#.into(), None, |e| {
            matches!(e, DocumentError::Ambiguous("manifests", "layers"))
        }),
        (r#"{"Manifests":[],"layers":[]}"#.into(), None, |e| {
            matches!(e, DocumentError::Ambiguous("manifests", "layers"))
        }),
        (format!(r#"{{{config},"layers":[],"LAYERS":[]}}"#), None, |e| matches!(e, DocumentError::Json(_))),
        (" ".repeat(4 << 20 | 1), None, |e| matches!(e, DocumentError::TooLarge { size: 4_194_305 })),
    ];
    for (text, delivered_as, fits) in cases {
        let error = parse(text, *delivered_as).expect_err(text);
        assert!(fits(&error), "{} {error:?}", &text[..text.len().min(80)]);
    }
}

#[test]
fn media_types_parse_and_print() {
    let cases = [
        (OCI_MANIFEST, MediaType::OciManifest),
        (DOCKER_LIST, MediaType::DockerIndex),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            MediaType::DockerLayer(crate::LayerCompression::Gzip),
        ),
        ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::OciLayer(crate::LayerCompression::Zstd)),
        ("text/html", MediaType::Other("text/html".to_owned())),
    ];
    for (text, media_type) in cases {
        assert_eq!(MediaType::parse(text), media_type);
        assert_eq!(media_type.to_string(), text);
    }
    assert_eq!(MediaType::parse("Application/Vnd.OCI.image.index.v1+JSON; x=y"), MediaType::OciIndex);
}
