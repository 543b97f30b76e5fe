//! `mvmctl key …`.

use crate::commands::signing::{self, NewPassphrase};
use crate::context::Context;
use anyhow::Context as _;
use clap::Subcommand;
use mvm_engine::{KeyListing, PrivateHalf, StoredKey};
use mvm_ref::KeyName;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make, list, bring, give out, trust, revoke and replace the keys that sign plans
///
/// Keys are Ed25519, as PEM files that openssl reads. The key `local` is made at first use and is a development key.
#[derive(Subcommand)]
pub enum Command {
    /// Make a key, and trust it
    Generate {
        /// Mark it as a development key, which production policy refuses
        #[arg(long)]
        development: bool,
        #[command(flatten)]
        passphrase: NewPassphrase,
        /// What to call it
        name: KeyName,
    },
    /// List keys: whether they can sign here, and whether their signatures count
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring a private key into the store, and trust it
    ///
    /// The file must be PKCS#8 PEM that nobody else can read. A passphrase that opens it protects it in the store too.
    Import {
        /// What to call it
        #[arg(long)]
        name: KeyName,
        /// Mark it as a development key, which production policy refuses
        #[arg(long)]
        development: bool,
        #[command(flatten)]
        passphrase: NewPassphrase,
        /// The private key
        file: PathBuf,
    },
    /// Print a key's public half as PEM, for others to trust
    Export {
        /// The private half instead, under its passphrase if it has one
        #[arg(long)]
        private: bool,
        /// Write to a new file, which nobody else can read
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// A key's name, its ID or the beginning of that
        key: String,
    },
    /// Let the signatures of a public key count
    Trust {
        /// What to call it
        #[arg(long)]
        name: KeyName,
        /// Mark it as a development key, which production policy refuses
        #[arg(long)]
        development: bool,
        /// The public key as PEM
        file: PathBuf,
    },
    /// Let a key's signatures count no more, for ever; it stays listed
    Revoke {
        /// A key's name, its ID or the beginning of that
        #[arg(required = true)]
        key: Vec<String>,
    },
    /// Make a new key in the place of another, which is revoked or counts for some more days
    ///
    /// The private half of the old one goes. Its name becomes NAME~ and the beginning of its ID.
    Rotate {
        /// Let signatures of the old key count for so many days more, instead of revoking it now
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3660))]
        keep_for: Option<u32>,
        #[command(flatten)]
        passphrase: NewPassphrase,
        /// The key to replace
        name: KeyName,
    },
    /// Remove keys, and forget whether they were trusted or revoked
    Rm {
        /// A key's name, its ID or the beginning of that
        #[arg(required = true)]
        key: Vec<String>,
    },
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    let printer = context.printer;
    match command {
        Command::Generate { development, passphrase, name } => {
            let passphrase = passphrase.read(context, engine)?;
            print_id(context, &engine.generate_key(&name, passphrase.as_ref(), development)?)?;
        }
        Command::Ls { json } => list(context, &engine.keys()?, json)?,
        Command::Import { name, development, passphrase, file } => {
            let (key, passphrase) = match engine.read_private_key(&file)? {
                StoredKey::Open(key) => (key, passphrase.read(context, engine)?),
                StoredKey::Sealed(sealed) => {
                    let given = match passphrase.given_in_file(engine)? {
                        Some(given) => given,
                        None => signing::existing(sealed.name(), context)?,
                    };
                    (sealed.open(&given)?, Some(given))
                }
            };
            print_id(context, &engine.import_key(&name, &key, passphrase.as_ref(), development)?)?;
        }
        Command::Export { private: false, output, key } => {
            write(context, engine.export_public_key(&key)?.as_bytes(), output.as_deref())?;
        }
        Command::Export { private: true, output, key } => {
            anyhow::ensure!(
                output.is_some() || !printer.shows_data(),
                "a private key is not shown on a terminal; give --output FILE"
            );
            write(context, engine.export_private_key(&key)?.as_bytes(), output.as_deref())?;
        }
        Command::Trust { name, development, file } => {
            print_id(context, &engine.trust_key(&file, &name, development)?)?;
        }
        Command::Revoke { key } => {
            for key in key {
                print_id(context, &engine.revoke_key(&key)?)?;
            }
        }
        Command::Rotate { keep_for, passphrase, name } => {
            let passphrase = passphrase.read(context, engine)?;
            let rotated = engine.rotate_key(&name, passphrase.as_ref(), keep_for)?;
            let old = &rotated.old;
            printer.words(format_args!("the key before is {}: {}", old.name, standing(old)));
            print_id(context, &rotated.new)?;
        }
        Command::Rm { key } => {
            for key in key {
                printer.line(engine.remove_key(&key)?.name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_id(context: &Context, key: &KeyListing) -> anyhow::Result<()> {
    context.printer.words(format_args!("key {}: {}", key.name, standing(key)));
    if let Some(id) = key.id {
        context.printer.line(id)?;
    }
    Ok(())
}

fn list(context: &Context, keys: &[KeyListing], json: bool) -> anyhow::Result<()> {
    if json {
        return context.printer.json(&keys);
    }
    let row = |key: &KeyListing| {
        let private = match key.private {
            PrivateHalf::Elsewhere => "not here",
            PrivateHalf::Plain => "here",
            PrivateHalf::Passphrase => "under a passphrase",
        };
        let id = key.id.map_or_else(|| "unknown".to_owned(), |id| format!("{id:.12}"));
        vec![key.name.clone(), id, private.to_owned(), standing(key)]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    Ok(context.printer.table(&["NAME", "ID", "PRIVATE HALF", "SIGNATURES"], &rows)?)
}

/// Says whether a key's signatures count.
fn standing(key: &KeyListing) -> String {
    let kind = if key.development == Some(true) { " for development" } else { "" };
    match (key.revoked, key.until, key.trusted) {
        _ if key.development.is_none() => "not trusted".to_owned(),
        (Some(time), _, _) => format!("revoked at {time}"),
        (None, Some(time), true) => format!("trusted{kind} until {time}"),
        (None, Some(time), false) => format!("retired at {time}"),
        (None, None, _) => format!("trusted{kind}"),
    }
}

/// Writes to a new file of mode 0600, or to stdout.
fn write(context: &Context, text: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = file else { return Ok(context.printer.data(text)?) };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text).and_then(|()| file.sync_all()).with_context(|| format!("write {}", path.display()))
}
