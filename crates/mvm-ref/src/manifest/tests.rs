use super::*;
use crate::Digest;
use std::collections::BTreeMap;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn descriptor(media_type: &str, content: &str) -> String {
    let (digest, size) = (Digest::of(content.as_bytes()), content.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"urls":["http://x/"]}}"#)
}

fn manifest(config_type: &str, layers: &[&str]) -> String {
    let config = descriptor(config_type, "config");
    let layers: Vec<_> = layers.iter().map(|t| descriptor(t, "layer")).collect();
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","))
}

fn expected(media_type: MediaType, content: &[u8]) -> Descriptor {
    Descriptor {
        media_type,
        digest: Digest::of(content),
        size: content.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

#[test]
fn oci_and_docker_manifests_are_read() {
    let oci = "application/vnd.oci.image.config.v1+json";
    let layers =
        ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd", GZIP];
    let read = Manifest::parse(manifest(oci, &layers).as_bytes(), None).unwrap();
    let kinds = [LayerCompression::None, LayerCompression::Zstd, LayerCompression::Gzip];
    let layers: Vec<_> = kinds.iter().map(|&kind| expected(MediaType::OciLayer(kind), b"layer")).collect();
    let wanted = Manifest {
        media_type: MediaType::OciManifest,
        config: expected(MediaType::OciConfig, b"config"),
        layers,
    };
    assert_eq!(read, wanted);
    assert_eq!(read.layers().iter().map(Descriptor::compression).collect::<Vec<_>>(), kinds);

    let docker = manifest(
        "application/vnd.docker.container.image.v1+json",
        &["application/vnd.docker.image.rootfs.diff.tar.gzip"],
    );
    let read =
        Manifest::parse(docker.as_bytes(), Some("application/vnd.docker.distribution.manifest.v2+json"))
            .unwrap();
    assert_eq!(read.media_type(), &MediaType::DockerManifest);
    assert_eq!(read.config(), &expected(MediaType::DockerConfig, b"config"));
    assert_eq!(read.layers(), [expected(MediaType::DockerLayer(LayerCompression::Gzip), b"layer")]);
}

#[test]
fn what_is_not_an_image_is_refused_by_name() {
    let image = "application/vnd.oci.image.config.v1+json";
    let cases = [
        (
            manifest("application/vnd.cncf.helm.config.v1+json", &[]),
            "image config has media type \"application/vnd.cncf.helm.config.v1+json\", which is not an image",
        ),
        (
            manifest(image, &["application/vnd.in-toto+json"]),
            "layer 0 has media type \"application/vnd.in-toto+json\", which is not an image",
        ),
        (
            manifest(image, &[GZIP, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"]),
            "layer 1 has media type application/vnd.docker.image.rootfs.foreign.diff.tar.gzip: layers from outside the registry are not fetched",
        ),
        (
            manifest(image, &["application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"]),
            "layer 0 has media type application/vnd.oci.image.layer.nondistributable.v1.tar+zstd: layers from outside the registry are not fetched",
        ),
        (
            manifest(image, &["application/vnd.oci.image.layer.v1.tar+gzip+encrypted"]),
            "layer 0 has media type \"application/vnd.oci.image.layer.v1.tar+gzip+encrypted\", which is not an image",
        ),
        (manifest(image, &[GZIP; 4097]), "image has 4097 layers, more than 4096"),
        (manifest(image, &[GZIP]).replace("sha256:", "sha512:"), "image config has a bad digest"),
        (
            manifest(image, &[GZIP]).replace("\"size\":5", "\"size\":-5"),
            "document is not a valid image manifest or index",
        ),
        (
            manifest(image, &[GZIP]).replace("\"size\":5", "\"size\":5.5"),
            "document is not a valid image manifest or index",
        ),
        (
            manifest(image, &[GZIP]).replace("\"size\":5,", ""),
            "document is not a valid image manifest or index",
        ),
        (
            r#"{"manifests":[]}"#.to_owned(),
            "document has media type \"application/vnd.oci.image.index.v1+json\", which is not an image",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(Manifest::parse(text.as_bytes(), None).unwrap_err().to_string(), message);
    }
    assert_eq!(Manifest::parse(manifest(image, &[GZIP; 512]).as_bytes(), None).unwrap().layers().len(), 512);
}

#[test]
fn layers_and_diff_ids_are_paired() {
    let read = |layers: usize, diff_ids: &[Digest]| {
        let text = manifest("application/vnd.oci.image.config.v1+json", &vec![GZIP; layers]);
        let ids: Vec<_> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            ids.join(",")
        );
        let manifest = Manifest::parse(text.as_bytes(), None).unwrap();
        pair_layers(&manifest, &ImageConfig::parse(config.as_bytes()).unwrap())
    };
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    let layer = expected(MediaType::OciLayer(LayerCompression::Gzip), b"layer");
    let pair = |diff_id| (layer.clone(), Expected { digest: layer.digest, size: 5, diff_id });
    assert_eq!(read(2, &[one, two]), Ok(vec![pair(one), pair(two)]));
    assert_eq!(read(0, &[]), Ok(vec![]));
    assert_eq!(read(1, &[one, two]), Err(PairError { layers: 1, diff_ids: 2 }));
    assert_eq!(read(2, &[one]), Err(PairError { layers: 2, diff_ids: 1 }));
}
