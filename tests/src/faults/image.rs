//! A small image, and the bytes that a registry holds of it.

use serde_json::{Value, json};

use crate::corpus::image::{CONFIG, INDEX, MANIFEST, TAR, digest};
use crate::fixtures::rng::Rng;

/// An image of one platform with an index that lists it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The index.
    pub index: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config.
    pub config: Vec<u8>,
    /// The layers, lowest first, not compressed.
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// Makes the image that faults are tried on: two layers, of some 200 KiB and of 3 KiB.
    pub fn standard() -> Self {
        let mut rng = Rng::new(3);
        let lower = tar(&[("etc/name", b"standard\n"), ("usr/lib/data", &rng.bytes(200_000))]);
        Self::of(vec![lower, tar(&[("etc/.wh.name", b""), ("etc/other", b"upper\n")])])
    }

    /// Makes an image of layers.
    pub fn of(layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let listed: Vec<Value> = layers.iter().map(|layer| descriptor(TAR, layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config), "layers": listed,
        });
        Self { index: Vec::new(), manifest: manifest.to_string().into_bytes(), config, layers }.indexed()
    }

    /// Makes the index anew for the manifest that there is.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        let mut entry = descriptor(MANIFEST, &self.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        self.index = index.to_string().into_bytes();
        self
    }

    /// Returns the blob with a digest: the config or a layer.
    pub fn blob(&self, wanted: &str) -> Option<&[u8]> {
        let all = std::iter::once(&self.config).chain(&self.layers);
        all.map(Vec::as_slice).find(|bytes| digest(bytes) == wanted)
    }
}

/// Returns the descriptor of some bytes.
fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        // Memory doesn't fail, and the paths are short.
        archive.append_data(&mut header, path, *bytes).unwrap_or_default();
    }
    archive.into_inner().unwrap_or_default()
}
