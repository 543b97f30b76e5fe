//! `settings.toml` of a store: what its user set for all of it.

use crate::error::EngineError;
use crate::network::{Destination, NetworkWordError};
use crate::size::Size;
use mvm_ref::nix::NixPublicKey;
use mvm_store::Store;
use serde::Deserialize;
use std::path::PathBuf;

/// Bytes of disk that a scope's layers may hold for themselves, if nobody says otherwise.
const LAYER_BUDGET: u64 = 20 << 30;

/// The key of cache.nixos.org, which Nix trusts unless told otherwise.
const NIX_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
/// The cache of the Nix project.
const SUBSTITUTER: &str = "https://cache.nixos.org";

/// What a store's user set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreSettings {
    layers: Layers,
    nix: Nix,
    builder: Builder,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Nix {
    trusted_public_keys: Option<Vec<NixPublicKey>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Layers {
    budget: Option<Size>,
}

/// What builders are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Builder {
    substituters: Option<Vec<Word>>,
    egress: Option<Vec<Place>>,
}

/// Something that goes into Nix's settings: printable, without a space.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Word(String);

/// A host that builders may reach.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Place(Destination);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text)),
            false => Err(format!("{text:?} is not one word of printable ASCII")),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = NetworkWordError;

    fn try_from(text: String) -> Result<Self, NetworkWordError> {
        text.parse().map(Self)
    }
}

impl Builder {
    /// Returns where a builder asks for what others have built.
    pub fn substituters(&self) -> Vec<&str> {
        let set = self.substituters.as_ref();
        set.map_or_else(|| vec![SUBSTITUTER], |set| set.iter().map(|word| word.0.as_str()).collect())
    }

    /// Returns what a builder with a network may reach, and nothing else; without a list all but the host.
    pub fn egress(&self) -> Option<Vec<Destination>> {
        let places = self.egress.as_ref()?;
        Some(places.iter().map(|place| place.0.clone()).collect())
    }
}

/// The file is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the settings in {}", path.display())]
pub struct SettingsError {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreSettings {
    /// Reads the file; one that is absent sets nothing.
    pub(crate) fn of(store: &Store) -> Result<Self, EngineError> {
        let Some(bytes) = store.settings()? else { return Ok(Self::default()) };
        let path = store.root().join(mvm_store::SETTINGS);
        let text = String::from_utf8(bytes);
        let parsed = text.map_err(Into::into).and_then(|text| toml::from_str(&text).map_err(Into::into));
        parsed.map_err(|source| SettingsError { path, source }.into())
    }

    /// Returns the keys of Nix whose signatures of store paths count: if nobody says otherwise, those that Nix trusts.
    pub fn path_keys(&self) -> Vec<NixPublicKey> {
        let set = self.nix.trusted_public_keys.clone();
        set.unwrap_or_else(|| NIX_KEY.parse().into_iter().collect())
    }

    /// Returns what builders are told.
    pub(crate) fn builder(&self) -> &Builder {
        &self.builder
    }

    /// Returns how many bytes of disk the layers of a scope may hold for themselves.
    pub fn layer_budget(&self) -> u64 {
        self.layers.budget.map_or(LAYER_BUDGET, Size::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_sets() {
        for (text, expected) in [
            ("", Some(20 << 30)),
            ("[layers]\n", Some(20 << 30)),
            ("[layers]\nbudget = \"5GiB\"\n", Some(5 << 30)),
            ("[layers]\nbudget = \"0\"\n", Some(0)),
            ("[layers]\nbudget = 5\n", None),
            ("[layers]\nbudget = \"lots\"\n", None),
            ("[layers]\nbudgets = \"5GiB\"\n", None),
            ("budget = \"5GiB\"\n", None),
            ("[layers\n", None),
            ("[nix]\ntrusted-public-keys = [\"x\"]\n", None),
        ] {
            let parsed = toml::from_str::<StoreSettings>(text);
            assert_eq!(parsed.ok().map(|settings| settings.layer_budget()), expected, "{text:?}");
        }
    }

    #[test]
    fn the_keys_of_nix_that_count() {
        let keys = |text: &str| {
            let settings = toml::from_str::<StoreSettings>(text).unwrap();
            settings.path_keys().iter().map(|key| key.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(""), ["cache.nixos.org-1"]);
        assert_eq!(keys("[nix]\ntrusted-public-keys = []\n"), Vec::<String>::new());
        let own = "test-1:kw2LRcXyMkYqWcP+Qm0kIakJwPcpVWtl5uRgAssOjxY=";
        assert_eq!(keys(&format!("[nix]\ntrusted-public-keys = [\"{own}\"]\n")), ["test-1"]);
    }
}
