//! Docker's credential helpers: programs that are asked on standard input and answer on standard output.
//!
//! Source: docker-credential-helpers, section "Development" of its description.

use crate::settings::{HelperEnvironment, Settings};
use mvm_fetch::{CredentialHelper, HelperError, HelperName, Login, Secret};
use mvm_launch::exec::{ExecError, Invocation, Limits, find_program};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::time::Duration;
use zeroize::Zeroizing;

/// A person may have to unlock the keys meanwhile.
const TIME: Duration = Duration::from_secs(30);
const MAX_OUTPUT: usize = 64 << 10;
const MAX_MESSAGE: usize = 200;
/// What helpers say when they have no credentials; it is a part of their protocol.
const NOTHING: &str = "credentials not found in native keychain";

/// Runs helpers from the caller's search path, with the caller's environment, by which they find what they keep.
#[derive(Debug)]
pub(crate) struct Helpers {
    path: OsString,
    environment: HelperEnvironment,
    time: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: Secret,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kept<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// How a helper ended and what it printed.
struct Said {
    succeeded: bool,
    stdout: Zeroizing<Vec<u8>>,
    stderr: Vec<u8>,
}

impl Helpers {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            path: settings.program_path.clone(),
            environment: settings.helper_environment.clone(),
            time: TIME,
        }
    }

    fn run(&self, helper: &HelperName, verb: &str, server: &str, input: &[u8]) -> Result<Said, HelperError> {
        let program = helper.program();
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| HelperError::Run {
            program: helper.program(),
            source,
        };
        let file = find_program(&program, &self.path)
            .map_err(|_| HelperError::NotInstalled { program: program.clone() })?;
        let input = memory_file(input).map_err(|error| failed(error.into()))?;
        let mut invocation = Invocation::new(file).arg(verb).input(input);
        for (name, value) in self.environment.variables() {
            invocation = invocation.env(name, value);
        }
        match invocation.run(Limits { time: self.time, output: MAX_OUTPUT }) {
            Ok(output) => Ok(Said {
                succeeded: output.status.success(),
                stdout: Zeroizing::new(output.stdout),
                stderr: output.stderr,
            }),
            // What it printed until then may be what it was told.
            Err(ExecError::TimedOut { seconds, .. }) => {
                Err(HelperError::Slow { program, server: server.to_owned(), seconds })
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

impl CredentialHelper for Helpers {
    fn get(&self, helper: &HelperName, server: &str) -> Result<Option<Login>, HelperError> {
        let said = self.run(helper, "get", server, server.as_bytes())?;
        if !said.succeeded {
            return said.none_or_failed(helper, server, None).map(|()| None);
        }
        let unusable = || HelperError::Answer { program: helper.program(), server: server.to_owned() };
        let answer: Answer = serde_json::from_slice(&said.stdout).map_err(|_| unusable())?;
        // Some helpers say so that they have nothing.
        let nothing = answer.username.is_empty() && answer.secret.expose().is_empty();
        Ok((!nothing).then_some(Login { user: answer.username, secret: answer.secret }))
    }

    fn store(&self, helper: &HelperName, server: &str, login: &Login) -> Result<(), HelperError> {
        let kept = Kept { server, username: &login.user, secret: login.secret.expose() };
        // Room for every byte escaped, so that growing leaves no copies behind.
        let room = 6 * (server.len() + login.user.len() + login.secret.expose().len()) + 64;
        let mut input = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *input, &kept)
            .map_err(|source| HelperError::Run { program: helper.program(), source: source.into() })?;
        let said = self.run(helper, "store", server, &input)?;
        if said.succeeded { Ok(()) } else { Err(said.failed(helper, server, Some(&login.secret))) }
    }

    fn erase(&self, helper: &HelperName, server: &str) -> Result<(), HelperError> {
        let said = self.run(helper, "erase", server, server.as_bytes())?;
        if said.succeeded { Ok(()) } else { said.none_or_failed(helper, server, None) }
    }
}

impl Said {
    /// Tells having nothing from having failed.
    fn none_or_failed(
        self,
        helper: &HelperName,
        server: &str,
        secret: Option<&Secret>,
    ) -> Result<(), HelperError> {
        let text = self.stdout.trim_ascii();
        if text == NOTHING.as_bytes() { Ok(()) } else { Err(self.failed(helper, server, secret)) }
    }

    /// Returns what the helper says; what looks like credentials is left out.
    fn failed(self, helper: &HelperName, server: &str, secret: Option<&Secret>) -> HelperError {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
        let mut message = text(&self.stdout);
        if message.is_empty() {
            message = text(&self.stderr);
        }
        if message.contains(['{', '"']) {
            message.clear();
        }
        if let Some(secret) = secret.filter(|secret| !secret.expose().is_empty()) {
            message = message.replace(secret.expose(), "(secret)");
        }
        let message = message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
        HelperError::Failed { program: helper.program(), server: server.to_owned(), message }
    }
}

/// Returns a file that is only in memory, to be read from its beginning.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("credentials", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests;
