//! The health check of a VM's main process: the image's own, as docker's images have it, and what options make of it.

use crate::error::EngineError;
use mvm_plan::plan::{HealthCheck, Process};
use mvm_ref::Healthcheck;

/// The name of the check in plans.
const NAME: &str = "image";
/// Docker's times and number where an image says nothing.
const INTERVAL_SECS: u32 = 30;
const TIMEOUT_SECS: u32 = 30;
const RETRIES: u32 = 3;
/// The longest time that a plan may have, a day.
const MAX_SECS: i64 = 24 * 60 * 60;
const MAX_RETRIES: i64 = 1000;

/// How to see whether the main process is well, as far as it differs from what the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadHealth {
    /// No check at all, also not the image's.
    pub none: bool,
    /// Replaces the image's check: a text for `/bin/sh -c`.
    pub command: Option<String>,
    /// Seconds from the end of one run to the start of the next.
    pub interval_secs: Option<u32>,
    /// Seconds after which a run has failed.
    pub timeout_secs: Option<u32>,
    /// Seconds after the start in which failures don't count.
    pub start_period_secs: Option<u32>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
}

/// Returns the check of the process `main`, if the image or the options have one.
pub(super) fn check(
    wanted: &WorkloadHealth,
    image: Option<&Healthcheck>,
    main: &Process,
) -> Result<Option<HealthCheck>, EngineError> {
    if wanted.none {
        return Ok(None);
    }
    let shell = |command: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()];
    let test = image.map_or(&[][..], |image| image.test.as_slice());
    let argv = match (&wanted.command, test) {
        (Some(command), _) => shell(command),
        (None, []) => return unused(wanted),
        (None, [kind]) if kind == "NONE" => return unused(wanted),
        (None, [kind, command]) if kind == "CMD-SHELL" => shell(command),
        (None, [kind, argv @ ..]) if kind == "CMD" && !argv.is_empty() => argv.to_vec(),
        (None, other) => {
            let problem = format!(
                "is {other:?}, neither CMD nor CMD-SHELL with a command; use --health-cmd or --no-healthcheck"
            );
            return Err(EngineError::Option { option: "the image's health check", problem });
        }
    };
    // What replaces the image's command has no business with the image's times.
    let image = image.filter(|_| wanted.command.is_none());
    let seconds = |time: fn(&Healthcheck) -> i64| image.and_then(|image| whole_seconds(time(image)));
    let retries = image.map_or(0, |image| image.retries);
    let retries = u32::try_from(retries.clamp(0, MAX_RETRIES)).ok().filter(|retries| *retries > 0);
    Ok(Some(HealthCheck {
        name: NAME
            .parse()
            .map_err(|source: mvm_ref::NameError| EngineError::Plan { act: "make", source: source.into() })?,
        service: None,
        process: Process { argv, tty: false, stdin: false, ..main.clone() },
        interval_secs: wanted
            .interval_secs
            .or_else(|| seconds(|image| image.interval))
            .unwrap_or(INTERVAL_SECS),
        timeout_secs: wanted.timeout_secs.or_else(|| seconds(|image| image.timeout)).unwrap_or(TIMEOUT_SECS),
        start_period_secs: wanted
            .start_period_secs
            .or_else(|| seconds(|image| image.start_period))
            .unwrap_or(0),
        retries: wanted.retries.or(retries).unwrap_or(RETRIES),
    }))
}

/// Refuses options about a check that there isn't.
fn unused(wanted: &WorkloadHealth) -> Result<Option<HealthCheck>, EngineError> {
    let given = [
        (wanted.interval_secs.is_some(), "--health-interval"),
        (wanted.timeout_secs.is_some(), "--health-timeout"),
        (wanted.start_period_secs.is_some(), "--health-start-period"),
        (wanted.retries.is_some(), "--health-retries"),
    ];
    match given.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => {
            let problem = "is about a health check, and there is none; give one with --health-cmd".to_owned();
            Err(EngineError::Option { option, problem })
        }
        None => Ok(None),
    }
}

/// Returns nanoseconds as seconds, rounded up, a day at most; nothing for what stands for the default.
fn whole_seconds(nanoseconds: i64) -> Option<u32> {
    let seconds = (nanoseconds > 0).then(|| (nanoseconds - 1) / 1_000_000_000 + 1)?;
    u32::try_from(seconds.min(MAX_SECS)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: test.iter().map(|word| (*word).to_owned()).collect(),
            interval: 5_000_000_001,
            timeout: 1,
            start_period: -3,
            retries: 7,
        }
    }

    fn main() -> Process {
        Process {
            argv: vec!["/server".to_owned()],
            env: vec!["A=1".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "app".to_owned(),
            stop_signal: mvm_plan::signal::Signal::TERM,
            tty: true,
            stdin: true,
        }
    }

    /// Command and times of a check.
    type Made = (Vec<String>, [u32; 4]);

    /// Returns what the check amounts to, or the error.
    fn made(wanted: &WorkloadHealth, image: Option<&Healthcheck>) -> Result<Option<Made>, String> {
        let check = check(wanted, image, &main()).map_err(|error| error.to_string())?;
        Ok(check.map(|check| {
            let HealthCheck { name, service, process, .. } = &check;
            assert_eq!((name.as_str(), service), ("image", &None));
            let expected = Process { argv: process.argv.clone(), tty: false, stdin: false, ..main() };
            assert_eq!(*process, expected, "as the main process in all else");
            let times = [check.interval_secs, check.timeout_secs, check.start_period_secs, check.retries];
            (check.process.argv, times)
        }))
    }

    #[test]
    fn the_image_and_the_options_combine_as_in_docker() {
        let none = WorkloadHealth::default();
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let shell = image(&["CMD-SHELL", "curl x || exit 1"]);
        let sh = argv(&["/bin/sh", "-c", "curl x || exit 1"]);
        assert_eq!(made(&none, None), Ok(None));
        assert_eq!(made(&none, Some(&image(&[]))), Ok(None));
        assert_eq!(made(&none, Some(&image(&["NONE"]))), Ok(None));
        assert_eq!(made(&none, Some(&shell)), Ok(Some((sh.clone(), [6, 1, 0, 7]))));
        let cmd = image(&["CMD", "/check", "-q"]);
        assert_eq!(made(&none, Some(&cmd)), Ok(Some((argv(&["/check", "-q"]), [6, 1, 0, 7]))));
        let plain = Healthcheck { test: cmd.test.clone(), ..Healthcheck::default() };
        assert_eq!(made(&none, Some(&plain)), Ok(Some((argv(&["/check", "-q"]), [30, 30, 0, 3]))));
        let long = Healthcheck { interval: i64::MAX, retries: i64::MAX, ..plain };
        assert_eq!(made(&none, Some(&long)), Ok(Some((argv(&["/check", "-q"]), [86_400, 30, 0, 1000]))));

        let off = WorkloadHealth { none: true, ..WorkloadHealth::default() };
        assert_eq!(made(&off, Some(&shell)), Ok(None));
        let times = WorkloadHealth {
            interval_secs: Some(1),
            timeout_secs: Some(2),
            start_period_secs: Some(3),
            retries: Some(4),
            ..WorkloadHealth::default()
        };
        assert_eq!(made(&times, Some(&shell)), Ok(Some((sh, [1, 2, 3, 4]))));
        let own = WorkloadHealth { command: Some("true".to_owned()), ..WorkloadHealth::default() };
        assert_eq!(made(&own, Some(&shell)), Ok(Some((argv(&["/bin/sh", "-c", "true"]), [30, 30, 0, 3]))));
    }

    #[test]
    fn what_makes_no_check_is_refused() {
        let none = WorkloadHealth::default();
        for test in [&["CMD"][..], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["curl", "x"], &["NONE", "x"]] {
            let error = made(&none, Some(&image(test))).unwrap_err();
            assert!(error.contains("use --health-cmd or --no-healthcheck"), "{test:?}: {error}");
        }
        let interval = WorkloadHealth { interval_secs: Some(1), ..WorkloadHealth::default() };
        let error = made(&interval, None).unwrap_err();
        assert!(error.contains("--health-interval"), "{error}");
    }
}
