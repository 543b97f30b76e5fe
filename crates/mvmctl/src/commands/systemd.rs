//! `mvmctl systemd`.

use crate::context::Context;
use mvm_ref::VmName;
use std::path::Path;
use std::process::ExitCode;

/// Print a systemd user unit that runs a VM
///
/// The unit starts the VM as `vm start` does, is up when the VM is (when its health checks succeed, if it has any), and stops
/// it. Save it as ~/.config/systemd/user/mvm-NAME.service, then: systemctl --user daemon-reload, and systemctl --user enable
/// --now mvm-NAME. For VMs that run without a login: loginctl enable-linger.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds between the stop signal and the end
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    stop_timeout: u64,
    /// The VM
    name: VmName,
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let details = context.engine()?.inspect_vm(&args.name)?;
    let settings = context.settings();
    let unit = unit(&Unit {
        name: &args.name,
        image: &details.image,
        scope: details.scope.as_str(),
        program: &settings.program,
        root: &settings.root,
        path: &settings.program_path.to_string_lossy(),
        stop_timeout: args.stop_timeout,
    });
    context.printer.data(unit)?;
    Ok(ExitCode::SUCCESS)
}

struct Unit<'a> {
    name: &'a VmName,
    image: &'a str,
    scope: &'a str,
    program: &'a Path,
    root: &'a Path,
    path: &'a str,
    stop_timeout: u64,
}

fn unit(unit: &Unit<'_>) -> String {
    let Unit { name, scope, stop_timeout, .. } = unit;
    let (program, root) = (
        quoted(&unit.program.to_string_lossy()).replace('$', "$$"),
        quoted(&unit.root.to_string_lossy()).replace('$', "$$"),
    );
    // A `%` begins a specifier, everywhere; a description is one line.
    let image: String = unit.image.chars().filter(|c| !c.is_control()).collect::<String>().replace('%', "%%");
    let path = quoted(&format!("PATH={}", unit.path));
    format!(
        "# Made by mvmctl systemd {name}\n\
         [Unit]\n\
         Description=microVM {name} ({image})\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         Environment={path}\n\
         ExecStart={program} --root {root} --scope {scope} vm start --foreground {name}\n\
         KillMode=mixed\n\
         TimeoutStartSec=300\n\
         TimeoutStopSec={stop_timeout}\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    )
}

/// Quotes a word, systemd.syntax(7): what the manager would otherwise split, expand or take for an escape. In a command
/// line it also expands `$`.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_as_documented() {
        let text = unit(&Unit {
            name: &"web".parse().unwrap(),
            image: "docker.io/library/debian:12\n%h",
            scope: "default",
            program: Path::new("/usr/local/bin/mvmctl"),
            root: Path::new("/home/a b/100%/$x\"y"),
            path: "/usr/bin:/bin",
            stop_timeout: 30,
        });
        let expected = "\
# Made by mvmctl systemd web
[Unit]
Description=microVM web (docker.io/library/debian:12%%h)
After=network.target

[Service]
Type=notify
NotifyAccess=main
Environment=\"PATH=/usr/bin:/bin\"
ExecStart=\"/usr/local/bin/mvmctl\" --root \"/home/a b/100%%/$$x\\\"y\" --scope default vm start --foreground web
KillMode=mixed
TimeoutStartSec=300
TimeoutStopSec=30
Restart=on-failure
RestartSec=1

[Install]
WantedBy=default.target
";
        assert_eq!(text, expected);
    }
}
