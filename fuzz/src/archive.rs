//! Archives of images, Docker's and OCI's: what is taken from one is what its documents say.

use std::io::Cursor;
use std::sync::LazyLock;

use mvm_fetch::{Bundle, FetchConfig, FetchError, Fetcher};
use mvm_ref::{Digest, MAX_LAYERS, Platform};

use crate::seeds::archive::{Archive, Header};
use crate::tar;

/// Most images and layers that are looked at.
const IMAGES: usize = 4;
const LAYERS: usize = 4;

static FETCHER: LazyLock<Fetcher> = LazyLock::new(|| {
    Fetcher::new(FetchConfig { offline: true, spool: std::env::temp_dir(), ..FetchConfig::default() })
});

/// Opens the input as an archive, as it is and with the right checksums, and reads the images in it.
pub fn body(data: &[u8]) {
    look(data);
    look(&tar::sealed(data));
}

/// Returns how many layers were read to their end.
fn look(data: &[u8]) -> usize {
    let mut layers = 0;
    let Ok(images) = FETCHER.open_bundle(Bundle::Stream(Box::new(Cursor::new(data.to_vec())))) else {
        return 0;
    };
    let platform = Platform::new("linux", "amd64", None);
    for image in images.iter().take(IMAGES) {
        let Ok(resolved) = image.origin.resolve(&platform) else { continue };
        assert_eq!(Digest::of(resolved.manifest_bytes()), resolved.manifest_digest());
        assert_eq!(Digest::of(resolved.config_bytes()), resolved.config_digest());
        assert_eq!(resolved.layers().len(), resolved.config().diff_ids().len());
        assert!(resolved.layers().len() <= MAX_LAYERS);
        for index in 0..resolved.layers().len().min(LAYERS) {
            let read = image.origin.read_layer::<_, FetchError>(&resolved, index, &|_| {}, |stream| {
                let mut bytes = Vec::new();
                // An error of the stream comes back from the call itself.
                stream.read_to_end(&mut bytes).map_or(Ok(None), |_| Ok(Some(bytes)))
            });
            if let Ok((Some(bytes), _)) = read {
                assert_eq!(Digest::of(&bytes), resolved.config().diff_ids()[index]);
                layers += 1;
            }
        }
    }
    layers
}

/// One image in each form.
pub fn seeds() -> Vec<Vec<u8>> {
    let layer = Archive::default().entry(b'0', "a", "data").end();
    let diff_id = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let (config_digest, layer_digest) = (Digest::of(config.as_bytes()), Digest::of(&layer));
    let file = |archive: &mut Archive, name: &str, data: &[u8]| {
        archive.add(&Header::new(b'0', name.as_bytes()), data);
    };
    let mut docker = Archive::default();
    let list = format!(
        r#"[{{"Config":"{0}.json","RepoTags":["a/b:c"],"Layers":["{1}/layer.tar","l"]}}]"#,
        config_digest.hex(),
        layer_digest.short()
    );
    let two = config.replace(r#"["sha"#, &format!(r#"["{diff_id}","sha"#));
    file(&mut docker, &format!("{}.json", Digest::of(two.as_bytes()).hex()), two.as_bytes());
    file(&mut docker, &format!("{}/layer.tar", layer_digest.short()), &layer);
    docker.link(b'2', "l", &format!("{}/layer.tar", layer_digest.short()));
    let list = list.replace(&config_digest.hex(), &Digest::of(two.as_bytes()).hex());
    file(&mut docker, "manifest.json", list.as_bytes());

    let descriptor = |kind: &str, bytes: &[u8], more: &str| {
        let (digest, size) = (Digest::of(bytes), bytes.len());
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}{more}}}"#
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", config.as_bytes(), ""),
        descriptor("layer.v1.tar", &layer, "")
    );
    let name = r#","annotations":{"org.opencontainers.image.ref.name":"latest"}"#;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        descriptor("manifest.v1+json", manifest.as_bytes(), name)
    );
    let mut oci = Archive::default();
    file(&mut oci, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    file(&mut oci, "index.json", index.as_bytes());
    for blob in [manifest.as_bytes(), config.as_bytes(), &layer] {
        file(&mut oci, &format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    vec![docker.end(), oci.end()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_to_their_end() {
        let layers: Vec<usize> = seeds().iter().map(|seed| look(seed)).collect();
        assert_eq!(layers, [2, 1]);
    }
}
