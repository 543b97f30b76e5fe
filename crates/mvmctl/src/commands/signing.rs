//! The options of all verbs that sign a plan.

use crate::context::Context;
use crate::terminal::{self, Echo};
use anyhow::Context as _;
use mvm_engine::{Engine, Secret, Signers, StoredKey};
use mvm_ref::KeyName;
use std::path::PathBuf;

/// Said at each option, because a heading of the struct would go on over what follows it.
const HEADING: &str = "Signing options";

/// How to give a passphrase where nobody can be asked.
const INSTEAD: &str = "give --passphrase-file FILE";

/// Who signs.
#[derive(clap::Args)]
pub struct Signing {
    /// Sign with this key of the store (may be repeated: one signature each) [default: local]
    #[arg(help_heading = HEADING, long, value_name = "NAME")]
    key: Vec<KeyName>,
    /// Open keys with the passphrase in the file's first line, instead of asking for it on the terminal; with several
    /// keys NAME=FILE says for which (may be repeated)
    #[arg(help_heading = HEADING, long, value_name = "[NAME=]FILE", requires = "key")]
    passphrase_file: Vec<PathBuf>,
}

impl Signing {
    /// Opens the keys, and asks for passphrases where they are needed.
    pub fn open(&self, context: &Context, engine: &Engine) -> anyhow::Result<Signers> {
        let mut keys = Vec::with_capacity(self.key.len());
        for name in &self.key {
            keys.push(match engine.signing_key(name)? {
                StoredKey::Open(key) => key,
                StoredKey::Sealed(sealed) => sealed.open(&self.passphrase(name, context, engine)?)?,
            });
        }
        Ok(keys.into())
    }

    fn passphrase(&self, name: &KeyName, context: &Context, engine: &Engine) -> anyhow::Result<Secret> {
        let own = format!("{name}=");
        let of_others: Vec<String> = self.key.iter().map(|other| format!("{other}=")).collect();
        let text = |file: &PathBuf| file.to_string_lossy().into_owned();
        let named =
            self.passphrase_file.iter().find_map(|file| Some(text(file).strip_prefix(&own)?.to_owned()));
        let file = named.map(PathBuf::from).or_else(|| {
            let for_all = |file: &&PathBuf| !of_others.iter().any(|other| text(file).starts_with(other));
            self.passphrase_file.iter().find(for_all).cloned()
        });
        match file {
            Some(file) => Ok(engine.read_passphrase(&file)?),
            None => existing(name.as_str(), context),
        }
    }
}

/// Asks for the passphrase of a key that has one.
pub fn existing(name: &str, context: &Context) -> anyhow::Result<Secret> {
    terminal::ask(&format!("Passphrase of key {name}: "), Echo::Hidden, context.signals.cancel(), INSTEAD)
}

/// How a new passphrase comes in.
#[derive(clap::Args)]
pub struct NewPassphrase {
    /// Ask for the passphrase on the terminal, twice
    #[arg(long, conflicts_with = "passphrase_file")]
    passphrase: bool,
    /// Take the passphrase from a file's first line; others may not be able to read the file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl NewPassphrase {
    /// Returns the passphrase, if there is to be one.
    pub fn read(&self, context: &Context, engine: &Engine) -> anyhow::Result<Option<Secret>> {
        if let Some(file) = &self.passphrase_file {
            return Ok(Some(engine.read_passphrase(file)?));
        }
        if !self.passphrase {
            return Ok(None);
        }
        let ask = |question| terminal::ask(question, Echo::Hidden, context.signals.cancel(), INSTEAD);
        let first = ask("New passphrase: ").context("read the passphrase")?;
        anyhow::ensure!(!first.expose().is_empty(), "the passphrase is empty");
        let second = ask("The same again: ").context("read the passphrase")?;
        anyhow::ensure!(first == second, "the two passphrases differ");
        Ok(Some(first))
    }

    /// Returns the passphrase that is given without asking, if any.
    pub fn given_in_file(&self, engine: &Engine) -> anyhow::Result<Option<Secret>> {
        Ok(self.passphrase_file.as_ref().map(|file| engine.read_passphrase(file)).transpose()?)
    }
}
