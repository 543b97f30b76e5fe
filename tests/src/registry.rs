//! A real registry on loopback.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use thiserror::Error;

use crate::process::{ProcessError, Program};
use crate::token_server::{ISSUER, SERVICE, TokenServer, USER};
use crate::workspace;

/// Turns of waiting for the registry, 20 ms each.
const TURNS: u32 = 1500;

/// Why the registry did not come up or take an image.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// A file operation failed.
    #[error("cannot prepare the registry: {0}")]
    File(#[from] io::Error),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It ended or said nothing.
    #[error("the registry did not start:\n{0}")]
    Silent(String),
}

/// The password of [`USER`], [`PASSWORD`](crate::token_server::PASSWORD), as bcrypt hashes it.
const PASSWORD_HASH: &str = "$2b$04$qAZDBIrwVaGZKlIbyAUc..JNVeDzbU8so87bLtFKvCzpMgYn3stG2";

/// Whom a registry lets in.
pub enum Auth<'a> {
    /// Everybody: it asks nobody who they are.
    Nobody,
    /// Who knows the name and password of the token server's user.
    Password,
    /// Who has a token of a server.
    Tokens(&'a TokenServer),
}

/// A running registry; it ends when dropped, and with the thread that started it.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Registry {
    /// Starts a registry with an empty store on a port of the system's choice, which lets everybody in.
    pub fn start() -> Result<Self, RegistryError> {
        Self::start_with(&Auth::Nobody)
    }

    /// Starts a registry that lets in whom it is told to.
    pub fn start_with(auth: &Auth<'_>) -> Result<Self, RegistryError> {
        let directory = tempfile::Builder::new().prefix("mvm-registry.").tempdir()?;
        let secrets = directory.path().join("auth");
        let auth = match auth {
            Auth::Nobody => String::new(),
            Auth::Password => {
                fs::write(&secrets, format!("{USER}:{PASSWORD_HASH}\n"))?;
                format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", secrets.display())
            }
            Auth::Tokens(server) => {
                fs::write(&secrets, server.certificate())?;
                format!(
                    "auth: {{token: {{realm: \"{}\", service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {}}}}}\n",
                    server.realm(),
                    secrets.display()
                )
            }
        };
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\", secret: fixed}}\n{auth}",
            directory.path().join("data").display()
        );
        fs::write(&config, text)?;
        let log = File::create(directory.path().join("log"))?;
        let child = Program::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(workspace::docker_registry())
            .arg("serve")
            .arg(&config)
            .spawn(Stdio::from(log.try_clone()?), Stdio::from(log))?;
        let mut registry = Self { child, directory, port: 0 };
        for _ in 0..TURNS {
            if let Some(port) = listening_port(&registry.log()?) {
                registry.port = port;
                return Ok(registry);
            }
            if registry.child.try_wait()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(RegistryError::Silent(registry.log()?))
    }

    /// Returns the address, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the directory in which the registry keeps its blobs.
    pub fn blobs(&self) -> PathBuf {
        self.directory.path().join("data/docker/registry/v2/blobs/sha256")
    }

    /// Returns the file of a blob, given its digest in hex.
    pub fn blob(&self, hex: &str) -> PathBuf {
        self.blobs().join(&hex[..2]).join(hex).join("data")
    }

    /// Returns what the registry has logged, requests among it.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.directory.path().join("log"))
    }

    /// Counts the logged requests for a blob's content.
    pub fn blob_requests(&self, hex: &str) -> io::Result<usize> {
        let wanted = format!("/blobs/sha256:{hex} ");
        Ok(self.log()?.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(&wanted)).count())
    }

    /// Pushes an image of an OCI layout with skopeo and returns the name to pull it by.
    pub fn push(&self, layout: &Path, name: &str, extra: &[&str]) -> Result<String, RegistryError> {
        let image = format!("{}/{name}", self.address());
        Program::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args(extra)
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{image}"))
            .run()?
            .ok()?;
        Ok(image)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            // Reaped, or there is nothing to reap.
            drop(self.child.wait());
        }
    }
}

/// Finds the port in the registry's log.
fn listening_port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    // Half a line may be there yet.
    rest.starts_with(&digits).then_some(())?;
    rest.get(digits.len()..)?.starts_with(|c: char| !c.is_ascii_digit()).then_some(())?;
    digits.parse().ok()
}
