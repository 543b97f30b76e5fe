//! What can go wrong between this machine and a registry.

use super::AuthError;
use super::connect::LookupError;
use super::mirrors::MirrorsError;
use mvm_ref::Digest;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The error below another one, of whatever type the HTTP client gives it.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Says why a registry didn't give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Somebody asked to stop.
    #[error("request was cancelled")]
    Cancelled,
    /// The HTTP client's thread can't be started.
    #[error("cannot start the HTTP client")]
    Runtime(#[source] io::Error),
    /// The HTTP client can't be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The proxy's address is not one.
    #[error("cannot use the proxy")]
    Proxy(#[source] reqwest::Error),
    /// The bytes of an upload can't be read.
    #[error("cannot read what is to be uploaded")]
    Upload(#[source] io::Error),
    /// A file of certificates can't be read.
    #[error("cannot read the certificates in {path:?}")]
    CaFile {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of certificates has none.
    #[error("{path:?} holds no PEM certificates")]
    CaEmpty {
        /// Its path.
        path: PathBuf,
    },
    /// A certificate in a file can't be read.
    #[error("{path:?} holds a bad certificate")]
    CaFormat {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// A registry's name makes no address.
    #[error("registry {host} makes no valid address")]
    Address {
        /// The registry.
        host: String,
    },
    /// There is no connection to the host.
    #[error("cannot reach {host}; check its name and the network")]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        source: Cause,
    },
    /// The host's name leads nowhere.
    #[error("cannot find {host}; check its name and the network")]
    Unresolved {
        /// Host and port.
        host: String,
        /// Why.
        source: Cause,
    },
    /// The host's certificate is not trusted, or isn't one for it.
    #[error("the certificate of {host} is not accepted")]
    Certificate {
        /// Host and port.
        host: String,
        /// Why.
        source: Cause,
    },
    /// The host answers in the clear.
    #[error("{host} does not speak TLS")]
    NotTls {
        /// Host and port.
        host: String,
        /// What came instead.
        source: Cause,
    },
    /// The host answers with something else than HTTP.
    #[error("{host} does not speak HTTP")]
    NotHttp {
        /// Host and port.
        host: String,
        /// What came instead.
        source: Cause,
    },
    /// The network may not be used.
    #[error("asking registry {host} is ruled out by --offline")]
    Offline {
        /// The registry.
        host: String,
    },
    /// Nothing came for a long time.
    #[error("no answer from {host} for {} s", .waited.as_secs())]
    Timeout {
        /// Host and port.
        host: String,
        /// The time waited.
        waited: Duration,
    },
    /// A connection broke.
    #[error("transfer from {host} broke off")]
    Transfer {
        /// Host and port.
        host: String,
        /// Why.
        source: Cause,
    },
    /// A web page came instead of a document.
    #[error(
        "{host} answers with {content_type} and is not a registry; check the name, or log in to the network first"
    )]
    NotARegistry {
        /// Host and port.
        host: String,
        /// What came.
        content_type: String,
    },
    /// The repository or the tag doesn't exist.
    #[error("no image {image} in registry {host}; check name and tag{}", said(.message))]
    NotFound {
        /// The registry.
        host: String,
        /// Repository and tag or digest.
        image: String,
        /// What the registry says.
        message: String,
    },
    /// A blob that the manifest names doesn't exist.
    #[error("registry {host} has lost blob {digest} of {repository}; the image must be pushed again")]
    NoBlob {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The blob's digest.
        digest: Digest,
    },
    /// The registry wants credentials, and there are none.
    #[error(
        "registry {host} gives no anonymous access to {repository}: it doesn't exist or needs `mvmctl login {host}`"
    )]
    LoginNeeded {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
    },
    /// The registry refuses the credentials.
    #[error(
        "registry {host} refuses the stored credentials for {repository}; run `mvmctl login {host}` again{}",
        said(.message)
    )]
    LoginRefused {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What it says.
        message: String,
    },
    /// The registry, or its token server, takes the credentials for wrong.
    #[error("registry {host} does not accept this user name and password{}", said(.message))]
    WrongLogin {
        /// The registry.
        host: String,
        /// What it says.
        message: String,
    },
    /// The registry knows who asks, and says no.
    #[error("registry {host} denies access to {repository}{}", said(.message))]
    Forbidden {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What it says.
        message: String,
    },
    /// The registry has nothing of that name, and makes nothing of it.
    #[error("registry {host} has no place for {repository}; it may have to be made there first{}", said(.message))]
    NoRepository {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What it says.
        message: String,
    },
    /// What is uploaded is longer than the registry, or a proxy before it, takes.
    #[error("registry {host} refuses what is uploaded to {repository} as too large{}", said(.message))]
    UploadTooLarge {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What it says.
        message: String,
    },
    /// The registry doesn't say where an upload goes.
    #[error("registry {host} does not say where an upload goes")]
    NoLocation {
        /// The registry.
        host: String,
    },
    /// Too many requests were made.
    #[error("registry {host} limits the rate of requests; try again {}, or log in", .retry_after.map_or("later".to_owned(), |s| format!("in {s} s")))]
    RateLimited {
        /// The registry.
        host: String,
        /// Seconds to wait.
        retry_after: Option<u64>,
    },
    /// The registry has a problem of its own.
    #[error("registry {host} failed with status {status} for {repository}; try again later{}", said(.message))]
    Server {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The answer is none that a registry gives.
    #[error("{host} answers with unexpected status {status} for {repository}{}", said(.message))]
    Status {
        /// Host and port.
        host: String,
        /// The repository.
        repository: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// A redirection leads where mvm doesn't go.
    #[error("{from} redirects to {to}, which is refused: {reason}")]
    Redirect {
        /// Host and port.
        from: String,
        /// The new address without its query.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// The registry asks for something else than a token or a password.
    #[error("registry {host} asks for authentication in a way that is not known: {challenge:?}")]
    Challenge {
        /// The registry.
        host: String,
        /// What it asks for.
        challenge: String,
    },
    /// The credentials can't be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The rules for registries can't be used, or say no.
    #[error(transparent)]
    Mirrors(#[from] MirrorsError),
    /// A token server's answer makes no sense.
    #[error("token server {host} gives no usable token")]
    Token {
        /// Host and port.
        host: String,
    },
    /// A document is longer than mvm reads.
    #[error("{what} from {host} is longer than {limit} bytes")]
    TooLarge {
        /// The document.
        what: &'static str,
        /// Host and port.
        host: String,
        /// The limit.
        limit: u64,
    },
    /// The length of a blob is announced as another than its descriptor says.
    #[error("{host} announces {got} bytes for blob {digest}, its descriptor says {expected}")]
    Length {
        /// Host and port.
        host: String,
        /// The blob's digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// The header's.
        got: u64,
    },
    /// Another part of a blob came than was asked for.
    #[error("{host} was asked for blob {digest} from byte {offset}, but gave {got:?}")]
    Range {
        /// Host and port.
        host: String,
        /// The blob's digest.
        digest: Digest,
        /// The first byte that was asked for.
        offset: u64,
        /// The header that says what came.
        got: String,
    },
    /// A body is packed in a way that was ruled out.
    #[error("{host} encodes its answer as {encoding:?} though it was asked not to")]
    Encoding {
        /// Host and port.
        host: String,
        /// The header that says how.
        encoding: String,
    },
    /// A document doesn't have the digest that the registry says it has.
    #[error("registry {host} says that the document is {header}, but it is {got}")]
    DigestHeader {
        /// The registry.
        host: String,
        /// The header.
        header: Digest,
        /// The digest of the document.
        got: Digest,
    },
    /// A document is not the one that was asked for.
    #[error("registry {host} was asked for {expected}, but gave {got}")]
    Digest {
        /// The registry.
        host: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of the document.
        got: Digest,
    },
}

impl RegistryError {
    /// Sorts an error of the HTTP client; addresses, which can hold secrets in their query, are left out.
    pub(super) fn from_http(host: &str, error: reqwest::Error) -> Self {
        let host = host.to_owned();
        let is_connect = error.is_connect();
        let error = error.without_url();
        let (kind, source) = lowest(&error);
        match kind {
            Lowest::Lookup => Self::Unresolved { host, source },
            Lowest::Certificate => Self::Certificate { host, source },
            Lowest::NotTls => Self::NotTls { host, source },
            Lowest::NotHttp => Self::NotHttp { host, source },
            Lowest::Other if is_connect => Self::Connect { host, source },
            Lowest::Other => Self::Transfer { host, source },
        }
    }
}

/// What lies at the bottom of an error of the HTTP client; the layers above only say that it was HTTP.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RootCause(String);

enum Lowest {
    Lookup,
    Certificate,
    NotTls,
    NotHttp,
    Other,
}

/// Returns the operating system's error where there is one below, else what the lowest error says.
fn lowest(error: &reqwest::Error) -> (Lowest, Cause) {
    let mut kind = Lowest::Other;
    let mut lowest: &(dyn std::error::Error + 'static) = error;
    loop {
        let mut below = lowest.source();
        if let Some(error) = lowest.downcast_ref::<io::Error>() {
            if let Some(number) = error.raw_os_error() {
                return (kind, Box::new(io::Error::from_raw_os_error(number)));
            }
            // What such an error holds is not its source, but stands in its place.
            below = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)).or(below);
        } else if let Some(error) = lowest.downcast_ref::<rustls::Error>() {
            kind = match error {
                rustls::Error::InvalidMessage(_) => Lowest::NotTls,
                rustls::Error::InvalidCertificate(_) => Lowest::Certificate,
                _ => kind,
            };
        } else if lowest.is::<LookupError>() {
            kind = Lowest::Lookup;
        } else if lowest.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            kind = Lowest::NotHttp;
        }
        match below {
            Some(below) => lowest = below,
            None => return (kind, Box::new(RootCause(lowest.to_string()))),
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (it says: {message})") }
}
