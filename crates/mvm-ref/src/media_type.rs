//! The media types of image documents and layers, of OCI and of Docker.
//!
//! Source: OCI image-spec, `media-types.md`; distribution, "Image Manifest V 2, Schema 2".

use std::fmt;

/// What a descriptor or a document says that it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// An OCI image index.
    OciIndex,
    /// A Docker manifest list.
    DockerIndex,
    /// An OCI image manifest.
    OciManifest,
    /// A Docker image manifest of schema 2.
    DockerManifest,
    /// An OCI image config.
    OciConfig,
    /// A Docker image config.
    DockerConfig,
    /// An OCI layer.
    OciLayer(LayerCompression),
    /// A Docker layer.
    DockerLayer(LayerCompression),
    /// A layer that registries don't hold.
    ForeignLayer(String),
    /// A Docker image manifest of schema 1, which names no digest of its content.
    Schema1(String),
    /// Anything else.
    Other(String),
}

/// How a layer's tar stream is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerCompression {
    /// As it is.
    None,
    /// As one or more gzip members (RFC 1952).
    Gzip,
    /// As one or more Zstandard frames (RFC 8878).
    Zstd,
}

const NAMED: [(&str, MediaType); 12] = [
    ("application/vnd.oci.image.index.v1+json", MediaType::OciIndex),
    ("application/vnd.docker.distribution.manifest.list.v2+json", MediaType::DockerIndex),
    ("application/vnd.oci.image.manifest.v1+json", MediaType::OciManifest),
    ("application/vnd.docker.distribution.manifest.v2+json", MediaType::DockerManifest),
    ("application/vnd.oci.image.config.v1+json", MediaType::OciConfig),
    ("application/vnd.docker.container.image.v1+json", MediaType::DockerConfig),
    ("application/vnd.oci.image.layer.v1.tar", MediaType::OciLayer(LayerCompression::None)),
    ("application/vnd.oci.image.layer.v1.tar+gzip", MediaType::OciLayer(LayerCompression::Gzip)),
    ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::OciLayer(LayerCompression::Zstd)),
    ("application/vnd.docker.image.rootfs.diff.tar", MediaType::DockerLayer(LayerCompression::None)),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", MediaType::DockerLayer(LayerCompression::Gzip)),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", MediaType::DockerLayer(LayerCompression::Zstd)),
];
const SCHEMA1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1+";
const FOREIGN_PREFIXES: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

impl MediaType {
    /// Reads a media type; parameters after `;` are left out, and case doesn't matter (RFC 2045).
    pub fn parse(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if let Some((_, known)) = NAMED.iter().find(|(name, _)| *name == essence) {
            return known.clone();
        }
        if essence.starts_with(SCHEMA1_PREFIX) {
            return Self::Schema1(essence);
        }
        if FOREIGN_PREFIXES.iter().any(|prefix| essence.starts_with(prefix)) {
            return Self::ForeignLayer(essence);
        }
        Self::Other(essence)
    }

    /// Returns the text of the media type.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ForeignLayer(text) | Self::Schema1(text) | Self::Other(text) => text,
            known => NAMED.iter().find(|(_, named)| named == known).map_or("", |(name, _)| name),
        }
    }

    /// Says whether this is an image index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerIndex)
    }

    /// Says whether this is the manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }

    /// Says whether this is an image config.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::OciConfig | Self::DockerConfig)
    }

    /// Returns how a layer is stored; nothing for what is not a layer.
    pub fn layer_compression(&self) -> Option<LayerCompression> {
        match self {
            Self::OciLayer(compression) | Self::DockerLayer(compression) => Some(*compression),
            _ => None,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for LayerCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}
