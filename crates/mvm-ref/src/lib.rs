//! Names (digest, reference, platform, scope, VM name) and the documents that carry them, parsed.
//! Pure: nothing here opens a file or a socket.

mod config;
mod digest;
mod document;
mod flake;
mod guest;
mod index;
mod json;
mod manifest;
mod media_type;
mod name;
pub mod nix;
mod platform;
mod reference;
mod registry;
mod source;
pub mod verify;

pub use config::{ConfigError, Healthcheck, ImageConfig, MAX_CONFIG_SIZE, ProcessConfig};
pub use digest::{Digest, DigestError, Hasher};
pub use document::{Descriptor, Document, DocumentError, MAX_DOCUMENT_SIZE, MAX_LAYERS};
pub use flake::{FlakeAttribute, FlakeAttributeError, FlakeError, FlakeKind, FlakeReference};
pub use guest::{
    GuestCheck, GuestCommand, GuestDefinition, GuestDefinitionError, GuestLimits, GuestRestart, GuestService,
    GuestUser, MAX_GUEST_DEFINITION, NixSystem, RootFsType,
};
pub use index::{Index, SelectError, Unusable};
pub use json::MAX_NESTING;
pub use manifest::{Manifest, PairError, pair_layers};
pub use media_type::{LayerCompression, MediaType};
pub use name::{CheckName, KeyName, NameError, ScopeName, SecretName, ServiceName, VmName, VolumeName};
pub use platform::{Platform, PlatformError};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError};
pub use registry::{RegistryName, RegistryNameError};
pub use source::{ArchiveSelector, ImageSource, Selector, SourceError};
pub use verify::{VerifiedLayer, VerifiedPath, VerifiedSegment};
