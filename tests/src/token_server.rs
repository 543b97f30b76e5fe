//! A token server for a real registry: it knows two users, and signs what each of them may do.
//!
//! Source: distribution, "Token Authentication Specification" and "Token Authentication Implementation" (a JSON Web
//! Token, RFC 7519, signed with ES256, whose certificate the registry is told to trust).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use serde_json::{Value, json};

use crate::faults::{Log, Reply, Request, Server, Transport};

/// The user who may do everything.
pub const USER: &str = "user";
/// The user who may only read.
pub const READER: &str = "reader";
/// The password of both.
pub const PASSWORD: &str = "correct horse";
/// Who signs tokens, as registries are told.
pub const ISSUER: &str = "mvm-tests";
/// Whom tokens are for, as registries are told.
pub const SERVICE: &str = "a registry";

/// How long a token is good, in seconds; registries allow clocks to differ by a minute.
const LIFETIME: i64 = 300;

/// A running token server; it ends when dropped.
pub struct TokenServer {
    server: Server,
    log: Log,
    certificate: String,
    lifetime: Arc<AtomicI64>,
}

struct Issuer {
    key: KeyPair,
    certificate: Vec<u8>,
    lifetime: Arc<AtomicI64>,
}

impl TokenServer {
    /// Starts a server with a new key.
    pub fn start() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let parameters = CertificateParams::new(vec![ISSUER.to_owned()]).map_err(io::Error::other)?;
        let certificate = parameters.self_signed(&key).map_err(io::Error::other)?;
        let lifetime = Arc::new(AtomicI64::new(LIFETIME));
        let issuer = Issuer { key, certificate: certificate.der().to_vec(), lifetime: Arc::clone(&lifetime) };
        let log = Log::default();
        let server = Server::start("tokens", Transport::Plain, &log, move |request| issuer.answer(request))?;
        Ok(Self { server, log, certificate: certificate.pem(), lifetime })
    }

    /// Returns the address at which registries send for tokens.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.host())
    }

    /// Returns the certificate that registries have to trust, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Gives out only tokens from now on that are long past.
    pub fn expire(&self) {
        self.lifetime.store(-LIFETIME, Ordering::SeqCst);
    }

    /// Returns what was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.log.all()
    }
}

impl Issuer {
    fn answer(&self, request: &Request) -> Reply {
        let refused = || Reply::new(401, "application/json", r#"{"details":"wrong user name or password"}"#);
        let Some(user) = user(request) else { return refused() };
        let allowed: &[&str] = match user.as_str() {
            USER => &["pull", "push"],
            READER => &["pull"],
            _ => return refused(),
        };
        let scopes = request.target.split(['?', '&']).filter_map(|pair| pair.strip_prefix("scope="));
        let access: Vec<Value> = scopes.filter_map(|scope| grant(&decode(scope), allowed)).collect();
        match self.token(&user, &access) {
            Ok(token) => Reply::new(200, "application/json", json!({ "token": token }).to_string()),
            Err(error) => Reply::new(500, "text/plain", error.to_string()),
        }
    }

    fn token(&self, user: &str, access: &[Value]) -> Result<String, rcgen::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let expires = now + self.lifetime.load(Ordering::SeqCst);
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)] });
        let claims = json!({
            "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": "1", "access": access,
            "iat": expires - LIFETIME, "nbf": expires - LIFETIME, "exp": expires,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fixed(&signature))))
    }
}

/// Returns the user of a request, if the password is right.
fn user(request: &Request) -> Option<String> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (password == PASSWORD).then(|| user.to_owned())
}

/// Returns what is allowed of `repository:NAME:ACTIONS`.
fn grant(scope: &str, allowed: &[&str]) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<&str> = actions.split(',').filter(|action| allowed.contains(action)).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}

/// Undoes the encoding of a query.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte.unwrap_or_default()).to_digit(16).unwrap_or(0) as u8;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => (hex(rest.next()) << 4) | hex(rest.next()),
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Turns two numbers in DER into 32 bytes each, as RFC 7518, section 3.4 has them.
fn fixed(signature: &[u8]) -> Vec<u8> {
    let mut rest = &signature[2..];
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let digits = &number[number.len().saturating_sub(32)..];
        fixed.extend(std::iter::repeat_n(0, 32 - digits.len()));
        fixed.extend_from_slice(digits);
        rest = after;
    }
    fixed
}
