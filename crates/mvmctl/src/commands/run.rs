//! `mvmctl run`.

use crate::commands::flake_options::FlakeOptions;
use crate::commands::guest_network::GuestNetworkArgs;
use crate::commands::health::Health;
use crate::commands::mounts::Mounts;
use crate::commands::network::Network;
use crate::commands::policy::Asked;
use crate::commands::signing::Signing;
use crate::commands::unpack::Unpack;
use crate::commands::verify_key::VerifyKey;
use crate::context::Context;
use crate::error::Misuse;
use crate::files::read_limited;
use crate::terminal::{self, Leaving};
use anyhow::Context as _;
use clap::ValueEnum;
use mvm_engine::{
    Engine, LaunchRequest, Launched, PolicySource, PullPolicy, RequiredIsolation, RestartPolicy, RunRequest,
    Seconds, Surroundings, Workload,
};
use mvm_ref::{FlakeReference, ImageSource, Platform, VmName};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run a command in a new VM made from an image
///
/// The image is resolved to a digest, verified, turned into a read-only root under dm-verity and booted under a plan
/// that the local key signs. Output, input and exit code are those of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    launch: Launch,
    /// Print the signed plan and launch nothing
    #[arg(long, conflicts_with_all = ["rm", "detach"])]
    plan_only: bool,
    #[command(flatten)]
    planned: Planned,
}

/// How a plan is launched.
#[derive(clap::Args)]
pub struct Launch {
    #[command(flatten)]
    policy: Asked,
    /// Remove the VM when it ends
    #[arg(long)]
    rm: bool,
    /// Start the VM, print its name and return
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    pub leaving: Leaving,
    /// Launch the VM again when it ends: no, on-failure[:N], always or unless-stopped; needs --detach
    ///
    /// Its supervisor does it, after 0.1 s, then after twice as long each time up to a minute; a VM that ran for 10 s begins
    /// anew. `vm stop` ends it. Nothing is launched again after a reboot of the host, or by itself after the supervisor was
    /// killed.
    #[arg(long, value_name = "POLICY", default_value_t, hide_default_value = true)]
    restart: RestartPolicy,
}

/// What a plan is made of.
#[derive(clap::Args)]
pub struct Planned {
    /// Name of the VM [default: made up]
    #[arg(long)]
    name: Option<VmName>,
    /// Virtual CPUs
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: u32,
    /// Memory, in MiB or with a unit (512m, 2g)
    #[arg(long, short, default_value = "512m", value_name = "SIZE", value_parser = parse_memory)]
    memory: u32,
    /// Most disk space for what the command writes, in MiB or with a unit
    #[arg(long, default_value = "16g", value_name = "SIZE", value_parser = parse_memory)]
    scratch: u32,
    /// Set an environment variable; NAME alone passes on the caller's
    #[arg(long = "env", short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Directory to run the command in [default: the image's]
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// User, or user:group, by name or number [default: the image's]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program to run in place of the image's entry point; an empty text clears it
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Pass stdin to the command
    #[arg(long, short)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,
    /// Platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// When to ask the registry
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pull: Pull,
    /// Kernel to boot: a digest or its beginning [default: see `mvmctl kernel ls`]
    #[arg(long, value_name = "DIGEST")]
    kernel: Option<String>,
    /// Isolation that the plan requires
    #[arg(long, value_enum, default_value_t = Isolation::Any)]
    isolation: Isolation,
    /// How long the plan may be launched: a number with s, m, h, d or w [default: 15m for `run`, 30d for `plan create`]
    #[arg(long, value_name = "TIME")]
    valid_for: Option<Seconds>,
    /// Make a plan for one launch: a second one is refused
    #[arg(long)]
    single_use: bool,
    /// Build a flake and take its image; all words are the command then
    #[arg(long, value_name = "REF", conflicts_with_all = ["platform", "pull"])]
    flake: Option<FlakeReference>,
    /// Image: a name, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], or flake:REF once it is built
    #[arg(required_unless_present = "flake")]
    image: Option<String>,
    /// Command and its arguments [default: the image's]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    mounts: Mounts,
    #[command(flatten)]
    health: Health,
    #[command(flatten)]
    verify_key: VerifyKey,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    guest_network: GuestNetworkArgs,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    unpack: Unpack,
    #[command(flatten)]
    flake_options: FlakeOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum Isolation {
    /// Hardware virtualisation
    Kvm,
    /// Also emulation
    Any,
}

/// How long a plan that `run` makes may be admitted, in seconds: it is launched at once.
pub const RUN_VALIDITY: i64 = 15 * 60;

#[derive(Clone, Copy, ValueEnum)]
pub enum Pull {
    /// Always resolve the name anew
    Always,
    /// Only if the name has never been resolved
    Missing,
    /// Never; fail if the image isn't here
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
        }
    }
}

impl Planned {
    /// Returns the engine that the plan is made with, and what it is made of. Builds the flake, if one is named.
    pub fn resolve<'c>(
        mut self,
        context: &'c Context,
        validity: Seconds,
        policy: &[PolicySource],
    ) -> anyhow::Result<(&'c Engine, RunRequest)> {
        let offline = self.network.is_offline();
        let engine = context.engine_unpacking(Some(self.network), self.unpack)?;
        let mut surroundings = Surroundings {
            ports: self.guest_network.ports(),
            network: self.guest_network.resolve()?,
            ..Surroundings::default()
        };
        self.mounts.add_to(&mut surroundings, self.memory)?;
        let signers = self.signing.open(context, engine)?;
        let image_keys = self.verify_key.read(engine)?;
        let (image, pull) = match &self.flake {
            Some(flake) => {
                self.command.splice(0..0, self.image.take());
                let image = self.flake_options.image(context, flake, offline, policy.to_vec())?;
                (image, PullPolicy::Never)
            }
            None => {
                self.flake_options.refuse()?;
                // There is one, if there is no flake.
                let text = self.image.unwrap_or_default();
                let image = text.parse::<ImageSource>().map_err(|error| Misuse(mvm_engine::chain(&error)))?;
                (mvm_engine::full_name(image), self.pull.into())
            }
        };
        let request = RunRequest {
            signers,
            image_keys,
            name: self.name,
            image,
            platform: self.platform.unwrap_or_else(Platform::host),
            pull,
            workload: Workload {
                entrypoint: self
                    .entrypoint
                    .map(|program| if program.is_empty() { vec![] } else { vec![program] }),
                command: self.command,
                env: environment(&self.env_file, &self.env)?,
                working_dir: self.workdir,
                user: self.user,
                terminal: self.tty,
                stdin: self.interactive,
                health: self.health.resolve(),
            },
            surroundings,
            cpus: self.cpus,
            memory_mib: self.memory,
            secrets: Vec::new(),
            scratch_mib: self.scratch.into(),
            kernel: self.kernel,
            isolation: match self.isolation {
                Isolation::Kvm => RequiredIsolation::Kvm,
                Isolation::Any => RequiredIsolation::Any,
            },
            valid_for: self.valid_for.unwrap_or(validity).0,
            single_use: self.single_use,
            policy: Vec::new(),
            remove_at_end: false,
            detached: false,
            restart: RestartPolicy::No,
        };
        Ok((engine, request))
    }
}

impl Launch {
    /// Returns the launch that is asked for.
    pub fn resolve(&self, name: Option<VmName>) -> anyhow::Result<LaunchRequest> {
        let (remove_at_end, detached, restart) = (self.rm, self.detach, self.restart);
        let misuse = match restart {
            RestartPolicy::No => None,
            _ if !detached => Some("--restart needs --detach"),
            _ if remove_at_end => Some("--restart and --rm exclude each other"),
            _ => None,
        };
        if let Some(misuse) = misuse {
            return Err(Misuse(misuse.to_owned()).into());
        }
        Ok(LaunchRequest {
            name,
            secrets: Vec::new(),
            policy: self.policy.resolve()?,
            remove_at_end,
            detached,
            restart,
            project: None,
        })
    }
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let attached = !args.launch.detach && !args.plan_only;
    if attached && args.planned.tty && args.planned.interactive {
        terminal::require().context("-it needs a terminal")?;
    }
    let launch = args.launch.resolve(None)?;
    let progress = context.progress();
    let secrets = if args.plan_only { Vec::new() } else { args.planned.mounts.secrets()? };
    let (engine, request) = args.planned.resolve(context, Seconds(RUN_VALIDITY), &launch.policy)?;
    if args.plan_only {
        let signed = engine.create_plan(&request, &progress, context.signals.cancel());
        progress.finish();
        context.printer.data(signed?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let LaunchRequest { policy, remove_at_end, detached, restart, .. } = launch;
    let request = RunRequest { secrets, policy, remove_at_end, detached, restart, ..request };
    let launched = engine.run(request, &progress, context.signals.cancel());
    progress.finish();
    attend(context, launched?, (!detached).then_some(args.launch.leaving))
}

/// Stays with the command of a VM that was launched until it ends or is left; or says the VM's name, without `leaving`.
pub fn attend(context: &Context, launched: Launched, leaving: Option<Leaving>) -> anyhow::Result<ExitCode> {
    let Some(Leaving { detach_keys: keys }) = leaving else {
        context.printer.line(launched.name)?;
        return Ok(ExitCode::SUCCESS);
    };
    let streams = terminal::Streams { stdin: launched.stdin, terminal: launched.terminal, keys };
    let status = terminal::attach(
        launched.connection,
        mvm_engine::Target::Main,
        streams,
        &context.signals,
        context.printer,
    )?;
    Ok(ExitCode::from(status))
}

/// Bytes that a file of variables has fewer of; more fit into no command's environment.
const MAX_ENV_FILE: u64 = 4 << 20;

/// Joins `--env-file` and `-e`, later ones winning in the guest.
pub fn environment(files: &[PathBuf], variables: &[String]) -> anyhow::Result<Vec<String>> {
    let mut joined = Vec::new();
    for path in files {
        let read = || format!("read {}", path.display());
        let text = read_limited(path, MAX_ENV_FILE).with_context(read)?;
        let text = String::from_utf8(text).with_context(read)?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split('=').next().unwrap_or_default();
            anyhow::ensure!(
                !name.is_empty() && !name.contains(char::is_whitespace),
                "{}:{}: {line:?} is not NAME=VALUE",
                path.display(),
                index + 1
            );
            joined.extend(resolve(line)?);
        }
    }
    for variable in variables {
        anyhow::ensure!(
            !variable.is_empty() && !variable.starts_with('='),
            "-e {variable:?} is not NAME[=VALUE]"
        );
        joined.extend(resolve(variable)?);
    }
    Ok(joined)
}

/// Completes a bare NAME from the caller's environment; one that isn't set there is left out, as docker does.
fn resolve(variable: &str) -> anyhow::Result<Option<String>> {
    if variable.contains('=') {
        return Ok(Some(variable.to_owned()));
    }
    let Some(value) = crate::environment::passed_to_guest(variable) else { return Ok(None) };
    let value = value.into_string().map_err(|_| anyhow::anyhow!("the value of {variable} is not UTF-8"))?;
    Ok(Some(format!("{variable}={value}")))
}

/// Parses a size of memory: MiB, or a number with `m` or `g` (and `k` or `b`, rounded up).
pub fn parse_memory(text: &str) -> Result<u32, String> {
    let refuse = || format!("{text:?} is not a size; write MiB (512) or a number with b, k, m or g (2g)");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| refuse())?;
    let bytes = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => number.checked_mul(1 << 20),
        "g" | "gb" | "gib" => number.checked_mul(1 << 30),
        "k" | "kb" | "kib" => number.checked_mul(1 << 10),
        "b" => Some(number),
        _ => return Err(refuse()),
    };
    let mib = bytes.ok_or_else(refuse)?.div_ceil(1 << 20);
    u32::try_from(mib).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    #[test]
    fn parses_memory() {
        let cases = [
            ("512", Some(512)),
            ("512m", Some(512)),
            ("2g", Some(2048)),
            ("1048577b", Some(2)),
            ("0", Some(0)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1.5g", None),
            ("99999999999g", None),
            ("5t", None),
        ];
        for (text, expected) in cases {
            assert_eq!(super::parse_memory(text).ok(), expected, "{text:?}");
        }
    }
}
