//! Certificates, good and bad, made for one test.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

use super::server::Transport;

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing.
    Good,
    /// It is for another host.
    WrongHost,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
    /// The server made it itself.
    SelfSigned,
}

/// A certificate authority.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority.
    pub fn new() -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Returns the authority's own certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes what a server on 127.0.0.1 shows.
    pub fn server(&self, certificate: Certificate) -> io::Result<Transport> {
        let host = if certificate == Certificate::WrongHost { "other.example" } else { "127.0.0.1" };
        let mut params = CertificateParams::new([host.to_owned()]).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, host);
        match certificate {
            Certificate::Expired => {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }
            Certificate::Early => params.not_before = date_time_ymd(3001, 1, 1),
            Certificate::Good | Certificate::WrongHost | Certificate::SelfSigned => {}
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let made = match certificate {
            Certificate::SelfSigned => params.self_signed(&key),
            _ => params.signed_by(&key, &self.issuer),
        };
        let chain = vec![made.map_err(io::Error::other)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(io::Error::other)?;
        Ok(Transport::Tls(Arc::new(config)))
    }
}
