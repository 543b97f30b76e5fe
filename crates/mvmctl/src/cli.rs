//! The command line: global options and the verbs.

use crate::commands;
use clap::{Parser, Subcommand};
use mvm_ref::ScopeName;
use std::path::PathBuf;

/// Runs OCI images and Nix flakes as verified microVMs.
#[derive(Parser)]
#[command(
    name = "mvmctl",
    version,
    about,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found, 4 verification failed, 5 refused by \
                  policy, 6 registry or network, 7 in use or name taken, 8 something is missing on this machine, \
                  9 a flake does not evaluate, 10 a derivation does not build, 11 the builder has too little disk or \
                  memory, 130 interrupted. `run`, `launch` and `exec` return the command's own, 125 when mvmctl fails, \
                  126 when the command can't be executed, 127 when it isn't found. `ps`, `start`, `stop`, \
                  `restart`, `kill`, `wait`, `rm`, `stats`, `logs`, `events`, `attach` are `vm ls`, `vm start` … in short."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every verb takes.
#[derive(clap::Args)]
pub struct Global {
    /// Directory of the store [default: $MVM_ROOT, $XDG_DATA_HOME/mvm or ~/.local/share/mvm]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Partition of the store to work in
    #[arg(long, global = true, value_name = "NAME", default_value_t)]
    pub scope: ScopeName,
    /// File of registry credentials, instead of podman's and Docker's [default: $REGISTRY_AUTH_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Print nothing but data and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Run(Box<commands::run::Args>),
    Launch(commands::launch::Args),
    Up(Box<commands::up::Args>),
    Down(commands::down::Args),
    Validate(commands::validate::Args),
    Exec(commands::exec::Args),
    Cp(commands::cp::Args),
    Attach(commands::attach::Args),
    Ps(commands::vm::ls::Args),
    Stats(commands::vm::stats::Args),
    Logs(commands::logs::Args),
    Events(commands::events::Args),
    Start(commands::vm::start::Start),
    Stop(commands::vm::acts::Stop),
    Restart(commands::vm::start::Restart),
    Kill(commands::vm::acts::Kill),
    Wait(commands::vm::acts::Wait),
    Rm(commands::vm::acts::Rm),
    Systemd(commands::systemd::Args),
    Build(Box<commands::build::Args>),
    #[command(subcommand)]
    Flake(commands::flake::Command),
    Pull(commands::pull::Args),
    Login(commands::login::Args),
    Logout(commands::logout::Args),
    #[command(subcommand)]
    Image(commands::image::Command),
    #[command(subcommand)]
    Vm(commands::vm::Command),
    #[command(subcommand)]
    Volume(commands::volume::Command),
    #[command(subcommand)]
    Builder(commands::builder::Command),
    #[command(subcommand)]
    Kernel(commands::kernel::Command),
    #[command(subcommand)]
    Plan(commands::plan::Command),
    #[command(subcommand)]
    Key(commands::key::Command),
    #[command(subcommand)]
    Policy(commands::policy::Command),
    #[command(subcommand)]
    Audit(commands::audit::Command),
    Gc(commands::gc::Args),
    Df(commands::df::Args),
    #[command(subcommand)]
    Scope(commands::scope::Command),
    Doctor(commands::doctor::Args),
    Version(commands::version::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    #[command(hide = true)]
    Supervise(commands::supervise::Args),
}
