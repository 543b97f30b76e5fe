//! How connections are made: certificates, name look-ups, proxies.
//!
//! Source of the directories of certificates: containers-certs.d(5), "Docker certificates".

use super::RegistryError;
use crate::FetchConfig;
use crate::host::{host_of, is_link_local};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Url, redirect, tls};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// HTTP clients: one for most hosts, and one for each that has certificates of its own.
pub(super) struct Clients {
    config: FetchConfig,
    /// For addresses without TLS: to read a system's certificates takes longer than a small image.
    plain: Client,
    common: Mutex<Option<Client>>,
    by_host: Mutex<HashMap<String, Option<Client>>>,
}

impl Clients {
    pub(super) fn new(config: &FetchConfig) -> Result<Self, RegistryError> {
        let plain = builder(config)?.tls_built_in_root_certs(false).build().map_err(RegistryError::Client)?;
        Ok(Self { config: config.clone(), plain, common: Mutex::default(), by_host: Mutex::default() })
    }

    fn common(&self) -> Result<Client, RegistryError> {
        let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*common {
            return Ok(client.clone());
        }
        let client = builder(&self.config)?.build().map_err(RegistryError::Client)?;
        Ok(common.insert(client).clone())
    }

    /// Says whether the host of an address has certificates of its own.
    pub(super) fn has_certificates(&self, url: &Url) -> Result<bool, RegistryError> {
        Ok(self.own(url)?.is_some())
    }

    /// Returns the client for an address.
    pub(super) fn for_url(&self, url: &Url) -> Result<Client, RegistryError> {
        // A proxy for such addresses may itself speak TLS.
        if url.scheme() == "http" && self.config.proxies.http.is_none() {
            return Ok(self.plain.clone());
        }
        match self.own(url)? {
            Some(client) => Ok(client),
            None => self.common(),
        }
    }

    fn own(&self, url: &Url) -> Result<Option<Client>, RegistryError> {
        let host = host_of(url);
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = by_host.get(&host) {
            return Ok(own.clone());
        }
        let own = self.own_client(&host)?;
        by_host.insert(host, own.clone());
        Ok(own)
    }

    fn own_client(&self, host: &str) -> Result<Option<Client>, RegistryError> {
        let mut found = HostCertificates::default();
        for directory in self.config.certs_dirs.iter().map(|directory| directory.join(host)) {
            found.read(&directory)?;
        }
        if found.authorities.is_empty() && found.identity.is_none() {
            return Ok(None);
        }
        let client = found.authorities.into_iter().try_fold(builder(&self.config)?, trust)?;
        let client = match found.identity {
            Some(identity) => client.identity(identity),
            None => client,
        };
        client.build().map(Some).map_err(RegistryError::Client)
    }
}

fn builder(config: &FetchConfig) -> Result<ClientBuilder, RegistryError> {
    let builder = Client::builder()
        .use_rustls_tls()
        .min_tls_version(tls::Version::TLS_1_2)
        .http1_only()
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .dns_resolver(Arc::new(Resolver))
        .user_agent(&config.user_agent)
        .connect_timeout(config.connect_timeout);
    let builder = config.extra_ca.iter().cloned().try_fold(builder, trust)?;
    let proxies = config.proxies.rules().map_err(RegistryError::Proxy)?;
    Ok(proxies.into_iter().fold(builder, ClientBuilder::proxy))
}

/// Lets a client trust the authorities in a file.
fn trust(builder: ClientBuilder, path: PathBuf) -> Result<ClientBuilder, RegistryError> {
    let pem = fs::read(&path).map_err(|source| RegistryError::CaFile { path: path.clone(), source })?;
    let certificates = Certificate::from_pem_bundle(&pem)
        .map_err(|source| RegistryError::CaFormat { path: path.clone(), source })?;
    if certificates.is_empty() {
        return Err(RegistryError::CaEmpty { path });
    }
    Ok(certificates.into_iter().fold(builder, ClientBuilder::add_root_certificate))
}

/// What a directory of certificates has for a host.
#[derive(Default)]
struct HostCertificates {
    /// Files of authorities to trust.
    authorities: Vec<PathBuf>,
    /// What this machine shows.
    identity: Option<Identity>,
}

impl HostCertificates {
    /// Reads a directory: `*.crt` are authorities; of each pair `*.cert` and `*.key` the first is shown.
    fn read(&mut self, directory: &Path) -> Result<(), RegistryError> {
        let failed = |path: &Path, source| RegistryError::CaFile { path: path.to_owned(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            // What this user may not look at is meant for others.
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(());
            }
            Err(error) => return Err(failed(directory, error)),
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|error| failed(directory, error))?;
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.authorities.push(path),
                Some("cert") if self.identity.is_none() => {
                    let key = path.with_extension("key");
                    let certificate = fs::read(&path).map_err(|error| failed(&path, error))?;
                    let mut pem = Zeroizing::new(fs::read(&key).map_err(|error| failed(&key, error))?);
                    pem.push(b'\n');
                    pem.extend_from_slice(&certificate);
                    let identity = Identity::from_pem(&pem);
                    self.identity =
                        Some(identity.map_err(|source| RegistryError::CaFormat { path, source })?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Looks names up as the system does, and leaves out addresses that no registry has.
struct Resolver;

/// Says why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error(transparent)]
    System(io::Error),
    #[error("the name has only addresses of the local link")]
    LocalLink,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(LookupError::System)?;
            // A name can stand for what an address may not: the machine's metadata service.
            let addresses: Vec<_> = found.filter(|address| !is_link_local(address.ip())).collect();
            if addresses.is_empty() {
                return Err(LookupError::LocalLink.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
