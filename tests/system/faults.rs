//! A registry that misbehaves, and what a pull from it comes to: the right image, or one error and a clean store.

mod answers;
mod logins;
mod redirects;
mod scene;
mod tls;
mod transfers;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Trial;
use mvm_tests::need::Need;

use crate::Outcome;
use scene::Scene;

/// One way to misbehave.
struct Fault {
    name: &'static str,
    arrange: fn() -> io::Result<Scene>,
    expected: Expected,
    /// Looks at what was heard.
    check: fn(&Scene) -> Outcome,
}

/// What comes of it.
enum Expected {
    /// The image that an undisturbed pull gives.
    Same,
    /// An exit code and words of the error.
    Refused(i32, &'static [&'static str]),
}
use Expected::{Refused, Same};

const TABLES: [&[Fault]; 5] =
    [answers::FAULTS, logins::FAULTS, redirects::FAULTS, tls::FAULTS, transfers::FAULTS];

/// Faults that mvm doesn't meet as it should yet, and what is missing.
const KNOWN: &[(&str, &str)] = &[];

static PASSED: AtomicUsize = AtomicUsize::new(0);

/// Returns how many faults have had their expected outcome so far.
pub fn passed() -> usize {
    PASSED.load(Ordering::SeqCst)
}

/// Returns what is printed about the faults that are left out.
pub fn known() -> impl Iterator<Item = String> {
    KNOWN.iter().map(|(name, why)| format!("SKIP faults::{name}: not met yet: {why}"))
}

/// Returns one test for each fault.
pub fn trials() -> Vec<Trial> {
    let missing = Need::Mvmctl.missing().is_some();
    let trial = |fault: &'static Fault| {
        let known = KNOWN.iter().any(|(name, _)| *name == fault.name);
        Trial::test(format!("faults::{}", fault.name), || try_fault(fault))
            .with_ignored_flag(missing || known)
    };
    TABLES.into_iter().flatten().map(trial).collect()
}

/// Tries of a fault whose pull is late: other programs run on the same machine.
const ATTEMPTS: usize = 3;

fn try_fault(fault: &Fault) -> Outcome {
    let mut late = None;
    for _ in 0..ATTEMPTS {
        let scene = (fault.arrange)()?;
        match fault.expected {
            Same => scene.same()?,
            Refused(code, words) => scene.refused(code, words)?,
        }
        (fault.check)(&scene)?;
        late = scene.late();
        if late.is_none() {
            PASSED.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
    }
    Err(late.unwrap_or_default().into())
}

/// For faults of which the outcome says all.
fn nothing(_: &Scene) -> Outcome {
    Ok(())
}
