//! Services, health checks and users of a VM.

use super::mistakes::Span;
use super::reader::{Reading, Table, Value, suggestion};
use mvm_plan::plan::{AccountName, Group, HealthCheck, Process, Restart, Service, ServiceLimits, User};
use mvm_plan::signal::Signal;
use mvm_ref::{CheckName, ServiceName};
use std::str::FromStr;

const DAY: u32 = 24 * 60 * 60;
/// Failures in a row that make a check unhealthy where nothing else is said, as docker has it.
const RETRIES: u32 = 3;
/// The first number of users whose number isn't said.
const FIRST_UID: u32 = 1000;

/// What is kept running in a VM and who runs it.
pub(super) struct Services {
    pub services: Vec<Service>,
    pub health_checks: Vec<HealthCheck>,
    pub users: Vec<User>,
    pub service_group: Option<Group>,
}

/// Reads all of it from a VM's table. `main` says whether there is a main process, whose user checks have then.
pub(super) fn read<'a>(vm: &mut Table<'a>, name: &str, main: bool, reading: &mut Reading<'a>) -> Services {
    let service_group = vm.get("service-group").and_then(|value| group(value, reading));
    let mut users = vm.get("users").map_or_else(Vec::new, |value| read_users(value, name, reading));
    let default = service_group.clone().unwrap_or_else(Group::service);
    let mut services = Vec::new();
    let mut needs_default = false;
    let mut afters = Vec::new();
    let entries = named(vm.get("services"), &format!("[vm.{name}.services]"), reading);
    // Also those that turn out to be wrong, so that nothing else is for their sake.
    let known: Vec<&str> = entries.iter().map(|(_, value)| value.key).collect();
    for (key, value) in entries {
        let title = format!("[vm.{name}.services.{}]", value.key);
        let Some(table) = reading.table(value, title) else { continue };
        let name = name_of(key, value.key, reading);
        if let Some(service) = service(table.at(key), value.key, name, &default.name, &mut afters, reading) {
            needs_default |= service.process.user == default.name.as_str();
            services.push(service);
        }
    }
    check_order(&known, &afters, reading);
    let mut health_checks = Vec::new();
    for (key, value) in named(vm.get("health"), &format!("[vm.{name}.health]"), reading) {
        let title = format!("[vm.{name}.health.{}]", value.key);
        let Some(table) = reading.table(value, title) else { continue };
        let name = name_of(key, value.key, reading);
        let user = if main { "" } else { default.name.as_str() };
        if let Some(check) = health_check(table.at(key), name, (&known, &services), user, reading) {
            needs_default |= check.process.user == default.name.as_str();
            health_checks.push(check);
        }
    }
    if needs_default && users.iter().all(|user| user.name != default.name) {
        let home = format!("/home/{}", default.name);
        users.push(User { name: default.name.clone(), uid: default.gid, group: default, home });
    }
    Services { services, health_checks, users, service_group }
}

/// Returns the entries of a table of tables.
pub(super) fn named<'a>(
    value: Option<Value<'a>>,
    title: &str,
    reading: &mut Reading<'a>,
) -> Vec<(Span, Value<'a>)> {
    let table = value.and_then(|value| reading.table(value, title.to_owned()));
    table.map_or_else(Vec::new, |table| table.items().collect())
}

/// Reads the name that a key gives to something.
pub(super) fn name_of<T>(span: Span, key: &str, reading: &mut Reading<'_>) -> Option<T>
where
    T: FromStr<Err: std::error::Error>,
{
    match key.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            reading.mistake(span, error.to_string());
            None
        }
    }
}

fn service<'a>(
    mut table: Table<'a>,
    key: &'a str,
    name: Option<ServiceName>,
    default_user: &AccountName,
    afters: &mut Vec<(Span, &'a str, &'a str)>,
    reading: &mut Reading<'a>,
) -> Option<Service> {
    let command = table.require("command", reading);
    let command = command.and_then(|value| reading.command(value));
    let user = match table.get("user") {
        Some(value) => reading.word(value).map(|user| {
            if is_root(user) {
                reading.mistake(value.span, "a service never runs as root; `pre-start` does, once");
            }
            user.to_owned()
        }),
        None => Some(default_user.as_str().to_owned()),
    };
    let env = table.get("env").map_or_else(Vec::new, |value| reading.environment(value));
    let working_dir = table.get("workdir").and_then(|value| reading.path(value)).unwrap_or_default();
    let pre_start = table.get("pre-start").and_then(|value| reading.command(value)).unwrap_or_default();
    let mut after = Vec::new();
    if let Some(value) = table.get("after") {
        for item in reading.list(value) {
            if let Some(other) = reading.text(item) {
                afters.push((item.span, key, other));
                after.extend(other.parse::<ServiceName>().ok());
            }
        }
    }
    let restarts =
        [("always", Restart::Always), ("on-failure", Restart::OnFailure), ("never", Restart::Never)];
    let restart = table.get("restart").and_then(|value| reading.choice(value, &restarts));
    let log_file = table.get("log-file").and_then(|value| reading.path(value));
    let stop_signal = table.get("stop-signal").and_then(|value| reading.signal(value));
    let stop_grace = table.get("stop-grace").and_then(|value| reading.seconds(value, 0..=DAY));
    let limits = table.get("limits").map_or_else(ServiceLimits::default, |value| limits(value, reading));
    table.finish(reading);
    Some(Service {
        name: name?,
        process: process(command?, env, working_dir, user?, stop_signal.unwrap_or(Service::STOP_SIGNAL)),
        pre_start,
        after,
        restart: restart.unwrap_or(Restart::Always),
        log_file,
        stop_grace_secs: stop_grace.unwrap_or(Service::STOP_GRACE_SECS),
        limits,
    })
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse() == Ok(0_u32)
}

fn process(
    argv: Vec<String>,
    env: Vec<String>,
    working_dir: String,
    user: String,
    stop_signal: Signal,
) -> Process {
    Process { argv, env, working_dir, user, stop_signal, tty: false, stdin: false }
}

fn limits<'a>(value: Value<'a>, reading: &mut Reading<'a>) -> ServiceLimits {
    let Some(mut table) = reading.table(value, "`limits`".to_owned()) else {
        return ServiceLimits::default();
    };
    let limits = ServiceLimits {
        memory_mib: table.get("memory").and_then(|value| reading.mebibytes(value, 1)),
        pids: table.get("pids").and_then(|value| reading.number(value, 1..=4_194_304)),
        cpu_percent: table.get("cpus").and_then(|value| reading.processors(value)),
    };
    table.finish(reading);
    limits
}

/// Checks that services start after services that there are, and none after itself by any way round.
fn check_order(names: &[&str], afters: &[(Span, &str, &str)], reading: &mut Reading<'_>) {
    for (span, _, other) in afters {
        if !names.contains(other) {
            let message = format!("there is no service `{}` in this VM", other.escape_debug());
            reading.mistake_with(*span, message, suggestion(other, names));
        }
    }
    let edges: Vec<(&str, &str)> = afters.iter().map(|(_, from, to)| (*from, *to)).collect();
    if let Some(circle) = circle(names, &edges)
        && let Some((span, ..)) = afters.iter().find(|(_, from, to)| circle[0] == *from && circle[1] == *to)
    {
        reading
            .mistake(*span, format!("services start after each other in a circle: {}", circle.join(" → ")));
    }
}

/// Returns a way from a name back to itself, which is first and last in it, if there is one.
pub(super) fn circle<'a>(names: &[&'a str], edges: &[(&'a str, &'a str)]) -> Option<Vec<&'a str>> {
    let mut left: Vec<&str> = names.to_vec();
    // Whoever waits for nobody that is left can't be in a circle.
    loop {
        let free = |name: &&str| !edges.iter().any(|(from, to)| from == name && left.contains(to));
        match left.iter().position(free) {
            Some(index) => left.swap_remove(index),
            None => break,
        };
    }
    left.sort_unstable();
    let mut way = vec![*left.first()?];
    loop {
        let last = way[way.len() - 1];
        let (_, next) = edges.iter().find(|(from, to)| *from == last && left.contains(to))?;
        if let Some(start) = way.iter().position(|name| name == next) {
            way.push(next);
            return Some(way.split_off(start));
        }
        way.push(next);
    }
}

fn health_check<'a>(
    mut table: Table<'a>,
    name: Option<CheckName>,
    (known, services): (&[&str], &[Service]),
    user: &str,
    reading: &mut Reading<'a>,
) -> Option<HealthCheck> {
    let command = table.require("command", reading);
    let command = command.and_then(|value| reading.command(value));
    let mut of_service = None;
    if let Some(value) = table.get("service")
        && let Some(text) = reading.text(value)
    {
        of_service = services.iter().find(|service| service.name.as_str() == text);
        if !known.contains(&text) {
            let message = format!("there is no service `{}` in this VM", text.escape_debug());
            reading.mistake_with(value.span, message, suggestion(text, known));
        }
    }
    let own_user = table.get("user").and_then(|value| reading.word(value));
    let user = own_user.unwrap_or_else(|| of_service.map_or(user, |service| &service.process.user));
    let own_env = table.get("env").map_or_else(Vec::new, |value| reading.environment(value));
    let env = crate::run::merge_env(of_service.map_or(&[][..], |service| &service.process.env), &own_env);
    let mut seconds = |key, range| table.get(key).and_then(|value| reading.seconds(value, range));
    let interval = seconds("interval", 1..=DAY);
    let timeout = seconds("timeout", 1..=DAY);
    let start_period = seconds("start-period", 0..=DAY);
    let retries = table.get("retries").and_then(|value| reading.number(value, 1..=1000));
    table.finish(reading);
    Some(HealthCheck {
        name: name?,
        service: of_service.map(|service| service.name.clone()),
        process: process(command?, env, String::new(), user.to_owned(), Service::STOP_SIGNAL),
        interval_secs: interval.unwrap_or(HealthCheck::INTERVAL_SECS),
        timeout_secs: timeout.unwrap_or(HealthCheck::TIMEOUT_SECS),
        start_period_secs: start_period.unwrap_or(0),
        retries: retries.unwrap_or(RETRIES),
    })
}

fn group<'a>(value: Value<'a>, reading: &mut Reading<'a>) -> Option<Group> {
    let gid = Group::service().gid;
    if value.is_text() {
        return Some(Group { name: reading.parsed(value)?, gid });
    }
    let mut table = reading.table(value, "`service-group`".to_owned())?;
    let name = table.require("name", reading).and_then(|value| reading.parsed(value));
    let number = table.get("gid").map_or(Some(gid), |value| reading.number(value, 1..=u32::MAX - 1));
    table.finish(reading);
    Some(Group { name: name?, gid: number? })
}

/// A user as the file has it.
struct Account {
    name: AccountName,
    uid: Option<u32>,
    gid: Option<u32>,
    group: Option<AccountName>,
    home: Option<String>,
}

fn read_users<'a>(value: Value<'a>, vm: &str, reading: &mut Reading<'a>) -> Vec<User> {
    let mut accounts = Vec::new();
    for (key, value) in named(Some(value), &format!("[vm.{vm}.users]"), reading) {
        let Some(table) = reading.table(value, format!("[vm.{vm}.users.{}]", value.key)) else { continue };
        let mut table = table.at(key);
        let name = name_of(key, value.key, reading);
        let mut number = |key| table.get(key).and_then(|value| reading.number(value, 1..=u32::MAX - 1));
        let (uid, gid) = (number("uid"), number("gid"));
        let group = table.get("group").and_then(|value| reading.parsed(value));
        let home = table.get("home").and_then(|value| reading.path(value));
        table.finish(reading);
        accounts.extend(name.map(|name| Account { name, uid, gid, group, home }));
    }
    let mut taken: Vec<u32> = accounts.iter().filter_map(|account| account.uid).collect();
    let mut users = Vec::new();
    for Account { name, uid, gid, group, home } in accounts {
        let uid = uid.or_else(|| (FIRST_UID..u32::MAX).find(|number| !taken.contains(number)));
        let Some(uid) = uid else { continue };
        taken.push(uid);
        let home = home.unwrap_or_else(|| format!("/home/{name}"));
        let group = Group { name: group.unwrap_or_else(|| name.clone()), gid: gid.unwrap_or(uid) };
        users.push(User { name, uid, group, home });
    }
    users
}
