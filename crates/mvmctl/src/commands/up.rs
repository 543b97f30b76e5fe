//! `mvmctl up`.

use crate::commands::flake_options::FlakeOptions;
use crate::commands::logs::harmless;
use crate::commands::mounts;
use crate::commands::network::Network;
use crate::commands::policy::Asked;
use crate::commands::project::{ProjectFile, chosen, of_flake};
use crate::commands::run::{self, RUN_VALIDITY};
use crate::commands::signing::Signing;
use crate::commands::unpack::Unpack;
use crate::commands::verify_key::VerifyKey;
use crate::context::Context;
use crate::environment;
use anyhow::Context as _;
use mvm_engine::{
    Bringing, Brought, Engine, EngineError, GuestNetwork, NetworkChoice, Origin, PolicySource, Project,
    ProjectError, PullPolicy, RunRequest, Until, VmDefinition, VmLogs, user_network,
};
use mvm_ref::{FlakeReference, ImageSource, Platform, VmName};
use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::time::Duration;

/// Start the VMs of an mvm.toml
///
/// Images that are not here are pulled, at the same time. VMs that run as the file says are left alone, those that differ
/// are made anew, and those that ended are started. Stays with their output until they end or ctrl-c stops them, unless
/// there is --detach or --wait.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ProjectFile,
    /// Build a flake, and start one VM of it instead of those of a file
    #[arg(long, value_name = "REF", conflicts_with = "file")]
    flake: Option<FlakeReference>,
    /// Forward a port to the flake's VM: [[IP:]HOST:]GUEST[/udp] (may be repeated)
    #[arg(long, short, value_name = "PORT", requires = "flake")]
    publish: Vec<String>,
    /// Return when all have been started
    #[arg(long, short)]
    detach: bool,
    /// Return when all are healthy, or fail when one can't be; a VM without health checks has to have started
    #[arg(long)]
    wait: bool,
    /// How long a VM may take to become healthy, where that is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait_timeout: u64,
    /// Print the signed plans, one a line, and launch nothing
    #[arg(long, conflicts_with_all = ["detach", "wait"])]
    plan_only: bool,
    /// Only these VMs and those that they start after, by their names in the file
    name: Vec<VmName>,
    #[command(flatten)]
    policy: Asked,
    #[command(flatten)]
    verify_key: VerifyKey,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    unpack: Unpack,
    #[command(flatten)]
    flake_options: FlakeOptions,
}

/// Lines that are shown of a service that is not well.
const LAST_LINES: usize = 10;
/// Bytes of a line after which it is shown although its end has not come.
const LONGEST_LINE: usize = 16 << 10;
/// What a command that the user ended exits with.
const INTERRUPTED: u8 = 130;
/// How often output that is followed is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let (mut project, flake_options) = match &args.flake {
        Some(flake) => {
            let flake = args.flake_options.chosen(flake)?;
            (of_flake(&flake, &args.publish)?, args.flake_options.without_profile())
        }
        None => (args.file.read()?, args.flake_options),
    };
    let offline = args.network.is_offline();
    let engine = context.engine_unpacking(Some(args.network), args.unpack)?;
    let signers = args.signing.open(context, engine)?;
    let image_keys = args.verify_key.read(engine)?;
    let policy = args.policy.resolve()?;
    build(context, &mut project, &args.name, (&flake_options, offline), &policy)?;
    let vms = chosen(&project, &args.name)?;
    let mut requests = Vec::with_capacity(vms.len());
    for vm in &vms {
        requests.push(RunRequest {
            policy: policy.clone(),
            signers: signers.clone(),
            image_keys: image_keys.clone(),
            secrets: if args.plan_only { Vec::new() } else { mounts::read(&vm.secrets)? },
            ..request(vm)?
        });
    }
    let lock = if args.plan_only { None } else { Some(engine.lock_project(&project.name)?) };
    let cancel = context.signals.cancel();
    let progress = context.progress();
    let drafts = engine.draft_plans(&requests, &progress, cancel);
    progress.finish();
    let drafts = drafts?;
    if args.plan_only {
        for (draft, request) in drafts.into_iter().zip(&requests) {
            context.printer.data(engine.sign_draft(draft, &request.signers)?.as_bytes())?;
            context.printer.line("")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    make_volumes(context, engine, &project, &vms)?;
    let limit = Duration::from_secs(args.wait_timeout);
    for ((vm, request), draft) in vms.iter().zip(&requests).zip(drafts) {
        for after in &vm.after {
            if let Some(other) = project.vm(&after.vm) {
                let reached = engine.wait_until(&other.name, after.until, limit, cancel);
                told(context, engine, reached)?;
            }
        }
        let progress = context.progress();
        let grace = Duration::from_secs(vm.stop_grace_secs.into());
        let variable = &environment::passed_to_guest;
        let how = Bringing { project: &project.name, grace, variable };
        let brought = engine.bring_up(how, request, draft, &progress, cancel);
        progress.finish();
        let brought = brought.with_context(|| format!("start {}", vm.name))?;
        context.printer.words(format_args!("{}: {}", vm.name, words(brought)));
    }
    drop(lock);
    if args.wait {
        for vm in &vms {
            told(context, engine, engine.wait_until(&vm.name, Until::Healthy, limit, cancel))?;
        }
    }
    if args.detach || args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    attend(context, engine, &vms)
}

/// Builds the flakes of the VMs that are to run, one after the other.
fn build(
    context: &Context,
    project: &mut Project,
    names: &[VmName],
    (options, offline): (&FlakeOptions, bool),
    policy: &[PolicySource],
) -> anyhow::Result<()> {
    let chosen: Vec<VmName> = chosen(project, names)?.iter().map(|vm| vm.key.clone()).collect();
    let mut flakes = 0;
    for vm in project.vms.iter_mut().filter(|vm| chosen.contains(&vm.key)) {
        let ImageSource::Flake(flake) = &vm.image else { continue };
        flakes += 1;
        vm.image = options.image(context, flake, offline, policy.to_vec())?;
        vm.pull = PullPolicy::Never;
    }
    if flakes == 0 { Ok(options.refuse()?) } else { Ok(()) }
}

fn words(brought: Brought) -> &'static str {
    match brought {
        Brought::Kept => "running",
        Brought::Started => "started",
        Brought::Made => "created",
        Brought::Replaced => "recreated",
    }
}

/// Returns what is asked for a VM, but for who signs and what it must satisfy.
fn request(vm: &VmDefinition) -> anyhow::Result<RunRequest> {
    let env = run::environment(&vm.env_files, &vm.env)?;
    let surroundings = vm.surroundings(&env);
    Ok(RunRequest {
        name: Some(vm.name.clone()),
        image: vm.image.clone(),
        platform: vm.platform.clone().unwrap_or_else(Platform::host),
        pull: vm.pull,
        workload: vm.workload(env),
        surroundings: mvm_engine::Surroundings { network: network(vm)?, ..surroundings },
        cpus: vm.cpus,
        memory_mib: vm.memory_mib,
        scratch_mib: vm.scratch_mib.into(),
        kernel: vm.kernel.clone(),
        secrets: Vec::new(),
        restart: vm.restart,
        isolation: vm.isolation,
        valid_for: RUN_VALIDITY,
        single_use: false,
        policy: Vec::new(),
        signers: mvm_engine::Signers::default(),
        image_keys: Vec::new(),
        remove_at_end: false,
        detached: true,
    })
}

/// Returns the network that a VM is to have.
fn network(vm: &VmDefinition) -> anyhow::Result<GuestNetwork> {
    match vm.network {
        NetworkChoice::None => Ok(GuestNetwork::None),
        NetworkChoice::User => Ok(user_network(vm.egress.as_deref(), &vm.allow_host)?),
    }
}

/// Makes the volumes that the VMs mount and that are not there yet.
fn make_volumes(
    context: &Context,
    engine: &Engine,
    project: &Project,
    vms: &[&VmDefinition],
) -> anyhow::Result<()> {
    let mounted = |volume: &&mvm_engine::VolumeDefinition| {
        vms.iter().any(|vm| vm.volumes().any(|name| *name == volume.name))
    };
    for volume in project.volumes.iter().filter(mounted) {
        if engine.bring_volume(volume)? {
            context.printer.words(format_args!("volume {}: created", volume.name));
        }
    }
    Ok(())
}

/// Shows the last lines of what is not well, if something isn't.
fn told(context: &Context, engine: &Engine, reached: Result<(), EngineError>) -> Result<(), EngineError> {
    if let Err(EngineError::InProject(
        ProjectError::NotReady { name, trouble, .. } | ProjectError::Late { name, trouble, .. },
    )) = &reached
        && let Ok(mut logs) = engine.logs(name, trouble.service.as_deref())
    {
        let mut last = VecDeque::new();
        while let Some(line) = logs.next_line()? {
            last.push_back(line);
            if last.len() > LAST_LINES {
                last.pop_front();
            }
        }
        for line in last {
            context.printer.always(format_args!("{name} | {}", text_of(&line.bytes)));
        }
    }
    reached
}

/// Returns a line of output without its end, fit for a terminal.
fn text_of(line: &[u8]) -> String {
    let mut text = harmless(line);
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// The output of one VM, followed.
struct Followed<'p> {
    vm: &'p VmDefinition,
    logs: VmLogs,
    /// Lines whose end has not come.
    held: BTreeMap<Origin, Vec<u8>>,
}

impl Followed<'_> {
    /// Prints what has come since, with the VM's name before each line. Returns whether nothing more can come.
    fn print(&mut self, context: &Context, width: usize) -> anyhow::Result<bool> {
        // In this order: what was written before the end is read after it was seen.
        let over = self.logs.is_over()?;
        while let Some(line) = self.logs.next_line()? {
            let held = self.held.entry(line.origin.clone()).or_default();
            held.extend(&line.bytes);
            if held.ends_with(b"\n") || held.len() > LONGEST_LINE {
                let bytes = std::mem::take(held);
                self.line(context, width, &line.origin, &bytes)?;
            }
        }
        if over {
            for (origin, bytes) in std::mem::take(&mut self.held) {
                if !bytes.is_empty() {
                    self.line(context, width, &origin, &bytes)?;
                }
            }
        }
        Ok(over)
    }

    fn line(&self, context: &Context, width: usize, origin: &Origin, bytes: &[u8]) -> anyhow::Result<()> {
        let name = match origin.source.as_str() {
            "main" => self.vm.key.to_string(),
            service => format!("{} {service}", self.vm.key),
        };
        Ok(context.printer.line(format_args!("{name:width$} | {}", text_of(bytes)))?)
    }
}

/// Shows the output of VMs until all have ended; stops them in reverse order when the user interrupts.
fn attend(context: &Context, engine: &Engine, vms: &[&VmDefinition]) -> anyhow::Result<ExitCode> {
    let service = |vm: &VmDefinition| vm.services.iter().map(|service| service.name.as_str().len() + 1).max();
    let lengths = vms.iter().map(|vm| vm.key.as_str().len() + service(vm).unwrap_or_default());
    let width = lengths.max().unwrap_or_default();
    let mut followed = Vec::new();
    for vm in vms {
        followed.push(Followed { vm, logs: engine.logs(&vm.name, None)?, held: BTreeMap::new() });
    }
    let mut stopped = false;
    loop {
        if context.signals.cancel().requested() && !stopped {
            stopped = true;
            context.printer.words("stopping; ctrl-c once more leaves the rest running");
            for vm in vms.iter().rev() {
                engine.stop(&vm.name, Duration::from_secs(vm.stop_grace_secs.into()))?;
            }
        }
        let mut over = true;
        for one in &mut followed {
            over &= one.print(context, width)?;
        }
        if over {
            return Ok(ExitCode::from(if stopped { INTERRUPTED } else { 0 }));
        }
        std::thread::sleep(LOOK);
    }
}
