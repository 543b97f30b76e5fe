//! `mvmctl image verify`.

use crate::context::Context;
use mvm_engine::{Engine, EngineError, OnDamage};
use serde::Serialize;
use std::error::Error as _;
use std::process::ExitCode;

/// Compare every byte of images with their root hashes
#[derive(clap::Args)]
pub struct Args {
    /// All images
    #[arg(long, conflicts_with = "image", required_unless_present = "image")]
    all: bool,
    /// Discard a damaged image and the layers it was made from, so that the next pull or run fetches it anew
    #[arg(long)]
    discard: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    image: Vec<String>,
}

/// What was found of one image.
#[derive(Serialize)]
struct Verdict {
    image: String,
    root_hash: String,
    ok: bool,
    /// Bytes compared, of an image that is as it should be.
    bytes: Option<u64>,
    /// Where the damage begins.
    offset: Option<u64>,
    /// What is damaged.
    problem: Option<String>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = if args.discard { context.engine_of_existing()? } else { context.engine_to_look()? };
    let on_damage = if args.discard { OnDamage::Discard } else { OnDamage::Report };
    let names = match args.all {
        true => engine.images_to_verify()?.iter().map(ToString::to_string).collect(),
        false => args.image,
    };
    let mut verdicts = Vec::new();
    let mut damaged = Vec::new();
    for name in names {
        let verdict = match check(engine, &name, on_damage) {
            // Removed since it was listed.
            Err(EngineError::UnknownImage(_)) if args.all => continue,
            Err(error @ EngineError::Damaged { .. }) => {
                let verdict = Verdict::of(&error);
                damaged.push(error);
                verdict
            }
            verdict => Some(verdict?),
        };
        match verdict {
            Some(verdict) if !args.json => context.printer.line(verdict.text())?,
            verdict => verdicts.extend(verdict),
        }
    }
    if args.json {
        context.printer.json(&verdicts)?;
    }
    match damaged.len() {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(damaged.remove(0).into()),
        count => {
            let names = damaged.iter().filter_map(Verdict::of).map(|verdict| verdict.image).collect();
            Err(EngineError::SeveralDamaged { count, names }.into())
        }
    }
}

fn check(engine: &Engine, name: &str, on_damage: OnDamage) -> Result<Verdict, EngineError> {
    let verified = engine.verify_image(name, on_damage)?;
    Ok(Verdict {
        image: verified.name().to_owned(),
        root_hash: verified.root_hash.to_string(),
        ok: true,
        bytes: Some(verified.bytes),
        offset: None,
        problem: None,
    })
}

impl Verdict {
    fn of(error: &EngineError) -> Option<Self> {
        let EngineError::Damaged { root_hash, name, .. } = error else { return None };
        Some(Self {
            image: name.clone(),
            root_hash: root_hash.to_string(),
            ok: false,
            bytes: None,
            offset: error.damaged_at(),
            problem: error.source().map(mvm_engine::chain),
        })
    }

    fn text(&self) -> String {
        match (&self.problem, self.bytes) {
            (Some(problem), _) => format!("{}: DAMAGED, {problem}", self.image),
            (None, bytes) => format!("{}: ok, {} bytes", self.image, bytes.unwrap_or(0)),
        }
    }
}
