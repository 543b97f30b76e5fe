//! The corpus of hostile and of odd images, each case a test of its own.

use libtest_mimic::{Failed, Trial};
use mvm_tests::corpus;
use mvm_tests::need::Need;

/// Returns a test for each case, and a line for each one that is skipped.
pub fn trials() -> (Vec<Trial>, Vec<String>) {
    let missing = Need::Mvmctl.missing();
    let mut skipped = Vec::new();
    let trials = corpus::cases().into_iter().map(|case| {
        let name = format!("corpus::{case:?}");
        let reason = missing.clone().or_else(|| case.known.map(|why| format!("known: {why}")));
        if let Some(reason) = &reason {
            skipped.push(format!("SKIP {name}: {reason}"));
        }
        let test =
            move || corpus::run(&case).map_err(|error| Failed::from(format!("{error}\n({})", case.why)));
        Trial::test(name, test).with_ignored_flag(reason.is_some())
    });
    let mut trials: Vec<Trial> = trials.collect();
    trials.extend(corpus::nars::cases().into_iter().map(|case| {
        let why = move |error| Failed::from(format!("{error}\n({})", case.why));
        Trial::test(format!("corpus::nars::{}", case.name), move || corpus::nars::run(&case).map_err(why))
    }));
    (trials, skipped)
}
