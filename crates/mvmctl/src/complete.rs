//! Completion on the command line: names of VMs, images and volumes, as they are at that moment. Writes nothing.

use crate::cli::{Cli, Global};
use crate::context::Context;
use clap::{Arg, Command, CommandFactory as _, Parser as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use mvm_ref::VmName;
use std::ffi::OsStr;

/// What a word on the command line can name.
#[derive(Clone, Copy)]
enum Noun {
    Vm,
    Image,
    Volume,
}

/// Completes the command line, if a shell asks for it through `$COMPLETE`, and ends the process then.
pub fn complete() {
    clap_complete::CompleteEnv::with_factory(command).complete();
}

/// Returns the command line with completers where something of the store is named.
pub fn command() -> Command {
    named(Cli::command(), &mut Vec::new())
}

fn named(command: Command, path: &mut Vec<String>) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let here = path.clone();
    // In place: the order of positional arguments counts.
    let mut command = command.mut_args(|argument| match noun(&here, argument.get_id().as_str()) {
        Some(noun) => with_names(argument, noun),
        None => argument,
    });
    for name in names {
        path.push(name.clone());
        let within: &mut Vec<String> = path;
        command = command.mut_subcommand(&name, |command| named(command, within));
        path.pop();
    }
    command
}

/// Says what an argument of a verb names, if the store can tell its names.
fn noun(path: &[String], argument: &str) -> Option<Noun> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match (words.as_slice(), argument) {
        (["vm", ..] | ["systemd" | "exec" | "attach" | "logs" | "cp"], "name") | (_, "vm") => Some(Noun::Vm),
        (["start" | "stop" | "restart" | "kill" | "wait" | "rm" | "stats"], "name") => Some(Noun::Vm),
        (["volume", verb], "name") if *verb != "create" => Some(Noun::Volume),
        (["run" | "pull"] | ["plan", "create"] | ["image", ..], "image") => Some(Noun::Image),
        _ => None,
    }
}

fn with_names(argument: Arg, noun: Noun) -> Arg {
    argument.add(ArgValueCompleter::new(move |typed: &OsStr| candidates(noun, typed)))
}

fn candidates(noun: Noun, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    // A store that can't be read completes nothing.
    let names = names(noun).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
}

fn names(noun: Noun) -> anyhow::Result<Vec<String>> {
    let context = Context::new(global())?;
    Ok(match noun {
        // Without a look at what they do: that would put right what a crash left.
        Noun::Vm => {
            let entries = std::fs::read_dir(context.settings().root.join("vms"))?.flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let mut names: Vec<String> = names.filter(|name| name.parse::<VmName>().is_ok()).collect();
            names.sort();
            names
        }
        Noun::Image => {
            let images = context.engine_to_look()?.images()?;
            images.into_iter().filter_map(|image| image.reference).collect()
        }
        Noun::Volume => {
            let volumes = context.engine_to_look()?.volumes()?;
            volumes.into_iter().map(|volume| volume.name.to_string()).collect()
        }
    })
}

/// Returns the global options among the words that are completed, which follow a `--`: which store, which part of it.
fn global() -> Global {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let mut wanted = vec!["mvmctl".to_owned(), "version".to_owned()];
    for option in ["--root", "--scope"] {
        let value =
            words.iter().enumerate().rev().find_map(|(at, word)| match word.strip_prefix(option)? {
                "" => words.get(at + 1).cloned(),
                value => value.strip_prefix('=').map(str::to_owned),
            });
        wanted.extend(value.map(|value| format!("{option}={value}")));
    }
    let parsed = Cli::try_parse_from(wanted).or_else(|_| Cli::try_parse_from(["mvmctl", "version"]));
    // `version` takes no arguments that could be wrong.
    parsed.expect("a verb without arguments").global
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_name_something_are_found() {
        let table: [(&[&str], &str, bool); 10] = [
            (&["vm", "status"], "name", true),
            (&["stop"], "name", true),
            (&["logs"], "name", true),
            (&["events"], "vm", true),
            (&["image", "rm"], "image", true),
            (&["run"], "image", true),
            (&["run"], "name", false),
            (&["volume", "rm"], "name", true),
            (&["volume", "create"], "name", false),
            (&["key", "generate"], "name", false),
        ];
        for (path, argument, expected) in table {
            let path: Vec<String> = path.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(noun(&path, argument).is_some(), expected, "{path:?} {argument}");
            // The command line has such an argument.
            let mut command = command();
            for word in &path {
                command = command.find_subcommand(word).unwrap().clone();
            }
            assert!(command.get_arguments().any(|known| known.get_id() == argument), "{path:?} {argument}");
        }
    }
}
