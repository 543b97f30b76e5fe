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
const KNOWN: &[(&str, &str)] = &[
    ("config_cut_once", "retries"),
    ("connection_reset_once", "retries"),
    ("empty_reply_once", "retries"),
    ("failing_server_talks_without_end", "retries"),
    ("from_tls_to_none", "retries"),
    ("gateway_fails_for_each_part_once", "retries"),
    ("header_of_a_mebibyte", "retries"),
    ("headers_without_end", "retries"),
    ("http_of_another_version", "retries"),
    ("layer_cut_always_at_the_same_byte", "retries"),
    ("layer_cut_at_its_first_byte", "retries"),
    ("layer_cut_at_its_last_byte", "retries"),
    ("layer_cut_once_is_resumed", "retries"),
    ("layer_cut_three_times_is_resumed", "retries"),
    ("layer_ended_early_by_its_connection", "retries"),
    ("layer_fails_always", "retries"),
    ("layer_in_a_chunk_that_is_none_once", "retries"),
    ("layer_limited_once", "retries"),
    ("layer_of_negative_length", "retries"),
    ("layer_of_two_lengths", "retries"),
    ("layer_reset_once", "retries"),
    ("layer_stalls_always", "retries"),
    ("layer_stalls_once", "retries"),
    ("manifest_cut_always", "retries"),
    ("manifest_cut_once", "retries"),
    ("manifest_never_comes", "retries"),
    ("password_for_a_connection_that_breaks_off", "retries"),
    ("range_answered_with_the_whole", "retries"),
    ("rest_of_another_layer_after_a_cut", "retries"),
    ("retry_after_that_says_nothing", "retries"),
    ("server_fails_always", "retries"),
    ("ssh_on_the_port", "retries"),
    ("storage_breaks_off_once", "retries"),
    ("tls_of_a_private_authority", "retries"),
    ("tls_of_another_host", "retries"),
    ("tls_of_the_future", "retries"),
    ("tls_of_the_past", "retries"),
    ("tls_of_the_server_itself", "retries"),
    ("token_server_breaks_off_once", "retries"),
    ("token_server_fails_always", "retries"),
    ("token_server_fails_once", "retries"),
    ("token_server_limits_once", "retries"),
    ("too_many_requests_always", "retries"),
    ("too_many_requests_for_ages", "retries"),
    ("too_many_requests_once", "retries"),
    ("too_many_requests_until_a_date", "retries"),
    ("unavailable_once", "retries"),
];

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
