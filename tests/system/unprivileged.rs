//! The run path as an ordinary user, and with a /dev/kvm that opens and runs nothing.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;

use crate::{BUSYBOX, Case, Outcome, UMOCI, ensure, ensure_eq};

/// A user without a name, groups or home.
const USER: u32 = 54_321;

/// First argument of this program when it is to hide KVM and become another.
const HELPER: &str = "--without-kvm";

const AS_USER: &[Need] = &[Need::Mvmctl, Need::Guest, Need::Root, UMOCI, BUSYBOX];

pub const CASES: &[Case] = &[
    Case { name: "unprivileged::pull_and_run", needs: AS_USER, run: pull_and_run },
    Case { name: "unprivileged::kvm_that_runs_nothing", needs: AS_USER, run: useless_kvm },
];

/// Makes the store of an ordinary user, with a kernel. Returns it with the name of an image that the user can read.
pub fn of_user(user: u32) -> Result<(Sandbox, String), Failed> {
    let sandbox = Sandbox::of_user(user)?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").arg("-r").arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let kernel = sandbox.path().join("kernel");
    let source = workspace::tuned_kernel()
        .and_then(|file| file.parent().map(ToOwned::to_owned))
        .unwrap_or_else(workspace::distribution_kernel);
    Program::new("cp").arg("-rL").arg(source).arg(&kernel).run()?.ok()?;
    sandbox.give_away()?;
    let kernel = if kernel.join("vmlinux").is_file() { kernel.join("vmlinux") } else { kernel };
    let image = format!("oci:{}:latest", layout.display());
    sandbox.mvmctl(["kernel", "import"]).arg(&kernel).run()?.ok()?;
    Ok((sandbox, image))
}

fn pull_and_run() -> Outcome {
    let (sandbox, image) = of_user(USER)?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let output = sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", "id -u; exit 3"]).run()?.exits(3)?;
    ensure_eq!(output.out(), "0\n");
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

fn useless_kvm() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let output = Program::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .arg(HELPER)
        .arg(workspace::mvmctl())
        .arg("--root")
        .arg(sandbox.store())
        .args(["run", "--rm", &image, "echo", "ran"])
        .run()?
        .ok()?;
    ensure_eq!(output.out(), "ran\n");
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    ensure!(log.contains("emulated"), "the log does not say that it was emulated:\n{log}");
    Ok(())
}

/// Puts a device that opens and does nothing in KVM's place and becomes the program that the arguments name.
///
/// Runs in a mount namespace of its own. Returns nothing if the arguments ask for something else.
pub fn without_kvm_helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != HELPER {
        return None;
    }
    let program = arguments.next()?;
    if std::path::Path::new("/dev/kvm").exists()
        && let Err(error) = rustix::mount::mount_bind("/dev/null", "/dev/kvm")
    {
        eprintln!("cannot hide /dev/kvm: {error}");
        return Some(ExitCode::FAILURE);
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot become the program: {error}");
    Some(ExitCode::FAILURE)
}
