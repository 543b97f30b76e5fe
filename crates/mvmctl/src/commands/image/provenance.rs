//! `mvmctl image provenance`.

use crate::context::Context;
use mvm_engine::Provenance;
use std::process::ExitCode;

/// Show where an image came from that was built: an in-toto statement with SLSA provenance
#[derive(clap::Args)]
pub struct Args {
    /// Print the statement itself, as JSON
    #[arg(long)]
    json: bool,
    /// Fail unless a trusted key signed it and it is about this very image
    #[arg(long)]
    verify: bool,
    /// A name as it was built, or a manifest digest or root hash, or its beginning
    image: String,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = context.engine_to_look()?;
    let provenance = match args.verify {
        true => engine.verify_provenance(&args.image)?,
        false => engine.provenance(&args.image)?,
    };
    if args.json {
        context.printer.json(&provenance.statement)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signers: Vec<String> = provenance.signers.iter().map(ToString::to_string).collect();
    let signers = if signers.is_empty() { "no trusted key".to_owned() } else { signers.join(", ") };
    context.printer.line(format_args!("signed by      {signers}"))?;
    for (name, value) in lines(&provenance) {
        context.printer.line(format_args!("{name:<14} {value}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what people look for first; the statement has all of it.
fn lines(provenance: &Provenance) -> Vec<(String, String)> {
    let predicate = &provenance.statement.predicate;
    let definition = &predicate.build_definition;
    let text = |name: &str| definition.external_parameters[name].as_str().map(str::to_owned);
    let mut lines = Vec::new();
    for name in ["flake", "attribute", "system", "profile"] {
        lines.extend(text(name).map(|value| (name.to_owned(), value)));
    }
    for dependency in &definition.resolved_dependencies {
        for (algorithm, digest) in &dependency.digest {
            let input = dependency.annotations.get("input").map(|input| format!("input {input}"));
            let name = input.unwrap_or_else(|| dependency.label.clone());
            lines.push((name, format!("{algorithm}:{digest}")));
        }
    }
    for (name, version) in &predicate.run_details.builder.version {
        lines.push((format!("{name} version"), version.clone()));
    }
    for builder in &predicate.run_details.builder.builder_dependencies {
        lines.push((builder.label.clone(), builder.uri.clone()));
    }
    let derivation = predicate.run_details.byproducts.iter().find(|it| it.label == "derivation");
    lines.extend(derivation.map(|it| (it.label.clone(), it.uri.clone())));
    for subject in &provenance.statement.subject {
        for (algorithm, digest) in &subject.digest {
            lines.push((subject.label.clone(), format!("{algorithm}:{digest}")));
        }
    }
    lines
}
