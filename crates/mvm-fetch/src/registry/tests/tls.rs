//! Certificates: whom to trust, and registries with and without TLS.

use super::*;
use crate::RegistryError;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Returns a certificate for `name` and its key.
    fn sign(&self, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().into(), key)
    }
}

/// A server with TLS that passes everything on to `server`, and ends after `connections`.
fn tls_front(server: &Server, authority: &Authority, name: &str, client: Option<&Authority>) -> u16 {
    let (certificate, key) = authority.sign(name);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.unwrap();
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            let pem = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
            roots.add(pem).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let config = Arc::new(builder.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = server.host();
    // Ends with the process of the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, behind) = (Arc::clone(&config), behind.clone());
            std::thread::spawn(move || pass_on(stream.unwrap(), config, &behind).unwrap_or_default());
        }
    });
    port
}

/// Passes one request on, and its answer back.
fn pass_on(stream: std::net::TcpStream, config: Arc<ServerConfig>, behind: &str) -> std::io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut tls = StreamOwned::new(ServerConnection::new(config).map_err(std::io::Error::other)?, stream);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if tls.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let mut server = std::net::TcpStream::connect(behind)?;
    server.write_all(&request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    tls.write_all(&answer)?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

fn pull_from(config: FetchConfig, host: &str) -> Result<(), FetchError> {
    let source: ImageSource = format!("{host}/team/app:many").parse().unwrap();
    let origin = Fetcher::new(config).open(&source)?;
    let resolved = origin.resolve(&platform())?;
    read(&origin, &resolved).map(|_| ())
}

#[test]
fn a_loopback_registry_may_have_tls_that_is_checked() {
    let server = Image::new().serve(|_| None);
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let ca = write(directory.path(), "ca.pem", &authority.pem);
    let trusting = || FetchConfig { extra_ca: vec![ca.clone()], ..quick() };
    let port = tls_front(&server, &authority, "localhost", None);

    pull_from(trusting(), &format!("localhost:{port}")).unwrap();
    let stranger = pull_from(quick(), &format!("localhost:{port}")).unwrap_err();
    assert!(matches!(stranger, FetchError::Registry(RegistryError::Certificate { .. })), "{stranger:?}");
    let insecure = vec!["localhost".parse().unwrap()];
    let stranger = pull_from(FetchConfig { insecure, ..quick() }, &format!("localhost:{port}")).unwrap_err();
    assert!(matches!(stranger, FetchError::Registry(RegistryError::Certificate { .. })), "{stranger:?}");
    // The certificate is for the name only.
    let other = pull_from(trusting(), &format!("127.0.0.1:{port}")).unwrap_err();
    assert!(matches!(other, FetchError::Registry(RegistryError::Certificate { .. })), "{other:?}");
    // One without TLS goes on as it is.
    pull_from(trusting(), &server.host()).unwrap();
}

#[test]
fn a_directory_of_certificates_is_for_one_host() {
    let server = Image::new().serve(|_| None);
    let (authority, client) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let port = tls_front(&server, &authority, "localhost", Some(&client));
    let host = format!("localhost:{port}");
    let config = || FetchConfig { certs_dirs: vec![directory.path().to_owned()], ..quick() };
    write(directory.path(), &format!("{host}/ca.crt"), &authority.pem);
    // The server wants to see a certificate.
    pull_from(config(), &host).unwrap_err();
    let (certificate, key) = client.sign("user");
    let certificate = rcgen_pem(&certificate);
    write(directory.path(), &format!("{host}/client.cert"), &certificate);
    let error = pull_from(config(), &host).unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::CaFile { .. })), "{error:?}");
    write(directory.path(), &format!("{host}/client.key"), &key.serialize_pem());
    pull_from(config(), &host).unwrap();
    // With certificates of its own a host is never spoken to without TLS.
    write(directory.path(), &format!("{}/ca.crt", server.host()), &authority.pem);
    let error = pull_from(FetchConfig { retries: 0, ..config() }, &server.host()).unwrap_err();
    assert!(matches!(error, FetchError::Registry(_)), "{error:?}");
}

fn rcgen_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A proxy that every host is behind of: it passes requests without TLS on, and opens no tunnels.
fn plain_proxy(server: &Server) -> Server {
    let behind = server.host();
    Server::start(move |request| {
        let Some(path) = request.path.strip_prefix("http://") else { return Reply::new(405, &[], "") };
        let (_, path) = path.split_once('/').unwrap();
        relay(&behind, &format!("/{path}"))
    })
}

fn relay(behind: &str, path: &str) -> Reply {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(behind).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or("x/y");
    Reply::new(status, &[("Content-Type", kind)], answer[end + 4..].to_vec())
}

#[test]
fn plain_http_is_spoken_only_where_it_is_allowed() {
    let server = Image::new().serve(|_| None);
    let proxy = plain_proxy(&server);
    let config = || {
        let address = |user: &str| format!("http://{user}{}", proxy.host()).parse().ok();
        let proxies = crate::Proxies { https: address("u:p@"), http: address("u:p@"), ..Default::default() };
        FetchConfig { proxies, retries: 0, ..quick() }
    };
    let error = pull_from(config(), "r.example").unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Connect { .. })), "{error:?}");
    assert!(server.requests().is_empty());
    assert!(proxy.requests().iter().all(|request| request.method == "CONNECT"));
    let insecure = vec!["r.example".parse().unwrap()];
    pull_from(FetchConfig { insecure, ..config() }, "r.example").unwrap();
    let asked: Vec<_> = proxy.requests().into_iter().map(|request| (request.method, request.path)).collect();
    assert_eq!(asked[1], ("CONNECT".to_owned(), "r.example:443".to_owned()));
    assert_eq!(asked[2].1, "http://r.example/v2/team/app/manifests/many");
    assert_eq!(asked.len(), 6, "{asked:?}");
}
