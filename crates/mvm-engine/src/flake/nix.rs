//! Nix in a builder: the commands of a build, and what they print.

use super::error::BuildError;
use super::failure;
use super::kept::LogWriter;
use super::log::{BuildLog, Said, plain};
use super::stage::Staged;
use crate::builder::{BuilderSession, SOURCE_TARGET};
use crate::closures::ImportError;
use crate::error::EngineError;
use crate::journal::OutputStream;
use crate::progress::{Cancel, Progress, Step};
use mvm_ref::nix::{Closure, MAX_CLOSURE_DOCUMENT, StorePath};
use mvm_wire::ExitStatus;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a command's output, where it is short.
const SHORT: usize = 1 << 20;
/// The first Nix that takes `?dir=` of a `path:`.
const INSIDE_SINCE: [u32; 2] = [2, 19];

/// Nix, with the options that all commands of a build have.
pub(super) struct Nix<'s, 'e> {
    pub session: &'s mut BuilderSession<'e>,
    pub staged: &'s Staged,
    pub offline: bool,
}

/// What a build came to.
pub(super) struct Outcome {
    /// The attribute that was built, in full.
    pub attribute: String,
    pub derivation: StorePath,
    pub output: StorePath,
    /// The derivations that were built for it.
    pub built: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuiltOutput {
    drv_path: Option<String>,
    #[serde(default)]
    outputs: BTreeMap<String, String>,
}

impl Nix<'_, '_> {
    fn argv(&self, words: &[&str]) -> Vec<String> {
        let mut argv = vec!["nix".to_owned()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        argv.extend(self.offline.then(|| "--offline".to_owned()));
        argv
    }

    fn flake_argv(&self, words: &[&str]) -> Vec<String> {
        let mut argv = self.argv(words);
        argv.extend(self.staged.options());
        argv
    }

    /// Refuses what this Nix can't do.
    pub fn check(&self) -> Result<(), BuildError> {
        let version = self.session.nix_version();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version_numbers = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
        match &self.staged.source.inside {
            Some(directory) if version_numbers < INSIDE_SINCE => {
                Err(BuildError::Inside { directory: directory.clone(), version: version.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Returns the names of the flake's own inputs, from `flake.nix` itself; nothing if that can't be read.
    pub fn inputs(&mut self, cancel: &Cancel) -> Result<Option<BTreeSet<String>>, EngineError> {
        const NAMES: &str = "let d = builtins.attrNames (f.inputs or {}); \
            a = if builtins.isFunction f.outputs then builtins.attrNames (builtins.functionArgs f.outputs) else []; \
            in d ++ builtins.filter (n: n != \"self\" && !(builtins.elem n d)) a";
        let inside =
            self.staged.source.inside.as_ref().map_or_else(String::new, |inside| format!("{inside}/"));
        let path = format!("{SOURCE_TARGET}/flake/{inside}flake.nix");
        // The path is a text to Nix, whatever characters it has.
        let path = path.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
        let expression = format!("let f = import (/. + \"{path}\"); in {NAMES}");
        let argv = self.argv(&["eval", "--json", "--impure", "--expr", &expression]);
        let (status, out, _) = self.capture(&argv, SHORT, cancel)?;
        // What is wrong with it, the build itself will tell.
        Ok(if good(&status) { serde_json::from_slice(&out).ok() } else { None })
    }

    /// Returns the attributes of the flake's packages, by system.
    pub fn packages(&mut self, cancel: &Cancel) -> Result<BTreeMap<String, Vec<String>>, EngineError> {
        const NAMES: &str = "p: builtins.mapAttrs (_: builtins.attrNames) p";
        let packages = self.whole("packages")?;
        let argv = self.flake_argv(&["eval", "--json", &packages, "--apply", NAMES]);
        let (status, out, _) = self.capture(&argv, SHORT, cancel)?;
        match good(&status) {
            true => Ok(serde_json::from_slice(&out).map_err(|error| unread("nix eval", &error))?),
            false => Ok(BTreeMap::new()),
        }
    }

    /// Evaluates a function of one of the flake's attributes; nothing if Nix ended with an error, of which the log tells.
    pub fn evaluate<T: DeserializeOwned>(
        &mut self,
        attribute: &str,
        function: &str,
        (log, writer): (&mut BuildLog, &mut LogWriter),
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Option<T>, EngineError> {
        let target = self.whole(attribute)?;
        let words = ["eval", "--json", "--log-format", "internal-json", "-v", &target, "--apply", function];
        let argv = self.flake_argv(&words);
        let (status, out) = self.logged(&argv, (log, writer), progress, cancel)?;
        match good(&status) {
            true => Ok(Some(serde_json::from_slice(&out).map_err(|error| unread("nix eval", &error))?)),
            false => Ok(None),
        }
    }

    /// Returns the flake with an attribute that isn't the one that was asked for.
    fn whole(&self, attribute: &str) -> Result<String, BuildError> {
        let target = self.staged.target()?;
        let flake = target.split('#').next().unwrap_or_default();
        Ok(format!("{flake}#{attribute}"))
    }

    /// Builds the target; nothing if Nix ended with an error, of which the log tells.
    pub fn build(
        &mut self,
        (target, attribute): (&str, String),
        (log, writer): (&mut BuildLog, &mut LogWriter),
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Option<Outcome>, EngineError> {
        let words = ["build", "--no-link", "--json", "--log-format", "internal-json", "-v", target];
        let argv = self.flake_argv(&words);
        let (status, out) = self.logged(&argv, (log, writer), progress, cancel)?;
        if !good(&status) {
            return Ok(None);
        }
        let built: Vec<BuiltOutput> =
            serde_json::from_slice(&out).map_err(|error| unread("nix build", &error))?;
        let wrong = |problem: &str| BuildError::Output { command: "nix build", problem: problem.to_owned() };
        let [BuiltOutput { drv_path: Some(derivation), outputs }] = &built[..] else {
            return Err(wrong("it is not one derivation").into());
        };
        let output = match (outputs.get("out"), outputs.len()) {
            (Some(output), 1) => output,
            _ => return Err(wrong("the derivation has other outputs than out, so it is no guest").into()),
        };
        let parse = |path: &str| path.parse::<StorePath>().map_err(|error| wrong(&error.to_string()));
        let built = log.built().to_vec();
        Ok(Some(Outcome { attribute, derivation: parse(derivation)?, output: parse(output)?, built }))
    }

    /// Returns all that an output refers to.
    pub fn closure(&mut self, output: &StorePath, cancel: &Cancel) -> Result<Closure, EngineError> {
        let argv = self.argv(&["path-info", "--json", "-r", &output.to_string()]);
        let (status, out, err) = self.capture(&argv, MAX_CLOSURE_DOCUMENT + 1, cancel)?;
        if !good(&status) {
            let problem = plain(String::from_utf8_lossy(&err).trim()).replace('\n', " ");
            return Err(BuildError::Output { command: "nix path-info", problem }.into());
        }
        Closure::parse(&out).map_err(|error| {
            let (output, source) = (output.clone(), Box::new(ImportError::Closure(error)));
            EngineError::Closure { output, source }
        })
    }

    /// Copies the flake, locks inputs in the copy, and returns the lock file.
    pub fn lock(
        &mut self,
        options: &[String],
        cancel: &Cancel,
    ) -> Result<Result<Vec<u8>, String>, EngineError> {
        const COPY: &str = "/tmp/mvm-lock";
        let from = format!("{SOURCE_TARGET}/flake");
        let inside =
            self.staged.source.inside.as_ref().map_or_else(String::new, |inside| format!("/{inside}"));
        let copy = ["rm", "-rf", COPY].map(str::to_owned);
        self.capture(&copy, SHORT, cancel)?;
        let copy = ["cp", "-R", &from, COPY].map(str::to_owned);
        let (status, _, err) = self.capture(&copy, SHORT, cancel)?;
        if !good(&status) {
            return Ok(Err(plain(&String::from_utf8_lossy(&err))));
        }
        // The copy of a file that only its owner may read is that of root, and the directories are writable to root.
        let mut argv = self.argv(&["flake", "lock"]);
        argv.extend(options.iter().cloned());
        argv.push(format!("path:{COPY}{inside}"));
        let (status, _, err) = self.capture(&argv, SHORT, cancel)?;
        if !good(&status) {
            let text = plain(&String::from_utf8_lossy(&err))
                .replace(COPY, &self.staged.source.root.to_string_lossy());
            return Ok(Err(text.trim().trim_start_matches("error:").trim().to_owned()));
        }
        let path = format!("{COPY}{inside}/flake.lock");
        let (status, out, _) = self.capture(&["cat".to_owned(), path], 16 << 20, cancel)?;
        let none = || "{\"nodes\": {\"root\": {}}, \"root\": \"root\", \"version\": 7}".as_bytes().to_vec();
        Ok(Ok(if good(&status) { out } else { none() }))
    }

    fn capture(
        &mut self,
        argv: &[String],
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), EngineError> {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.session.capture(&argv, limit, cancel)
    }

    /// Runs a command whose standard error is a log; returns its standard output.
    fn logged(
        &mut self,
        argv: &[String],
        (log, writer): (&mut BuildLog, &mut LogWriter),
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(ExitStatus, Vec<u8>), EngineError> {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut out = Vec::new();
        let mut said = |said: Said| {
            match &said {
                Said::Line { of, text } => writer.line(of.as_deref(), text),
                Said::Aside { text } => return writer.line(None, text),
                Said::Building { .. } | Said::Counted(_) => {}
            }
            progress.step(match said {
                Said::Line { of, text } => Step::BuildLine { of, text },
                Said::Aside { text } => Step::BuildLine { of: None, text },
                Said::Building { derivation } => {
                    Step::Building { derivation: super::log::name_of(&derivation).to_owned() }
                }
                Said::Counted(counts) => Step::BuildCounted(counts),
            });
        };
        let mut take = |stream, bytes: &[u8]| match stream {
            OutputStream::Stderr => log.read(bytes, &mut said),
            _ => out.extend(bytes.iter().take(SHORT.saturating_sub(out.len()))),
        };
        let status = self.session.run(&argv, &mut take, cancel)?;
        log.finish(&mut said);
        Ok((status, out))
    }

    /// Returns why a command failed that ended with an error.
    pub fn failure(&mut self, log: &BuildLog, id: &str, cancel: &Cancel) -> BuildError {
        let state = self.session.state(cancel).ok();
        let root = self.staged.source.root.to_string_lossy();
        let around = failure::Circumstances { root: &root, online: !self.offline, state, log: id };
        failure::judge(log, &around)
    }
}

fn good(status: &ExitStatus) -> bool {
    *status == ExitStatus::Code(0)
}

fn unread(command: &'static str, error: &serde_json::Error) -> BuildError {
    BuildError::Output { command, problem: error.to_string() }
}
