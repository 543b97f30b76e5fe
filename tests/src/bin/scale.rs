//! Writes an image of a given size as an OCI layout: `scale files|bytes|layers N DIRECTORY`.

#![expect(clippy::print_stderr, reason = "a program reports on its standard streams")]

use std::io;
use std::path::Path;
use std::process::ExitCode;

use mvm_tests::fixtures::scale;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [axis, number, directory] = &arguments[..] else { return usage() };
    let Ok(number) = number.parse::<usize>() else { return usage() };
    let directory = Path::new(directory);
    let written: io::Result<()> = match axis.as_str() {
        "files" => scale::files(directory, number),
        "bytes" => scale::bytes(directory, number as u64),
        "layers" => scale::layers(directory, number),
        _ => return usage(),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: cannot write {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: scale files|bytes|layers NUMBER DIRECTORY");
    ExitCode::from(2)
}
