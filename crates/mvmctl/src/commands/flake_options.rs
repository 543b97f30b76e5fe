//! The options of all verbs that build a flake.

use crate::context::Context;
use crate::error::Misuse;
use anyhow::Context as _;
use mvm_engine::{BuildRequest, Built, InputName, InputOverride, PolicySource, Size};
use mvm_ref::{FlakeAttribute, FlakeReference, ImageSource};

const HEADING: &str = "Flake options";

/// How a flake is evaluated.
#[derive(clap::Args, Clone, Default)]
pub struct FlakeInputs {
    /// Take a directory in the place of an input (may be repeated)
    #[arg(help_heading = HEADING, long, value_names = ["INPUT", "DIR"], num_args = 2)]
    override_input: Vec<String>,
    /// Lock an input anew and write flake.lock (may be repeated)
    #[arg(help_heading = HEADING, long, value_name = "INPUT")]
    update_input: Vec<InputName>,
    /// Lock inputs that are not locked, and write flake.lock
    #[arg(help_heading = HEADING, long)]
    update_lock: bool,
    /// Most bytes of files that a flake may have [default: 256m]
    #[arg(help_heading = HEADING, long, value_name = "SIZE")]
    max_source: Option<Size>,
}

/// How a flake is built.
#[derive(clap::Args, Clone, Default)]
pub struct FlakeOptions {
    /// Package of the flake to build, or that of tenant-NAME; what follows the # of the flake says the same
    #[arg(help_heading = HEADING, long, value_name = "NAME")]
    profile: Option<FlakeAttribute>,
    /// Build although nothing has changed
    #[arg(help_heading = HEADING, long)]
    rebuild: bool,
    /// Make an image whose Nix knows its store and builds into it; a volume on /nix keeps what is built
    #[arg(help_heading = HEADING, long)]
    writable_store: bool,
    #[command(flatten)]
    inputs: FlakeInputs,
}

impl FlakeInputs {
    /// Returns the request of what is evaluated, or built just as it is.
    pub fn request(
        &self,
        flake: FlakeReference,
        offline: bool,
        policy: Vec<PolicySource>,
    ) -> anyhow::Result<BuildRequest> {
        let mut overrides = Vec::new();
        for pair in self.override_input.chunks_exact(2) {
            let misuse =
                |error: &dyn std::error::Error| Misuse(format!("--override-input {}: {error}", pair[0]));
            let input = pair[0].parse::<InputName>().map_err(|error| misuse(&error))?;
            let flake = pair[1].parse::<FlakeReference>().map_err(|error| misuse(&error))?;
            overrides.push(InputOverride { input, flake: absolute(flake)? });
        }
        let request = BuildRequest::new(absolute(flake)?);
        Ok(BuildRequest {
            overrides,
            update_lock: self.update_lock,
            update_inputs: self.update_input.clone(),
            offline,
            max_source: self.max_source.map_or(request.max_source, Size::bytes),
            policy,
            ..request
        })
    }
}

impl FlakeOptions {
    /// Returns the build that is asked for.
    pub fn request(
        &self,
        flake: &FlakeReference,
        offline: bool,
        policy: Vec<PolicySource>,
    ) -> anyhow::Result<BuildRequest> {
        let request = self.inputs.request(self.chosen(flake)?, offline, policy)?;
        Ok(BuildRequest { rebuild: self.rebuild, writable_store: self.writable_store, ..request })
    }

    /// Returns the flake with the package that is asked for.
    pub fn chosen(&self, flake: &FlakeReference) -> Result<FlakeReference, Misuse> {
        match (&self.profile, flake.attribute()) {
            (Some(_), Some(attribute)) => {
                Err(Misuse(format!("--profile and #{attribute} exclude each other")))
            }
            (Some(profile), None) => Ok(flake.clone().with_attribute(Some(profile.clone()))),
            (None, _) => Ok(flake.clone()),
        }
    }

    /// Returns the same for a flake whose package is known.
    pub fn without_profile(self) -> Self {
        Self { profile: None, ..self }
    }

    /// Refuses options that have no effect, because there is no flake.
    pub fn refuse(&self) -> Result<(), Misuse> {
        let given = [
            ("--profile", self.profile.is_some()),
            ("--override-input", !self.inputs.override_input.is_empty()),
            ("--update-input", !self.inputs.update_input.is_empty()),
            ("--update-lock", self.inputs.update_lock),
            ("--rebuild", self.rebuild),
            ("--writable-store", self.writable_store),
            ("--max-source", self.inputs.max_source.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(Misuse(format!("{option} is about flakes, and there is none; --flake names one")))
            }
            None => Ok(()),
        }
    }

    /// Builds a flake for a verb that needs its image, and returns the image as the store has it.
    pub fn image(
        &self,
        context: &Context,
        flake: &FlakeReference,
        offline: bool,
        policy: Vec<PolicySource>,
    ) -> anyhow::Result<ImageSource> {
        let request = self.request(flake, offline, policy)?;
        let progress = context.progress();
        let built = context.engine()?.build(&request, &progress, context.signals.cancel());
        progress.finish();
        let built = built?;
        tell(context, &built);
        Ok(ImageSource::Flake(built.flake))
    }
}

/// Returns a flake with its directory seen from the root.
pub fn absolute(flake: FlakeReference) -> anyhow::Result<FlakeReference> {
    let path = std::path::absolute(flake.path()).with_context(|| format!("resolve {flake}"))?;
    Ok(flake.at(path)?)
}

/// Says what was done, or that nothing had to be.
pub fn tell(context: &Context, built: &Built) {
    let words = match (built.cached, built.derivations) {
        (true, _) => "nothing has changed since it was built".to_owned(),
        (false, 1) => "built, with 1 derivation".to_owned(),
        (false, count) => format!("built, with {count} derivations"),
    };
    context.printer.words(format_args!("{}: {words}", built.flake));
}
