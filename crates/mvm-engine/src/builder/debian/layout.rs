//! An OCI layout (image-spec, `image-layout.md`) with one image, written layer by layer.

use crate::builder::error::BuilderError;
use mvm_ref::{Digest, Hasher};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const AUTHORITIES: &str = "NIX_SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt";

/// A layout that is being written.
pub(super) struct Layout {
    directory: PathBuf,
    layers: Vec<(Digest, u64)>,
    history: Vec<Value>,
}

impl Layout {
    /// Begins a layout.
    pub fn create(directory: &Path) -> Result<Self, BuilderError> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
        Ok(Self { directory: directory.to_owned(), layers: Vec::new(), history: Vec::new() })
    }

    /// Adds a layer, which `write` writes as a tar archive; `words` say where it is from.
    pub fn layer(
        &mut self,
        words: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), BuilderError>,
    ) -> Result<(), BuilderError> {
        let path = self.directory.join("layer");
        let file = File::create(&path).map_err(failed("create", &path))?;
        let mut hashing =
            Hashing { to: BufWriter::with_capacity(1 << 20, file), hasher: Hasher::default(), size: 0 };
        write(&mut hashing)?;
        hashing.flush().map_err(failed("write", &path))?;
        let digest = hashing.hasher.finish();
        let blob = self.blob(&digest);
        fs::rename(&path, &blob).map_err(failed("rename", &path))?;
        self.layers.push((digest, hashing.size));
        self.history.push(json!({ "created_by": words }));
        Ok(())
    }

    /// Writes the documents, and returns the layout's directory.
    pub fn finish(self) -> Result<PathBuf, BuilderError> {
        let diff_ids: Vec<_> = self.layers.iter().map(|(digest, _)| digest.to_string()).collect();
        let architecture = mvm_ref::Platform::host().architecture().to_owned();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Env": [PATH, AUTHORITIES], "Cmd": ["/bin/sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": self.history,
        });
        let config = self.document(&config)?;
        let layer = |(digest, size): &(Digest, u64)| descriptor(LAYER, digest, *size);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config.0, config.1),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        });
        let manifest = self.document(&manifest)?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [descriptor(MANIFEST, &manifest.0, manifest.1)],
        });
        for (name, document) in
            [("index.json", index), ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))]
        {
            let path = self.directory.join(name);
            fs::write(&path, document.to_string()).map_err(failed("write", &path))?;
        }
        Ok(self.directory)
    }

    fn document(&self, document: &Value) -> Result<(Digest, u64), BuilderError> {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let path = self.blob(&digest);
        fs::write(&path, &bytes).map_err(failed("write", &path))?;
        Ok((digest, bytes.len() as u64))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuilderError {
    let path = path.to_owned();
    move |source| BuilderError::Io { act, path, source }
}

/// Hashes what it passes on.
struct Hashing<W> {
    to: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hasher.write_all(&bytes[..count])?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
