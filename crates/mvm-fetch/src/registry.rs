//! The client of OCI registries.
//!
//! Source: OCI distribution-spec 1.1, sections "Pulling manifests" and "Pulling blobs".

mod auth;
mod blob;
mod call;
mod challenge;
mod client;
mod connect;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod http;
mod image;
mod link;
mod login;
mod mirrors;
mod push;
mod retry;
mod rules;
mod signatures;
mod token;

pub use auth::{
    AuthError, Auths, CredentialHelper, HelperError, HelperName, HelperNameError, KnownUser, Login, Secret,
};
pub(crate) use client::Registry;
pub use error::RegistryError;
pub(crate) use image::RegistryImage;
pub use login::LoginCheck;
pub use mirrors::MirrorsError;
pub use push::{Destination, OpenBlob};
pub(crate) use signatures::find as find_signatures;
pub use signatures::{FoundSignature, FoundSignatures};

#[cfg(test)]
mod tests;
