//! `settings.toml` of a store: what its user set for all of it.

use crate::error::EngineError;
use crate::size::Size;
use mvm_store::Store;
use serde::Deserialize;
use std::path::PathBuf;

/// Bytes of disk that a scope's layers may hold for themselves, if nobody says otherwise.
const LAYER_BUDGET: u64 = 20 << 30;

/// What a store's user set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreSettings {
    layers: Layers,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Layers {
    budget: Option<Size>,
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
        ] {
            let parsed = toml::from_str::<StoreSettings>(text);
            assert_eq!(parsed.ok().map(|settings| settings.layer_budget()), expected, "{text:?}");
        }
    }
}
