//! A registry that misbehaves on order.
//!
//! [`Server`] speaks HTTP (plain or with TLS) on loopback and writes down every request. [`Registry`] gives it the
//! answers of a registry that holds one [`Image`]; each [`Rule`] spoils the answers to some requests.
//! Everything ends with its owner.
//!
//! Source of the protocol: OCI distribution-spec, "Endpoints"; RFC 9110 and RFC 9112; distribution, "Token
//! Authentication Specification".

pub mod fault;
mod http;
mod image;
pub mod login;
mod registry;
mod server;
mod tls;

pub use fault::{Fault, Rule, Target};
pub use http::{End, Length, Reply, Request};
pub use image::Image;

pub use crate::corpus::gzip;
pub use crate::corpus::image::{INDEX, MANIFEST, digest};
pub use login::Login;
pub use registry::{REPOSITORY, Registry};
pub use server::{Log, Server, Transport};
pub use tls::{Authority, Certificate};
