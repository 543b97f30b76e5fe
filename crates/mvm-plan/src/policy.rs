//! Admission policies: what a plan must satisfy before it becomes a machine.
//!
//! A policy is a set of [`Layer`]s, each of which only restricts: a plan has to satisfy all of them. So the strictest
//! wins whatever the order in which they were given, and a layer that is given twice changes nothing.

mod directory;
mod layer;
mod pattern;
mod restrictions;
mod rules;
mod units;

use crate::plan::RequestedImage;
pub use directory::{HostDirectory, HostDirectoryError};
pub use layer::{ImageKey, ImageSignature, Layer, MAX_POLICY, PolicyError, ReadKey, Restrictions, Signer};
pub use pattern::{PatternError, RegistryPattern, RepositoryPattern};
use restrictions::Asked;
pub(crate) use rules::Claim;
pub use rules::Rule;
pub use units::{Mebibytes, Seconds, UnitError};

/// How strict admission is: layers, all of which a plan must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In order of their names, each once.
    layers: Vec<Layer>,
}

/// What one rule said of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOutcome {
    /// The rule.
    pub rule: Rule,
    /// Whether the plan satisfies it.
    pub passed: bool,
    /// What was found, in one line.
    pub why: String,
    /// How to satisfy the rule, in one line; empty if it passed.
    pub remedy: String,
}

/// Says that there is no policy of a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no policy {0:?}; expected {names} or a file", names = Policy::NAMES.join(", "))]
pub struct UnknownPolicy(String);

impl Policy {
    /// The names that [`Policy::builtin`] knows.
    pub const NAMES: [&'static str; 2] = ["development", "production"];

    /// Returns the policy for a developer's own machine: mutable tags, development keys and emulation may be used.
    pub fn development() -> Self {
        Layer::development().into()
    }

    /// Returns the policy for production: images by digest, a key that is not for development, KVM, 30 days at most.
    pub fn production() -> Self {
        Layer::production().into()
    }

    /// Returns the built-in policy of that name.
    pub fn builtin(name: &str) -> Result<Self, UnknownPolicy> {
        match name {
            "development" => Ok(Self::development()),
            "production" => Ok(Self::production()),
            _ => Err(UnknownPolicy(name.chars().take(80).collect())),
        }
    }

    /// Returns the policy that asks for what both ask for.
    pub fn and(mut self, other: Self) -> Self {
        self.layers.extend(other.layers);
        // Production asks for all that development asks for.
        if self.layers.iter().any(|layer| layer.name() == "production") {
            self.layers.retain(|layer| layer.name() != "development");
        }
        self.layers.sort_by(|a, b| a.name().cmp(b.name()));
        // Layers of one name hold one text: a file's name has the text's digest in it.
        self.layers.dedup_by(|a, b| a.name() == b.name());
        self
    }

    /// Returns the policy's layers in order of their names.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns the names of the layers, joined by ` + `.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.layers.iter().map(Layer::name).collect();
        names.join(" + ")
    }

    /// Returns the keys that the layers ask an image in `repository` (`registry/path`) to be signed with.
    ///
    /// None for an image that no layer asks a signature of.
    pub fn image_keys(&self, repository: Option<&str>) -> Vec<&ImageKey> {
        let signatures = self.layers.iter().flat_map(|layer| &layer.restrictions().image_signature);
        signatures.filter(|signature| signature.covers(repository)).map(|signature| &signature.key).collect()
    }

    /// Applies every rule; the outcomes stand in the order of the table of rules.
    pub(crate) fn check(&self, claim: &Claim<'_>) -> Vec<RuleOutcome> {
        rules::TABLE.iter().map(|(rule, judge)| RuleOutcome::new(*rule, judge(self, claim))).collect()
    }

    /// Applies the rules that the name of an image alone decides.
    pub(crate) fn check_name(&self, requested: &RequestedImage) -> Vec<RuleOutcome> {
        let asked = Asked::by_name(requested.as_str());
        rules::OF_NAMES.iter().map(|(rule, judge)| RuleOutcome::new(*rule, judge(self, &asked))).collect()
    }
}

impl RuleOutcome {
    fn new(rule: Rule, judged: Result<String, rules::Failure>) -> Self {
        match judged {
            Ok(why) => Self { rule, passed: true, why, remedy: String::new() },
            Err(failure) => Self { rule, passed: false, why: failure.why, remedy: failure.remedy },
        }
    }
}

impl From<Layer> for Policy {
    fn from(layer: Layer) -> Self {
        Self { layers: vec![layer] }
    }
}

#[cfg(test)]
mod tests;
