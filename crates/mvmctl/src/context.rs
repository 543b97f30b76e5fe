//! What every verb works with: the resolved global options, opened lazily.

use crate::cli::Global;
use crate::commands::network::Network;
use crate::commands::unpack::Unpack;
use crate::printer::Printer;
use crate::progress::Display;
use crate::signals::Signals;
use crate::{environment, guest};
use anyhow::Context as _;
use mvm_engine::{Check, Engine, EngineError, FetchConfig, HelperEnvironment, Scopes, Settings};
use std::cell::OnceCell;
use std::path::PathBuf;

/// The resolved request: where the store is, how to print, when to stop.
pub struct Context {
    pub printer: Printer,
    pub signals: Signals,
    settings: Settings,
    /// What `--authfile` names.
    authfile: Option<PathBuf>,
    engine: OnceCell<Engine>,
}

impl Context {
    /// Resolves the global options.
    pub fn new(global: Global) -> anyhow::Result<Self> {
        let root = global.root.or_else(environment::store_root);
        let root = root.context("no place for the store: neither --root nor $HOME is set")?;
        let root = std::path::absolute(&root).with_context(|| format!("resolve {}", root.display()))?;
        let authfile = global.authfile.map(std::path::absolute).transpose().context("resolve --authfile")?;
        let auth_files = environment::auth_files(authfile.clone());
        let settings = Settings {
            root,
            scope: global.scope,
            guest: guest::BINARY,
            flake_library: crate::flake_library::LIBRARY,
            program: std::env::current_exe().context("find this program's own file")?,
            program_path: environment::program_path(),
            auth_files: auth_files.search,
            login_file: auth_files.login,
            helper_environment: HelperEnvironment::new(environment::of_helpers()),
            network: FetchConfig::default(),
            unpack: None,
            kvm: PathBuf::from("/dev/kvm"),
        };
        let signals = Signals::install().context("install signal handlers")?;
        Ok(Self { printer: Printer::new(global.quiet), signals, settings, authfile, engine: OnceCell::new() })
    }

    /// Returns the engine, opening the store at first use.
    pub fn engine(&self) -> anyhow::Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::open(self.settings.clone())?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Returns the engine for what changes a scope that is there; the first use decides.
    pub fn engine_of_existing(&self) -> anyhow::Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::open_existing(self.settings.clone())?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Returns the engine for what changes nothing; the first use decides. Works on what can't be written too.
    pub fn engine_to_look(&self) -> anyhow::Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::open_to_look(self.settings.clone())?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Returns the scopes of the store.
    pub fn scopes(&self) -> Scopes {
        Scopes::new(self.settings.clone())
    }

    /// Returns what the global options say; works without a store.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the same, with registries reached as the options say.
    pub fn settings_over(&self, network: Network) -> anyhow::Result<Settings> {
        Ok(Settings { network: network.resolve()?, ..self.settings.clone() })
    }

    /// Returns the engine, which reaches registries as the options say; the first use decides.
    pub fn engine_over(&self, network: Network) -> anyhow::Result<&Engine> {
        self.engine_unpacking(Some(network), Unpack::default())
    }

    /// Returns the engine for what is done with a scope that is there, and with registries; the first use decides.
    pub fn engine_over_existing(&self, network: Network) -> anyhow::Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        self.check_authfile()?;
        let engine = Engine::open_existing(self.settings_over(network)?)?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Returns the engine, which reaches registries, where it does, and unpacks layers as the options say; the first use
    /// decides.
    pub fn engine_unpacking(&self, network: Option<Network>, unpack: Unpack) -> anyhow::Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let settings = match network {
            Some(network) => {
                self.check_authfile()?;
                self.settings_over(network)?
            }
            None => self.settings.clone(),
        };
        let settings = Settings { unpack: unpack.resolve()?, ..settings };
        let engine = Engine::open(settings)?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Checks that `--authfile` names a file that is there.
    ///
    /// A login makes it; whoever only reads it would be refused for want of credentials, if the name is misspelt.
    fn check_authfile(&self) -> Result<(), EngineError> {
        match self.authfile.as_ref().filter(|path| !path.exists()) {
            Some(path) => Err(EngineError::NoAuthFile(path.clone())),
            None => Ok(()),
        }
    }

    /// Checks this machine; works without a store.
    pub fn doctor(&self) -> Vec<Check> {
        mvm_engine::doctor(&self.settings)
    }

    /// Returns a listener that shows progress as this terminal can.
    pub fn progress(&self) -> Display {
        Display::new(self.printer)
    }
}
