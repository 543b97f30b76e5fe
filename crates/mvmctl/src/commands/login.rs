//! `mvmctl login`.

use crate::commands::network::Network;
use crate::context::Context;
use crate::terminal;
use anyhow::Context as _;
use mvm_engine::{KnownUser, Login, LoginCheck, Secret};
use mvm_ref::RegistryName;
use std::io::{self, Read as _};
use std::process::ExitCode;

/// More than any password, and less than what would hurt to hold.
const MAX_SECRET: u64 = 64 << 10;

/// How to log in where nobody can be asked.
const INSTEAD: &str = "give --username and --password-stdin";

/// Keep the user name and password for a registry, once it has accepted them
///
/// They are kept in Docker's file, or with the credential helper that it names: $DOCKER_CONFIG/config.json or
/// ~/.docker/config.json, unless --authfile or $REGISTRY_AUTH_FILE names another file. A password on the command line
/// would be seen by everybody on this machine, so there is no option for it.
#[derive(clap::Args)]
pub struct Args {
    /// User name; asked for on the terminal if absent
    #[arg(long, short, value_name = "USER")]
    username: Option<String>,
    /// Read the password, or an access token in its place, from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Print the user as whom the registry is spoken to, and change nothing
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    get_login: bool,
    #[command(flatten)]
    network: Network,
    /// Registry, HOST[:PORT]
    #[arg(default_value_t)]
    registry: RegistryName,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let (settings, cancel) = (context.settings_over(args.network)?, context.signals.cancel());
    if args.get_login {
        context.printer.line(mvm_engine::logged_in(&settings, &args.registry)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let user = match args.username {
        Some(user) => user,
        None => {
            let asked = terminal::ask("User name: ", terminal::Echo::Visible, cancel, INSTEAD)?;
            asked.expose().to_owned()
        }
    };
    anyhow::ensure!(!user.is_empty(), "a user name is needed");
    let secret = match args.password_stdin {
        true => from_stdin().context("read the password from stdin")?,
        false => terminal::ask("Password: ", terminal::Echo::Hidden, cancel, INSTEAD)?,
    };
    anyhow::ensure!(!secret.expose().is_empty(), "a password is needed");
    let login = Login { user, secret };
    let done = mvm_engine::login(&settings, &args.registry, &login, cancel)?;
    if done.check == LoginCheck::NotAsked {
        context.printer.words(format!("{} asks for no credentials; they are kept unchecked", args.registry));
    }
    context.printer.words(format!("logged in to {} ({})", args.registry, done.path.display()));
    if let Some(KnownUser { user, path }) = done.hidden_by {
        let path = path.display();
        context.printer.words(format!(
            "note: {path} is searched before and has credentials of {registry} too, of user {user}; to forget them: \
             mvmctl logout --authfile {path} {registry}",
            registry = args.registry
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a secret, which a line break may follow.
fn from_stdin() -> anyhow::Result<Secret> {
    let mut text = String::with_capacity(MAX_SECRET as usize + 1);
    let read = io::stdin().lock().take(MAX_SECRET + 1).read_to_string(&mut text);
    let text = terminal::without_line_break(text);
    read?;
    anyhow::ensure!((text.expose().len() as u64) < MAX_SECRET, "it is longer than {MAX_SECRET} bytes");
    Ok(text)
}
