//! Manifests, indexes and configs: what is accepted keeps to the limits and means one thing.

use mvm_ref::{
    Descriptor, Digest, Document, ImageConfig, MAX_LAYERS, Manifest, MediaType, Platform, pair_layers,
};

/// What a document may be delivered as.
const DELIVERED: [Option<&str>; 4] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json"),
    Some("application/octet-stream"),
];

/// Reads the input as each kind of document.
pub fn body(data: &[u8]) {
    let config = ImageConfig::parse(data).ok();
    if let Some(config) = &config {
        assert_eq!(config.platform().os(), "linux");
        assert!(!config.platform().architecture().is_empty());
        config.diff_ids().iter().for_each(check_digest);
        let process = config.process();
        let mut texts = process.entrypoint.iter().chain(&process.cmd).chain(&process.env);
        assert!(!texts.any(|text| text.contains('\0')));
        check_platform(config.platform());
        // It goes on into plans, as text.
        assert_eq!(config.platform().to_string().parse().as_ref(), Ok(config.platform()));
    }
    let documents: Vec<Option<Document>> =
        DELIVERED.iter().map(|delivered| Document::parse(data, *delivered).ok()).collect();
    let kinds = documents.iter().flatten().map(|document| matches!(document, Document::Index(_)));
    let kinds: Vec<bool> = kinds.collect();
    let names_itself = serde_json::from_slice::<serde_json::Value>(data)
        .is_ok_and(|value| value["mediaType"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(!names_itself || kinds.windows(2).all(|pair| pair[0] == pair[1]), "an index and a manifest");
    for document in documents.into_iter().flatten() {
        match document {
            Document::Manifest(manifest) => check_manifest(&manifest, config.as_ref()),
            Document::Index(index) => {
                assert!(index.media_type().is_index());
                index.manifests().iter().for_each(check_descriptor);
                for platform in ["linux/amd64", "linux/arm/v7"] {
                    let Ok(platform) = platform.parse() else { continue };
                    let Ok(chosen) = index.select(&platform) else { continue };
                    assert!(chosen.media_type.is_manifest());
                    let fits =
                        chosen.platform.as_ref().is_none_or(|offered| platform.distance(offered).is_some());
                    assert!(fits, "{:?} for {platform}", chosen.platform);
                }
            }
        }
    }
}

fn check_manifest(manifest: &Manifest, config: Option<&ImageConfig>) {
    assert!(manifest.media_type().is_manifest());
    assert!(manifest.layers().len() <= MAX_LAYERS);
    check_descriptor(manifest.config());
    for layer in manifest.layers() {
        check_descriptor(layer);
        assert_eq!(layer.media_type.layer_compression(), Some(layer.compression()));
    }
    if let Some(pairs) = config.and_then(|config| pair_layers(manifest, config).ok()) {
        assert_eq!(pairs.len(), manifest.layers().len());
    }
}

fn check_descriptor(descriptor: &Descriptor) {
    check_digest(&descriptor.digest);
    assert_eq!(MediaType::parse(descriptor.media_type.as_str()), descriptor.media_type);
    descriptor.platform.iter().for_each(check_platform);
}

fn check_digest(digest: &Digest) {
    assert_eq!(digest.to_string().parse().as_ref(), Ok(digest));
}

fn check_platform(platform: &Platform) {
    assert_eq!(platform.normalized().normalized(), platform.normalized());
    assert_eq!(platform.distance(platform), Some(0));
}
