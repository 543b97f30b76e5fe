//! A writer of OCI layouts that stores what it is told, right or wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::compress;
use super::tar::Tar;

/// Media type of a layer that is not compressed.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of a gzip layer.
pub const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Media type of a Zstandard layer.
pub const TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI layout in the making, with one image tagged `latest`.
///
/// A case adds layers; documents are written by [`Image::finish`] from them, unless the case has written its own.
#[derive(Debug)]
pub struct Image {
    directory: PathBuf,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
    /// Archives as they are in the image, for tools that read one archive.
    archives: Vec<Vec<u8>>,
}

impl Image {
    /// Makes the directories of a layout.
    pub fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        Ok(Self {
            directory: directory.to_owned(),
            layers: Vec::new(),
            diff_ids: Vec::new(),
            archives: Vec::new(),
        })
    }

    /// Returns the directory of the layout.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Adds a layer that is not compressed.
    pub fn layer(&mut self, tar: Tar) -> io::Result<()> {
        self.bytes(tar.finish())
    }

    /// Adds a layer of these bytes, not compressed.
    pub fn bytes(&mut self, archive: Vec<u8>) -> io::Result<()> {
        self.stored(&archive, TAR, &digest(&archive))?;
        self.archives.push(archive);
        Ok(())
    }

    /// Adds a layer compressed as one gzip member.
    pub fn gzip(&mut self, tar: Tar) -> io::Result<()> {
        let archive = tar.finish();
        self.stored(&compress::gzip(&archive), TAR_GZIP, &digest(&archive))
    }

    /// Adds a layer with these stored bytes, media type and diff ID.
    pub fn stored(&mut self, stored: &[u8], media_type: &str, diff_id: &str) -> io::Result<()> {
        let digest = self.blob(stored)?;
        self.layers.push(json!({"mediaType": media_type, "digest": digest, "size": stored.len()}));
        self.diff_ids.push(diff_id.to_owned());
        Ok(())
    }

    /// Stores a blob and returns its digest.
    pub fn blob(&mut self, bytes: &[u8]) -> io::Result<String> {
        let digest = digest(bytes);
        fs::write(self.blob_path(&digest), bytes)?;
        Ok(digest)
    }

    /// Returns where a blob lies.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replace(':', "/"))
    }

    /// Returns the descriptors of the layers, as the manifest has them.
    pub fn layers(&self) -> &[Value] {
        &self.layers
    }

    /// Returns the configuration that belongs to the layers.
    pub fn config(&self) -> Value {
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        })
    }

    /// Returns the manifest of the layers with this configuration, which is stored.
    pub fn manifest(&mut self, config: &[u8]) -> io::Result<Value> {
        let digest = self.blob(config)?;
        Ok(json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest, "size": config.len()},
            "layers": self.layers,
        }))
    }

    /// Returns an index whose only entry is this manifest, which is stored.
    pub fn index(&mut self, manifest: &[u8]) -> io::Result<Value> {
        let digest = self.blob(manifest)?;
        Ok(json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST,
                "digest": digest,
                "size": manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": "latest"},
            }],
        }))
    }

    /// Writes a file of the layout.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        fs::write(self.directory.join(name), bytes)
    }

    /// Writes the documents that the case has not written, and returns the archives of layers that aren't compressed.
    pub fn finish(mut self) -> io::Result<Vec<Vec<u8>>> {
        if !self.directory.join("oci-layout").exists() {
            self.write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        if fs::symlink_metadata(self.directory.join("index.json")).is_err() {
            let config = self.config().to_string();
            let manifest = self.manifest(config.as_bytes())?.to_string();
            let index = self.index(manifest.as_bytes())?.to_string();
            self.write("index.json", index)?;
        }
        Ok(self.archives)
    }
}

/// Returns the digest of bytes, as documents name it.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
