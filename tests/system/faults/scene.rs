//! One fault's registry, and a pull from it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::Failed;
use mvm_tests::corpus::measure;
use mvm_tests::faults::login::{BASIC, Login};
use mvm_tests::faults::{Authority, Certificate, Image, Log, REPOSITORY, Registry, Rule, Server, Transport};
use mvm_tests::process::Output;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;

use crate::{Outcome, ensure, ensure_eq};

/// A registry, a second server of the same content under another port, and a store to pull into.
pub struct Scene {
    /// What both servers answer with.
    pub registry: Arc<Registry>,
    /// What both have heard.
    pub log: Log,
    /// The server that the reference names.
    pub server: Server,
    /// The other server: storage, or tokens, or somebody's trap.
    pub elsewhere: Server,
    /// The store.
    pub sandbox: Sandbox,
    secure: bool,
    reference: String,
    options: Vec<String>,
    patience: Duration,
    wall: Cell<Duration>,
}

/// What a pull may take.
const MAX_WALL: Duration = Duration::from_secs(2);
const MAX_PEAK: u64 = 300 << 20;
/// When a pull that hangs is ended.
const HANG: Duration = Duration::from_secs(60);

impl Scene {
    /// Makes a registry without TLS.
    pub fn plain() -> io::Result<Self> {
        Self::of(Transport::Plain)
    }

    /// Makes a registry with TLS whose authority the pull trusts.
    pub fn tls(certificate: Certificate) -> io::Result<Self> {
        let authority = Authority::new()?;
        let scene = Self::of(authority.server(certificate)?)?;
        let file = scene.sandbox.path().join("authority.pem");
        fs::write(&file, authority.pem())?;
        Ok(Self { secure: true, ..scene.option("--ca-cert").option(&file.to_string_lossy()) })
    }

    /// Makes a registry with TLS whose authority the pull doesn't know.
    pub fn untrusted_tls() -> io::Result<Self> {
        let scene = Self::tls(Certificate::Good)?;
        Ok(Self { options: Vec::new(), ..scene })
    }

    fn of(transport: Transport) -> io::Result<Self> {
        let (registry, log) = (Arc::new(Registry::new(Image::standard())), Log::default());
        let start = |name, transport| {
            let answering = Arc::clone(&registry);
            Server::start(name, transport, &log, move |request| answering.answer(request))
        };
        let (server, elsewhere) = (start("registry", transport)?, start("elsewhere", Transport::Plain)?);
        let sandbox = Sandbox::new().map_err(io::Error::other)?;
        let reference = format!("{}/{REPOSITORY}:one", server.host());
        let (secure, options, patience, wall) = (false, Vec::new(), MAX_WALL, Cell::default());
        Ok(Self { registry, log, server, elsewhere, sandbox, secure, reference, options, patience, wall })
    }

    /// Spoils some answers.
    pub fn rule(self, rule: Rule) -> Self {
        self.registry.rule(rule);
        self
    }

    /// Spoils some answers in a way that depends on where the servers are.
    pub fn rule_by(self, rule: impl FnOnce(&Self) -> Rule) -> Self {
        self.registry.rule(rule(&self));
        self
    }

    /// Lets in only those who log in.
    pub fn login(self, login: Login) -> Self {
        self.registry.login(login);
        self
    }

    /// Lets in only those who log in, in a way that depends on where the servers are.
    pub fn login_by(self, login: impl FnOnce(&Self) -> Login) -> Self {
        self.registry.login(login(&self));
        self
    }

    /// Puts the user's name and password for the registry where Docker keeps them.
    pub fn credentials(self) -> io::Result<Self> {
        let directory = self.sandbox.path().join(".docker");
        fs::create_dir(&directory)?;
        let secret = BASIC.strip_prefix("Basic ").unwrap_or(BASIC);
        let file = format!(r#"{{"auths": {{"{}": {{"auth": "{secret}"}}}}}}"#, self.server.host());
        fs::write(directory.join("config.json"), file)?;
        Ok(self)
    }

    /// Pulls this tag or digest (with its `:` or `@`).
    pub fn named(self, name: &str) -> Self {
        Self { reference: format!("{}/{REPOSITORY}{name}", self.server.host()), ..self }
    }

    /// Adds an argument of the pull.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Lets the pull wait so much longer, since the registry makes it wait.
    pub fn waits(mut self, seconds: u64) -> Self {
        self.patience += Duration::from_secs(seconds);
        self
    }

    /// Takes silence of so many seconds for a failure.
    pub fn timeout(self, seconds: u64) -> Self {
        self.option("--timeout").option(&seconds.to_string()).waits(2 * seconds)
    }

    /// Tries anew this many times after a failure.
    pub fn retries(self, count: usize) -> Self {
        self.option("--retries").option(&count.to_string())
    }

    /// Returns the address of a path on the registry.
    pub fn here(&self, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.server.host())
    }

    /// Returns the address of a path on the other server.
    pub fn there(&self, path: &str) -> String {
        format!("http://{}{path}", self.elsewhere.host())
    }

    /// Pulls.
    pub fn pull(&self) -> Result<Output, Failed> {
        let report = self.sandbox.path().join("report");
        let pull = measure::measured(&workspace::mvmctl(), &report)?
            .env("HOME", self.sandbox.path())
            .arg("--root")
            .arg(self.sandbox.store())
            .args(["pull", "--json"])
            .args(&self.options)
            .arg(&self.reference);
        let output = pull.limit(HANG).run()?;
        let cost = measure::read(&report)?;
        ensure!(
            cost.peak <= MAX_PEAK,
            "took {} MiB, at most {} are allowed",
            cost.peak >> 20,
            MAX_PEAK >> 20
        );
        self.wall.set(cost.wall);
        Ok(output)
    }

    /// Returns what the last pull took too long by, if it did.
    pub fn late(&self) -> Option<String> {
        let (took, allowed) = (self.wall.get(), self.patience);
        (took > allowed).then(|| format!("took {took:?}, at most {allowed:?} are allowed"))
    }

    /// Checks that the pull gives what an undisturbed one gives.
    pub fn same(&self) -> Outcome {
        let output = self.pull()?.ok()?;
        ensure_eq!(root_hash(&output)?, undisturbed()?);
        Ok(())
    }

    /// Checks that the pull is refused, with these words, and leaves a store that an honest pull then fills.
    pub fn refused(&self, code: i32, words: &[&str]) -> Outcome {
        let output = self.pull()?;
        let said = output.err();
        ensure!(output.code() == code, "exit code {}, expected {code}: {said}", output.code());
        let errors = said.lines().filter(|line| line.starts_with("mvmctl: ")).count();
        ensure!(errors == 1, "not one error line: {said}");
        for word in words {
            ensure!(said.contains(word), "{word:?} is not in: {said}");
        }
        ensure!(!said.contains("panicked"), "a panic: {said}");
        ensure!(output.stdout.is_empty(), "words on stdout: {}", output.out());
        ensure_eq!(self.sandbox.json(["image", "ls", "--json"])?.as_array().map(Vec::len), Some(0));
        let left: Vec<_> = fs::read_dir(self.sandbox.store().join("scopes/default/staging"))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        ensure!(left.is_empty(), "left in staging: {left:?}");
        // Had anything bad been kept, the honest pull would find it.
        let honest = Self::plain()?;
        let again = self.sandbox.mvmctl(["pull", "--json"]).arg(&honest.reference).run()?.ok()?;
        ensure_eq!(root_hash(&again)?, undisturbed()?);
        self.sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
        Ok(())
    }

    /// Checks that nobody but the registry has seen a password or a token.
    pub fn secrets_stayed(&self) -> Outcome {
        for request in self.log.of("elsewhere") {
            ensure!(
                request.header("authorization").is_none(),
                "the other server was shown {:?} for {}",
                request.header("authorization"),
                request.target
            );
        }
        Ok(())
    }
}

/// Returns the root hash of a pull from a registry that does nothing wrong.
fn undisturbed() -> Result<String, Failed> {
    static HASH: OnceLock<Result<String, String>> = OnceLock::new();
    let pull = || root_hash(&Scene::plain()?.pull()?.ok()?);
    HASH.get_or_init(|| pull().map_err(|failed| failed.message().unwrap_or("no words").to_owned()))
        .clone()
        .map_err(Failed::from)
}

fn root_hash(output: &Output) -> Result<String, Failed> {
    let value: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(value["root_hash"].as_str().ok_or("no root hash")?.to_owned())
}
