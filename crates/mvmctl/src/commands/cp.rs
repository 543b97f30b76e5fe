//! `mvmctl cp`.

use crate::context::Context;
use crate::error::Misuse;
use anyhow::ensure;
use mvm_engine::CopyOptions;
use mvm_ref::VmName;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Copy files into a running VM or out of it
///
/// A directory is copied with all that is in it: into an existing directory under its own name, or with its contents alone if
/// its path ends with `/.`. `-` is a tar archive on standard input or output. A local path with a colon begins with `/` or `./`.
#[derive(clap::Args)]
pub struct Args {
    /// Keep owners, and set-id bits inside the VM; without it files belong to root in the VM, and to the caller here
    #[arg(long, short)]
    archive: bool,
    /// Follow a symbolic link that SRC names
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// What is copied: PATH, VM:PATH or -
    #[arg(value_name = "SRC")]
    source: String,
    /// Where it is copied to: PATH, VM:PATH or -
    #[arg(value_name = "DEST")]
    target: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    Stream,
    Inside(VmName, String),
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let misuse = |words: &str| Misuse(words.to_owned());
    let options = CopyOptions { owners: args.archive, follow: args.follow_link };
    let cancel = context.signals.cancel();
    match (side(&args.source)?, side(&args.target)?) {
        (Side::Inside(vm, path), Side::Here(target)) => {
            let left = context.engine()?.copy_out(&vm, (&path, &target), options, cancel)?;
            if left.special > 0 {
                let count = left.special;
                context.printer.words(format_args!("left out {count} devices, pipes or sockets"));
            }
        }
        (Side::Inside(vm, path), Side::Stream) => {
            ensure!(
                !context.printer.shows_data(),
                misuse("an archive is nothing for a terminal; redirect it")
            );
            let mut out = io::stdout().lock();
            context.engine()?.copy_out_archive(&vm, &path, &mut out, (options, cancel))?;
            out.flush()?;
        }
        (Side::Here(source), Side::Inside(vm, path)) => {
            context.engine()?.copy_in(&vm, (&source, &path), options, cancel)?;
        }
        (Side::Stream, Side::Inside(vm, path)) => {
            context.engine()?.copy_in_archive(&vm, &path, &mut io::stdin().lock(), (options, cancel))?;
        }
        (Side::Inside(..), Side::Inside(..)) => {
            return Err(misuse("copying from one VM to another is not supported; copy to here and on").into());
        }
        (Side::Here(_) | Side::Stream, Side::Here(_) | Side::Stream) => {
            return Err(misuse("one of SRC and DEST is VM:PATH").into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads one side as docker does: what is before a colon is a VM, unless there is a slash before it or a dot begins it.
fn side(text: &str) -> Result<Side, Misuse> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    match text.split_once(':') {
        Some((vm, path)) if !vm.contains('/') && !vm.starts_with('.') => {
            let name = vm.parse().map_err(|error: mvm_ref::NameError| Misuse(error.to_string()))?;
            let path = if path.is_empty() { "/" } else { path };
            Ok(Side::Inside(name, path.to_owned()))
        }
        _ if text.is_empty() => Err(Misuse("a path is empty".to_owned())),
        _ => Ok(Side::Here(Path::new(text).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_as_docker_writes_them() {
        let here = |path: &str| Some(Side::Here(path.into()));
        let inside = |path: &str| Some(Side::Inside("web".parse().unwrap(), path.to_owned()));
        for (text, expected) in [
            ("-", Some(Side::Stream)),
            ("web:/etc/hosts", inside("/etc/hosts")),
            ("web:etc/.", inside("etc/.")),
            ("web:", inside("/")),
            ("web:/a:b", inside("/a:b")),
            ("./a:b", here("./a:b")),
            ("/a:b", here("/a:b")),
            ("file", here("file")),
            ("Web:/x", None),
            (":/x", None),
            ("", None),
        ] {
            assert_eq!(side(text).ok(), expected, "{text:?}");
        }
    }
}
