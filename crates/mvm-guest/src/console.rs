//! Words on the guest's console, which the host keeps as a log.

use std::error::Error;
use std::io::Write;

/// Writes one line.
pub(crate) fn say(message: &str) {
    let line = format!("mvm-guest: {message}\n");
    // Standard error is the console; when it can't be written there is nobody left to tell.
    if std::io::stderr().write_all(line.as_bytes()).is_err() {}
}

/// Returns an error with its causes, outermost first.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
