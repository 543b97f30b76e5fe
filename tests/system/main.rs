//! Whole-system tests: the release `mvmctl`, a real registry, images made by other tools, real guests.
//!
//! A test names what it needs. Where that is missing it is skipped, with the reason, and counts as skipped.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program reports on its standard streams"
)]

mod audit;
mod bad_input;
mod boots;
mod builder;
mod closures;
mod concurrency;
mod confinement;
mod corpus;
mod crash;
mod credentials;
mod door;
mod export;
mod faults;
mod flake_build;
mod flakes;
mod harness;
mod health;
mod host_directories;
mod hostile;
mod hostile_guest;
mod images;
mod keys;
mod lifecycle;
mod lifetimes;
mod load;
mod network;
mod plans;
mod policy;
mod properties;
mod reproducible;
mod run;
mod scopes;
mod services;
mod sharing;
mod signatures;
mod store;
mod unprivileged;
mod up;
mod user_network;
mod verify;
mod vms;
mod volumes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use mvm_tests::need::Need;

/// What a test returns.
type Outcome = Result<(), Failed>;

/// One test: its name, what it needs, what it does.
struct Case {
    name: &'static str,
    needs: &'static [Need],
    run: fn() -> Outcome,
}

const UMOCI: Need = Need::Program("umoci", "umoci");
const SKOPEO: Need = Need::Program("skopeo", "skopeo");
const GCC: Need = Need::Program("gcc", "gcc");
const BUSYBOX: Need = Need::Program("busybox", "busybox-static");
const MMDEBSTRAP: Need = Need::Program("mmdebstrap", "mmdebstrap");
const MKE2FS: Need = Need::Program("mke2fs", "e2fsprogs");
const BUILDAH: Need = Need::Program("buildah", "buildah");

/// What it takes to boot the busybox image.
const GUEST: &[Need] = &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX];

/// What it takes to pull the busybox image from a registry.
const PULL: &[Need] = &[Need::Mvmctl, Need::Registry, UMOCI, SKOPEO, BUSYBOX];

fn main() -> ExitCode {
    if let Some(code) = unprivileged::without_kvm_helper()
        .or_else(mvm_tests::corpus::measure::helper)
        .or_else(mvm_tests::corpus::nars::helper)
    {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Two guests at a time fit everywhere; more only make each other late.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let cases = [
        audit::CASES,
        bad_input::CASES,
        boots::CASES,
        builder::CASES,
        closures::CASES,
        concurrency::CASES,
        confinement::CASES,
        crash::CASES,
        credentials::CASES,
        door::CASES,
        export::CASES,
        flake_build::CASES,
        flakes::CASES,
        harness::CASES,
        health::CASES,
        host_directories::CASES,
        hostile::CASES,
        hostile_guest::CASES,
        images::CASES,
        keys::CASES,
        lifecycle::CASES,
        lifetimes::CASES,
        load::CASES,
        network::CASES,
        plans::CASES,
        policy::CASES,
        properties::CASES,
        reproducible::CASES,
        run::CASES,
        scopes::CASES,
        services::CASES,
        signatures::CASES,
        sharing::CASES,
        store::CASES,
        unprivileged::CASES,
        user_network::CASES,
        up::CASES,
        verify::CASES,
        vms::CASES,
        volumes::CASES,
    ];
    let mut skipped = Vec::new();
    let trials = cases.into_iter().flatten().map(|case| {
        let missing = case.needs.iter().find_map(|need| need.missing());
        if let Some(reason) = &missing {
            skipped.push(format!("SKIP {}: {reason}", case.name));
        }
        Trial::test(case.name, case.run).with_ignored_flag(missing.is_some())
    });
    let mut trials: Vec<Trial> = trials.collect();
    let (cases, reasons) = corpus::trials();
    trials.extend(cases);
    skipped.extend(reasons);
    trials.extend(faults::trials());
    skipped.extend(faults::known());
    let list = arguments.list;
    if !list {
        skipped.iter().for_each(|line| println!("{line}"));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !list {
        mvm_tests::corpus::report(faults::passed()).iter().for_each(|line| println!("{line}"));
        let (passed, failed, ignored) =
            (conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
        println!("{passed} passed, {failed} failed, {ignored} skipped");
    }
    if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Fails a test with words unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        // Not negated: a comparison of floats may be the condition.
        if $condition {
        } else {
            return Err(libtest_mimic::Failed::from(format!($($words)+)));
        }
    };
}

/// Fails a test with both values unless they are equal.
macro_rules! ensure_eq {
    ($got:expr, $expected:expr) => {
        match (&$got, &$expected) {
            (got, expected) => $crate::ensure!(
                *got == *expected,
                "{}:{}: {} is {got:?}, expected {expected:?}",
                file!(),
                line!(),
                stringify!($got)
            ),
        }
    };
}
use {ensure, ensure_eq};
