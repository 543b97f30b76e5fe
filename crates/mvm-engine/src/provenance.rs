//! Where images that were built came from: a signed statement, kept beside each.

use crate::clock;
use crate::closures::{BuildFacts, ClosureManifest, ClosurePath};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::keys;
use mvm_plan::KeyId;
use mvm_plan::dsse::{DsseError, Envelope};
use mvm_plan::provenance::{
    BUILD_TYPE, BUILDER, BuildDefinition, Builder, Predicate, ProvenanceError, Resource, RunDetails,
    Statement,
};
use mvm_ref::{Digest, ScopeName};
use mvm_store::{ManifestRecord, Store};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The subject that is the root file system.
const ROOT: &str = "rootfs";
/// The subject that is the closure manifest.
const CLOSURE: &str = "closure";
/// How the root hash of dm-verity is called among digests; it is none of the file's bytes.
const VERITY: &str = "dmVeritySha256";
/// Most store paths whose hashes are in the statement itself; of more, the closure manifest has them.
const MAX_LISTED: usize = 3000;

/// Where an image came from.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// What is said.
    pub statement: Statement,
    /// The trusted keys that signed it.
    pub signers: Vec<KeyId>,
}

/// Says why nothing is known of where an image came from.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceFailure {
    /// Nothing is kept beside the image.
    #[error("there is no provenance of image {0:?}")]
    None(String),
    /// What is kept is not a signed statement.
    #[error("the provenance in {}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ProvenanceError,
    },
    /// No trusted key signed it.
    #[error("no trusted key signed the provenance of image {0:?}")]
    Unsigned(String),
    /// It is about something else.
    #[error("the provenance is of {what} {said}, and image {image:?} has {is}")]
    Other {
        /// The image.
        image: String,
        /// What differs.
        what: &'static str,
        /// What the statement says.
        said: String,
        /// What the image has.
        is: String,
    },
}

impl Engine {
    /// Returns where an image came from, whoever says so.
    pub fn provenance(&self, name: &str) -> Result<Provenance, EngineError> {
        let image = self.find_image(name)?;
        let path = file_of(&self.store, &self.settings.scope, &image.manifest);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProvenanceFailure::None(name.to_owned()).into());
            }
            bytes => bytes.map_err(|source| EngineError::Io { act: "read", path: path.clone(), source })?,
        };
        let bad = |source| ProvenanceFailure::Text { path: path.clone(), source };
        let envelope = Envelope::parse(&bytes).map_err(|source: DsseError| bad(source.into()))?;
        let statement = Statement::unverified(&envelope).map_err(bad)?;
        let trust = self.key_store().trust()?;
        let found = trust.signers(&envelope, clock::unix_seconds());
        let signers = found.valid.iter().map(|key| key.id()).collect();
        Ok(Provenance { statement, signers })
    }

    /// Returns where an image came from, if a trusted key signed that and it is about that image.
    pub fn verify_provenance(&self, name: &str) -> Result<Provenance, EngineError> {
        let image = self.find_image(name)?;
        let provenance = self.provenance(name)?;
        if provenance.signers.is_empty() {
            return Err(ProvenanceFailure::Unsigned(name.to_owned()).into());
        }
        let subjects = [
            ("the root", ROOT, VERITY, image.root_hash.hex()),
            ("the closure manifest", CLOSURE, "sha256", image.manifest.hex()),
        ];
        for (what, subject, algorithm, is) in subjects {
            let said = provenance.statement.subject_digest(subject, algorithm).unwrap_or("nothing");
            if said != is {
                let (image, said) = (name.to_owned(), said.to_owned());
                return Err(ProvenanceFailure::Other { image, what, said, is }.into());
            }
        }
        Ok(provenance)
    }

    /// Makes, signs and keeps the statement of an image that was built.
    pub(crate) fn record_provenance(
        &self,
        record: &ManifestRecord,
        manifest: &ClosureManifest,
        facts: &BuildFacts,
    ) -> Result<(), EngineError> {
        let made = |source: ProvenanceError| EngineError::Plan { act: "describe", source: source.into() };
        let key = keys::local(&self.settings.root)?;
        let envelope = statement(record, manifest, facts).sign(&[&key]).map_err(made)?;
        let text = envelope.to_json().map_err(|source| made(source.into()))?;
        let path = file_of(&self.store, &self.settings.scope, &record.manifest);
        let write = |source| EngineError::Io { act: "write", path: path.clone(), source };
        let directory = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(write)?;
        crate::vm::write_atomically(&path, &text).map_err(write)
    }
}

/// Says where an image came from. Nothing in it depends on when or where it was built.
fn statement(record: &ManifestRecord, manifest: &ClosureManifest, facts: &BuildFacts) -> Statement {
    let path = |path: &ClosurePath| {
        Resource::sha256(path.path.to_string(), &path.nar_hash.digest()).with("digestOf", "nar")
    };
    let verity = BTreeMap::from([(VERITY.to_owned(), record.root_hash.hex())]);
    let mut subject = vec![
        Resource { label: ROOT.to_owned(), digest: verity, ..Resource::default() },
        Resource::sha256(CLOSURE, &record.manifest),
    ];
    let outputs: Vec<_> = facts.outputs.values().collect();
    subject.extend(manifest.paths.iter().filter(|info| outputs.contains(&&info.path)).map(path));

    let mut dependencies = vec![Resource::sha256("source", &facts.source).at(facts.flake.as_str())];
    if let Some(revision) = &facts.revision {
        dependencies[0].digest.insert("gitCommit".to_owned(), revision.clone());
    }
    dependencies.extend(facts.lock.iter().map(|lock| Resource::sha256("flake.lock", lock)));
    dependencies.push(Resource::sha256("mvm", &facts.library).with("input", "mvm"));
    let overrides = facts.overrides.iter();
    dependencies
        .extend(overrides.map(|(name, digest)| Resource::sha256(name, digest).with("input", name.as_str())));

    let mut byproducts = vec![Resource {
        label: "derivation".to_owned(),
        uri: facts.derivation.to_string(),
        ..Resource::default()
    }];
    if manifest.paths.len() <= MAX_LISTED {
        let others = manifest.paths.iter().filter(|info| !outputs.contains(&&info.path));
        byproducts.extend(others.map(path));
    }
    let external = json!({
        "flake": facts.flake,
        "attribute": facts.attribute,
        "system": facts.system,
        "profile": facts.profile,
        "overrides": facts.overrides.keys().collect::<Vec<_>>(),
        "parameters": facts.parameters,
    });
    let outputs: BTreeMap<&String, String> =
        facts.outputs.iter().map(|(name, path)| (name, path.to_string())).collect();
    let builder = &facts.builder;
    Statement::new(
        subject,
        Predicate {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE.to_owned(),
                external_parameters: external,
                internal_parameters: json!({ "online": facts.online, "outputs": outputs }),
                resolved_dependencies: dependencies,
            },
            run_details: RunDetails {
                builder: Builder {
                    id: BUILDER.to_owned(),
                    version: BTreeMap::from([
                        ("mvm".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                        ("nix".to_owned(), facts.nix_version.clone()),
                    ]),
                    builder_dependencies: vec![
                        Resource::sha256("builder", &builder.manifest)
                            .at(builder.image.as_str())
                            .with(VERITY, builder.root_hash.hex()),
                    ],
                },
                byproducts,
            },
        },
    )
}

fn file_of(store: &Store, scope: &ScopeName, manifest: &Digest) -> PathBuf {
    directory_of(store, scope).join(format!("{}.json", manifest.hex()))
}

fn directory_of(store: &Store, scope: &ScopeName) -> PathBuf {
    store.cache().join("provenance").join(scope.as_str())
}

/// Removes what is kept for a scope that is gone. Returns the bytes that became free.
pub(crate) fn forget_scope(store: &Store, scope: &ScopeName) -> Result<u64, EngineError> {
    let directory = directory_of(store, scope);
    let freed = crate::housekeeping::size_below(&directory)?;
    match std::fs::remove_dir_all(&directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::Io { act: "remove", path: directory, source })
        }
        _ => Ok(freed),
    }
}
