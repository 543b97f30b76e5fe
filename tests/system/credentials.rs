//! Private registries, end to end: real ones with a password file and with a token server, and credential helpers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::registry::{Auth, Registry};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::token_server::{PASSWORD, READER, TokenServer, USER};

use crate::{BUSYBOX, Case, Outcome, PULL, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "credentials::basic_auth", needs: PULL, run: basic },
    Case { name: "credentials::token_server", needs: PULL, run: tokens },
    Case { name: "credentials::expired_token", needs: PULL, run: expired },
    Case { name: "credentials::helper", needs: PULL, run: helper },
    Case { name: "credentials::files_in_order", needs: PULL, run: files },
    Case {
        name: "credentials::run_from_a_private_registry",
        needs: &[Need::Mvmctl, Need::Guest, Need::Registry, UMOCI, SKOPEO, BUSYBOX],
        run,
    },
];

const NAME: &str = "team/app:1";

/// Pushes the busybox image as the user who may.
fn push(registry: &Registry) -> Result<String, libtest_mimic::Failed> {
    let creds = format!("{USER}:{PASSWORD}");
    Ok(registry.push(&fixtures::busybox()?, NAME, &["--dest-creds", &creds])?)
}

/// Logs in with a password on stdin.
fn log_in(
    sandbox: &Sandbox,
    host: &str,
    user: &str,
    password: &str,
) -> Result<mvm_tests::process::Output, libtest_mimic::Failed> {
    let login = sandbox.mvmctl(["login", "--username", user, "--password-stdin", host]);
    Ok(login.input(format!("{password}\n")).run()?)
}

/// Whatever the login is checked against: refused before, let in after, forgotten at the end.
fn comes_and_goes(registry: &Registry) -> Outcome {
    let image = push(registry)?;
    let host = registry.address();
    let sandbox = Sandbox::new()?;
    let config = sandbox.path().join(".docker/config.json");
    let refused = sandbox.mvmctl(["pull", &image]).run()?.exits(6)?;
    let hint = format!("mvmctl login {host}");
    ensure!(refused.err().contains(&hint), "the way out is not named: {}", refused.err());

    let wrong = log_in(&sandbox, &host, USER, "wrong-horse")?.exits(6)?;
    ensure!(wrong.err().contains("does not accept this user name and password"), "{}", wrong.err());
    ensure!(!wrong.err().contains("wrong-horse"), "the password is shown: {}", wrong.err());
    ensure!(!config.exists(), "a wrong password was kept");
    sandbox.mvmctl(["login", "--get-login", &host]).run()?.exits(3)?;

    let right = log_in(&sandbox, &host, USER, PASSWORD)?.ok()?;
    ensure_eq!(right.out(), "");
    ensure_eq!(std::fs::metadata(&config)?.permissions().mode() & 0o777, 0o600);
    ensure!(!std::fs::read_to_string(&config)?.contains(PASSWORD), "the password is kept as it is");
    ensure_eq!(sandbox.mvmctl(["login", "--get-login", &host]).run()?.ok()?.out(), format!("{USER}\n"));
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    holds_no_password(&sandbox.store())?;

    sandbox.mvmctl(["logout", &host]).run()?.ok()?;
    sandbox.mvmctl(["logout", &host]).run()?.exits(3)?;
    sandbox.mvmctl(["pull", &image]).run()?.exits(6)?;
    Ok(())
}

/// Looks for the password in every small file of the store, as it is and as headers have it.
fn holds_no_password(directory: &Path) -> Outcome {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            holds_no_password(&entry.path())?;
        } else if entry.metadata()?.len() < 1 << 20 {
            let bytes = std::fs::read(entry.path())?;
            for secret in [PASSWORD, "dXNlcjpjb3JyZWN0IGhvcnNl"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                ensure!(!found, "{} holds the password", entry.path().display());
            }
        }
    }
    Ok(())
}

fn basic() -> Outcome {
    comes_and_goes(&Registry::start_with(&Auth::Password)?)
}

fn tokens() -> Outcome {
    let server = TokenServer::start()?;
    let registry = Registry::start_with(&Auth::Tokens(&server))?;
    comes_and_goes(&registry)?;
    // Who may only read, may read.
    let sandbox = Sandbox::new()?;
    log_in(&sandbox, &registry.address(), READER, PASSWORD)?.ok()?;
    sandbox.mvmctl(["pull", &format!("{}/{NAME}", registry.address())]).run()?.ok()?;
    let scopes: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    ensure!(
        scopes.last().is_some_and(|scope| scope.ends_with("scope=repository%3Ateam%2Fapp%3Apull")),
        "{scopes:?}"
    );
    Ok(())
}

fn expired() -> Outcome {
    let server = TokenServer::start()?;
    let registry = Registry::start_with(&Auth::Tokens(&server))?;
    let image = push(&registry)?;
    let sandbox = Sandbox::new()?;
    log_in(&sandbox, &registry.address(), USER, PASSWORD)?.ok()?;
    server.expire();
    let refused = sandbox.mvmctl(["pull", &image]).run()?.exits(6)?;
    ensure!(refused.err().contains("refuses the stored credentials"), "{}", refused.err());
    let login = log_in(&sandbox, &registry.address(), USER, PASSWORD)?.exits(6)?;
    ensure!(login.err().contains("does not accept"), "{}", login.err());
    Ok(())
}

/// A helper that keeps one login in a file.
const HELPER: &str = r#"#!/bin/sh
set -e
keys=$HOME/keys
case $1 in
store) cat > "$keys" ;;
get) if [ -s "$keys" ]; then cat "$keys"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$keys" ;;
esac
"#;

fn helper() -> Outcome {
    let registry = Registry::start_with(&Auth::Password)?;
    let image = push(&registry)?;
    let host = registry.address();
    let sandbox = Sandbox::new()?;
    let docker = sandbox.path().join(".docker");
    std::fs::create_dir(&docker)?;
    let config = docker.join("config.json");
    std::fs::write(&config, r#"{"credsStore": "tests", "HttpHeaders": {"X": "y"}}"#)?;
    let missing = log_in(&sandbox, &host, USER, PASSWORD)?.exits(8)?;
    ensure!(missing.err().contains("docker-credential-tests is not installed"), "{}", missing.err());

    let bin = sandbox.path().join("bin");
    std::fs::create_dir(&bin)?;
    let program = bin.join("docker-credential-tests");
    std::fs::write(&program, HELPER)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let mvmctl = |arguments: &[&str]| {
        sandbox.mvmctl(arguments).env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
    };
    mvmctl(&["login", "-u", USER, "--password-stdin", &host]).input(PASSWORD).run()?.ok()?;
    let kept = std::fs::read_to_string(&config)?;
    ensure!(kept.contains("\"HttpHeaders\": {\"X\": \"y\"}") && !kept.contains("auth\":"), "{kept}");
    let keys = std::fs::read_to_string(sandbox.path().join("keys"))?;
    ensure_eq!(keys, format!(r#"{{"ServerURL":"{host}","Username":"{USER}","Secret":"{PASSWORD}"}}"#));
    mvmctl(&["pull", &image]).run()?.ok()?;
    ensure_eq!(mvmctl(&["login", "--get-login", &host]).run()?.ok()?.out(), format!("{USER}\n"));
    mvmctl(&["logout", "--all"]).run()?.ok()?;
    ensure!(!sandbox.path().join("keys").exists(), "the helper still has the password");
    mvmctl(&["pull", &image]).run()?.exits(6)?;
    Ok(())
}

fn files() -> Outcome {
    let registry = Registry::start_with(&Auth::Password)?;
    let image = push(&registry)?;
    let host = registry.address();
    let sandbox = Sandbox::new()?;
    // podman's file of this boot comes before Docker's, which has a wrong password.
    let runtime = sandbox.path().join("runtime");
    std::fs::create_dir_all(runtime.join("containers"))?;
    let entry = |auth: &str| format!(r#"{{"auths": {{"{host}/team": {{"auth": "{auth}"}}}}}}"#);
    let right = entry("dXNlcjpjb3JyZWN0IGhvcnNl");
    std::fs::create_dir(sandbox.path().join(".docker"))?;
    std::fs::write(sandbox.path().join(".docker/config.json"), entry("dXNlcjp3cm9uZw=="))?;
    let refused = sandbox.mvmctl(["pull", &image]).run()?.exits(6)?;
    ensure!(refused.err().contains("refuses the stored credentials"), "{}", refused.err());
    std::fs::write(runtime.join("containers/auth.json"), &right)?;
    sandbox.mvmctl(["pull", &image]).env("XDG_RUNTIME_DIR", &runtime).run()?.ok()?;
    // A login that is kept where it isn't found first says so, and how that is mended.
    let host_wide = right.replace(&format!("{host}/team"), &host);
    std::fs::write(runtime.join("containers/auth.json"), host_wide)?;
    let login = sandbox.mvmctl(["login", "-u", USER, "--password-stdin", &host]);
    let hidden = login.env("XDG_RUNTIME_DIR", &runtime).input(PASSWORD).run()?.ok()?;
    let first = runtime.join("containers/auth.json");
    let mended = format!("mvmctl logout --authfile {} {host}\n", first.display());
    ensure!(hidden.err().ends_with(&mended), "{}", hidden.err());
    let left = sandbox.mvmctl(["logout", &host]).env("XDG_RUNTIME_DIR", &runtime).run()?.ok()?;
    let still = format!("note: {} still has credentials of {host}, of user {USER}\n", first.display());
    ensure!(left.err().ends_with(&still), "{}", left.err());
    // A file that is named is the only one, and must be there.
    let named = sandbox.path().join("auth.json");
    std::fs::write(&named, &right)?;
    sandbox.mvmctl(["pull", "--authfile"]).arg(&named).arg(&image).run()?.ok()?;
    sandbox.mvmctl(["pull", &image]).env("REGISTRY_AUTH_FILE", &named).run()?.ok()?;
    let misspelt = sandbox.mvmctl(["pull", "--authfile", "misspelt.json", &image]).run()?.exits(2)?;
    ensure!(misspelt.err().contains("there is no file of credentials"), "{}", misspelt.err());
    let login = sandbox.mvmctl(["login", "-u", USER, "--password-stdin", "--authfile"]);
    login.arg(sandbox.path().join("other.json")).arg(&host).input(PASSWORD).run()?.ok()?;
    ensure!(sandbox.path().join("other.json").exists(), "the login is not where it should be");
    Ok(())
}

fn run() -> Outcome {
    let registry = Registry::start_with(&Auth::Password)?;
    let image = push(&registry)?;
    let sandbox = Sandbox::with_kernel()?;
    log_in(&sandbox, &registry.address(), USER, PASSWORD)?.ok()?;
    let output = sandbox.mvmctl(["run", "--rm", &image, "echo", "private"]).run()?.ok()?;
    ensure_eq!(output.out(), "private\n");
    Ok(())
}
