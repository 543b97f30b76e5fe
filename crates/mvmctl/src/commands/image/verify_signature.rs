//! `mvmctl image verify-signature`.

use crate::commands::network::Network;
use crate::commands::verify_key;
use crate::context::Context;
use mvm_ref::{ImageSource, Platform};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check who signed an image: signatures as cosign makes them, with public keys that you give
///
/// The image is the one that the store has under the name, else the one that its registry has. Signatures are looked for
/// under the tag sha256-….sig, among the referrers and in sigstore bundles there. Only the key is checked: no
/// certificate, transparency log or timestamp.
#[derive(clap::Args)]
pub struct Args {
    /// Public key as PEM, ECDSA on P-256 or Ed25519; with several, each must have signed
    #[arg(long, required = true, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Check this sigstore bundle instead of asking the registry
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Check this payload instead of asking the registry
    #[arg(long, value_name = "FILE", requires = "signature", conflicts_with = "bundle")]
    payload: Option<PathBuf>,
    /// The signature of the payload, in base64
    #[arg(long, value_name = "FILE", requires = "payload")]
    signature: Option<PathBuf>,
    /// Platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Print the signatures as JSON
    #[arg(long)]
    json: bool,
    /// Image by its name in a registry
    image: ImageSource,
    #[command(flatten)]
    network: Network,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let platform = args.platform.unwrap_or_else(Platform::host);
    let progress = context.progress();
    let engine = context.engine_over(args.network)?;
    let keys = verify_key::read(engine, &args.key)?;
    let detached = args.payload.as_deref().zip(args.signature.as_deref());
    let given = engine.read_evidence(args.bundle.as_deref(), detached)?;
    let cancel = context.signals.cancel();
    let verified = engine.verify_image_signatures(&args.image, &platform, &keys, &given, &progress, cancel);
    progress.finish();
    let verified = verified?;
    if args.json {
        context.printer.json(&verified)?;
        return Ok(ExitCode::SUCCESS);
    }
    for signature in verified {
        let (form, digest, key) = (signature.form, signature.digest, signature.key);
        context.printer.line(format_args!("{}: ok, {form} of {digest} by key {key}", args.image))?;
    }
    context.printer.words("only the given keys were checked, no certificate and no transparency log");
    Ok(ExitCode::SUCCESS)
}
