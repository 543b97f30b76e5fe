//! Admission policies: a table of rules, and the data that says how strict each is.

mod rules;

pub(crate) use rules::Claim;
pub use rules::Rule;

/// How strict admission is. The two that exist are built in; nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    name: &'static str,
    mutable_tags: bool,
    development_keys: bool,
    emulation: bool,
    max_validity_seconds: i64,
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
#[error("there is no policy {0:?}; expected {names}", names = Policy::NAMES.join(" or "))]
pub struct UnknownPolicy(String);

const DAY: i64 = 86_400;

impl Policy {
    /// The names that [`Policy::builtin`] knows.
    pub const NAMES: [&'static str; 2] = ["development", "production"];

    /// Returns the policy for a developer's own machine: mutable tags, development keys and emulation may be used.
    pub fn development() -> Self {
        Self {
            name: "development",
            mutable_tags: true,
            development_keys: true,
            emulation: true,
            max_validity_seconds: 90 * DAY,
        }
    }

    /// Returns the policy for production: images by digest, a key that is not for development, KVM, 30 days at most.
    pub fn production() -> Self {
        Self {
            name: "production",
            mutable_tags: false,
            development_keys: false,
            emulation: false,
            max_validity_seconds: 30 * DAY,
        }
    }

    /// Returns the built-in policy of that name.
    pub fn builtin(name: &str) -> Result<Self, UnknownPolicy> {
        match name {
            "development" => Ok(Self::development()),
            "production" => Ok(Self::production()),
            _ => Err(UnknownPolicy(name.chars().take(80).collect())),
        }
    }

    /// Returns the policy's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the longest time, in seconds, that a plan may be valid for.
    pub fn max_validity_seconds(&self) -> i64 {
        self.max_validity_seconds
    }

    /// Applies every rule; the outcomes stand in the order of the table of rules.
    pub(crate) fn check(&self, claim: &Claim<'_>) -> Vec<RuleOutcome> {
        rules::TABLE
            .iter()
            .map(|(rule, judge)| match judge(self, claim) {
                Ok(why) => RuleOutcome { rule: *rule, passed: true, why, remedy: String::new() },
                Err(failure) => {
                    RuleOutcome { rule: *rule, passed: false, why: failure.why, remedy: failure.remedy }
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
