//! The command line of mvm: flags, words and exit codes.

mod cli;
mod commands;
mod complete;
mod context;
mod environment;
mod error;
mod files;
mod flake_library;
mod guest;
mod printer;
mod progress;
mod signals;
mod terminal;

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command};
use context::Context;
use std::process::ExitCode;

fn main() -> ExitCode {
    complete::complete();
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let runs_a_command =
        matches!(command, Command::Run(_) | Command::Launch(_) | Command::Exec(_) | Command::Attach(_));
    let context = match Context::new(global) {
        Ok(context) => context,
        Err(failure) => return error::report(&failure, runs_a_command),
    };
    match dispatch(&context, command) {
        Ok(code) => code,
        Err(failure) => error::report(&failure, runs_a_command),
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
///
/// The codes of `run` and `exec` are their command's, so wrong usage of them is 125 and not 2, as in docker.
fn explain(error: &clap::Error) -> ExitCode {
    if error.print().is_err() {
        // A closed stdout or stderr is nobody listening.
    }
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let verb = Cli::command().ignore_errors(true).try_get_matches().ok();
    let verb = verb.as_ref().and_then(clap::ArgMatches::subcommand_name);
    ExitCode::from(if matches!(verb, Some("run" | "launch" | "exec" | "attach")) { 125 } else { 2 })
}

fn dispatch(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => commands::run::run(context, *args),
        Command::Launch(args) => commands::launch::run(context, args),
        Command::Up(args) => commands::up::run(context, *args),
        Command::Down(args) => commands::down::run(context, args),
        Command::Validate(args) => commands::validate::run(context, args),
        Command::Exec(args) => commands::exec::run(context, args),
        Command::Cp(args) => commands::cp::run(context, args),
        Command::Attach(args) => commands::attach::run(context, args),
        Command::Ps(args) => commands::vm::ls::run(context, &args),
        Command::Start(args) => commands::vm::start::start(context, args),
        Command::Restart(args) => commands::vm::start::restart(context, &args),
        Command::Stop(args) => commands::vm::acts::stop(context, &args),
        Command::Kill(args) => commands::vm::acts::kill(context, &args),
        Command::Wait(args) => commands::vm::acts::wait(context, &args),
        Command::Rm(args) => commands::vm::acts::rm(context, &args),
        Command::Stats(args) => commands::vm::stats::run(context, &args),
        Command::Logs(args) => commands::logs::run(context, args),
        Command::Events(args) => commands::events::run(context, &args),
        Command::Systemd(args) => commands::systemd::run(context, &args),
        Command::Build(args) => commands::build::run(context, *args),
        Command::Flake(command) => commands::flake::run(context, command),
        Command::Pull(args) => commands::pull::run(context, args),
        Command::Login(args) => commands::login::run(context, args),
        Command::Logout(args) => commands::logout::run(context, args),
        Command::Image(command) => commands::image::run(context, command),
        Command::Vm(command) => commands::vm::run(context, command),
        Command::Builder(command) => commands::builder::run(context, command),
        Command::Volume(command) => commands::volume::run(context, command),
        Command::Kernel(command) => commands::kernel::run(context, command),
        Command::Plan(command) => commands::plan::run(context, command),
        Command::Key(command) => commands::key::run(context, command),
        Command::Policy(command) => commands::policy::run(context, command),
        Command::Audit(command) => commands::audit::run(context, command),
        Command::Gc(args) => commands::gc::run(context, args),
        Command::Df(args) => commands::df::run(context, args),
        Command::Scope(command) => commands::scope::run(context, command),
        Command::Doctor(args) => commands::doctor::run(context, args),
        Command::Version(args) => commands::version::run(context, args),
        Command::Completions(args) => commands::completions::run(context, args),
        Command::Man(args) => commands::man::run(context, args),
        Command::Supervise(args) => commands::supervise::run(context, args),
    }
}
