//! Registry client, OCI layouts and archives: where images come from.
//!
//! [`Fetcher::open`] gives an [`Origin`]; [`Origin::resolve`] gives a [`Resolved`] image, each of whose
//! documents was compared with the digest and size that led to it; [`Origin::read_layer`] streams a layer,
//! uncompressed, and gives a [`mvm_ref::VerifiedLayer`] once the stream has ended and matched.
//!
//! All calls block. The only asynchronous code is the HTTP client, whose sockets are served by one thread of a
//! runtime that lives as long as the [`Fetcher`]; the thread that reads a layer hashes and inflates it.
//!
//! The HTTP client is reqwest with rustls rather than a registry client made of both, because caps on the length
//! of every body, the hosts a redirect may lead to and those that see a token are decided here.
//! Gzip is inflated by zlib-rs: measured on tars of system files it is within 5 to 15 % of ISA-L, which would
//! need an assembler and a C build system, or a shared library at run time.

mod bundle;
mod cancel;
mod config;
mod docker_archive;
mod encode;
mod error;
mod fetcher;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod inflate;
mod layer;
mod layout;
mod notice;
mod proxy;
mod registry;
mod resolve;
mod source;
#[cfg(test)]
mod tool_tests;

pub use bundle::{Bundle, Bundled};
pub use cancel::CancelToken;
pub use config::{FetchConfig, RegistriesConf};
pub use docker_archive::{DockerArchiveError, MemberProblem};
pub use encode::Encoder;
pub use error::FetchError;
pub use fetcher::{Fetcher, Origin};
pub use host::{HostPattern, HostPatternError};
pub use inflate::{ExpansionLimit, InflateError};
pub use layout::{Artifact, BlobBytes, LayoutError, TarError};
pub use notice::Notice;
pub use proxy::{Proxies, ProxyAddress, ProxyError};
pub use registry::{
    AuthError, Auths, CredentialHelper, Destination, FoundSignature, FoundSignatures, HelperError,
    HelperName, HelperNameError, KnownUser, Login, LoginCheck, MirrorsError, OpenBlob, RegistryError, Secret,
};
pub use resolve::Resolved;
