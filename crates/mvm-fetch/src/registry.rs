//! The client of OCI registries.
//!
//! Source: OCI distribution-spec 1.1, sections "Pulling manifests" and "Pulling blobs".

mod auth;
mod call;
mod challenge;
mod client;
mod error;
mod http;
mod image;
mod token;

pub use auth::AuthError;
pub(crate) use client::Registry;
pub use error::RegistryError;
pub(crate) use image::RegistryImage;

#[cfg(test)]
mod tests;
