//! A set of store paths that refers to nothing outside of itself.

use super::{
    ContentAddress, ContentAddressError, NarHash, NarHashError, NixSignature, PathInfo, StorePath,
    StorePathError,
};
use crate::MAX_NESTING;
use crate::document::null_is_default;
use crate::json;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most bytes of what `nix path-info` says of a closure.
pub const MAX_CLOSURE_DOCUMENT: usize = 64 << 20;
/// Most paths of a closure.
pub const MAX_CLOSURE_PATHS: usize = 20_000;
/// Most signatures of one path.
const MAX_SIGNATURES: usize = 64;

/// Store paths that refer to nothing outside of themselves, in order of path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    paths: BTreeMap<StorePath, PathInfo>,
}

/// Says why what `nix path-info` printed is no closure.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// The text is too long.
    #[error("the description of the closure has {got} bytes, more than {MAX_CLOSURE_DOCUMENT}")]
    Size {
        /// Its bytes.
        got: usize,
    },
    /// Arrays and objects are in each other too often.
    #[error("the description of the closure nests deeper than {MAX_NESTING} levels")]
    Nesting,
    /// The text is not the JSON that `nix path-info --json` prints.
    #[error("the description of the closure is not what nix path-info --json prints")]
    Json(#[from] serde_json::Error),
    /// A path is none.
    #[error(transparent)]
    Path(#[from] StorePathError),
    /// A path comes twice.
    #[error("the closure has {0} twice")]
    Twice(StorePath),
    /// The builder's store has no such path.
    #[error("{0} is not in the builder's store")]
    Invalid(StorePath),
    /// A path has no hash that can be compared.
    #[error("the hash of {path}")]
    Hash {
        /// The path.
        path: StorePath,
        /// What is wrong with it.
        source: NarHashError,
    },
    /// A path has a content address of no known form.
    #[error("the content address of {path}")]
    ContentAddress {
        /// The path.
        path: StorePath,
        /// What is wrong with it.
        source: ContentAddressError,
    },
    /// A path refers to something that is not a store path.
    #[error("a reference of {path}")]
    Reference {
        /// The path.
        path: StorePath,
        /// What is wrong with it.
        source: StorePathError,
    },
    /// A path refers to one that is not there.
    #[error("the closure is not closed: {path} refers to {missing}, which is not part of it")]
    NotClosed {
        /// The path.
        path: StorePath,
        /// What it refers to.
        missing: StorePath,
    },
    /// The output is not part of it.
    #[error("the closure does not hold the output {0}")]
    NoOutput(StorePath),
    /// A path is not needed.
    #[error("the closure holds {path}, which {output} does not refer to, directly or not")]
    Unreachable {
        /// The path.
        path: StorePath,
        /// The output.
        output: StorePath,
    },
    /// There are too many paths.
    #[error("the closure has more than {MAX_CLOSURE_PATHS} paths")]
    Count,
    /// The sizes add up to more than 63 bits.
    #[error("the sizes of the closure's paths add up to more than there can be")]
    TotalSize,
}

impl Closure {
    /// Reads what `nix path-info --json -r` prints: an array (Nix 2.8) or an object keyed by path (since 2.19).
    ///
    /// Fails unless every path that is referred to is there.
    pub fn parse(text: &[u8]) -> Result<Self, ClosureError> {
        if text.len() > MAX_CLOSURE_DOCUMENT {
            return Err(ClosureError::Size { got: text.len() });
        }
        if json::nests_too_deep(text) {
            return Err(ClosureError::Nesting);
        }
        let Listing(entries) = serde_json::from_slice(text)?;
        if entries.len() > MAX_CLOSURE_PATHS {
            return Err(ClosureError::Count);
        }
        Self::new(entries.into_iter().map(|(path, raw)| checked(&path, raw)).collect::<Result<_, _>>()?)
    }

    /// Makes a closure of paths that refer to each other only.
    pub fn new(infos: Vec<PathInfo>) -> Result<Self, ClosureError> {
        if infos.len() > MAX_CLOSURE_PATHS {
            return Err(ClosureError::Count);
        }
        let mut paths = BTreeMap::new();
        let mut total = 0_u64;
        for info in infos {
            total = total
                .checked_add(info.nar_size)
                .filter(|total| *total <= i64::MAX as u64)
                .ok_or(ClosureError::TotalSize)?;
            let path = info.path.clone();
            if let Some(twice) = paths.insert(path, info) {
                return Err(ClosureError::Twice(twice.path));
            }
        }
        for info in paths.values() {
            if let Some(missing) = info.references.iter().find(|reference| !paths.contains_key(*reference)) {
                return Err(ClosureError::NotClosed { path: info.path.clone(), missing: missing.clone() });
            }
        }
        Ok(Self { paths })
    }

    /// Checks that this is the closure of `output`: that it is there, and all else is needed by it.
    pub fn check_output(&self, output: &StorePath) -> Result<(), ClosureError> {
        if !self.paths.contains_key(output) {
            return Err(ClosureError::NoOutput(output.clone()));
        }
        let mut reached = BTreeSet::from([output]);
        let mut open = vec![output];
        while let Some(path) = open.pop() {
            let references = self.paths.get(path).into_iter().flat_map(|info| &info.references);
            open.extend(references.filter(|reference| reached.insert(reference)));
        }
        match self.paths.keys().find(|path| !reached.contains(path)) {
            Some(path) => Err(ClosureError::Unreachable { path: path.clone(), output: output.clone() }),
            None => Ok(()),
        }
    }

    /// Returns what is known of each path, in order of path.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &PathInfo> {
        self.paths.values()
    }

    /// Returns what is known of a path.
    pub fn get(&self, path: &StorePath) -> Option<&PathInfo> {
        self.paths.get(path)
    }

    /// Returns the bytes of all NARs together.
    pub fn nar_size(&self) -> u64 {
        self.paths.values().map(|info| info.nar_size).sum()
    }
}

/// What is said of a path; Nix says more, which is not needed, and leaves out what is empty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawInfo {
    path: Option<String>,
    #[serde(default = "yes")]
    valid: bool,
    #[serde(default)]
    nar_hash: String,
    #[serde(default)]
    nar_size: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    references: Vec<String>,
    #[serde(default)]
    deriver: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    signatures: Vec<String>,
    #[serde(default)]
    ca: Option<String>,
}

fn yes() -> bool {
    true
}

/// Paths in the order of the text, with what is said of them; nothing is said of a path that is not there.
struct Listing(Vec<(String, Option<RawInfo>)>);

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Listing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of paths, or an object of them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Listing, A::Error> {
                let mut entries = Vec::new();
                while let Some(mut raw) = seq.next_element::<RawInfo>()? {
                    let path = raw.path.take().ok_or_else(|| serde::de::Error::missing_field("path"))?;
                    entries.push((path, Some(raw)));
                }
                Ok(Listing(entries))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listing, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, Option<RawInfo>>()? {
                    entries.push(entry);
                }
                Ok(Listing(entries))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

fn checked(path: &str, raw: Option<RawInfo>) -> Result<PathInfo, ClosureError> {
    let path: StorePath = path.parse()?;
    let Some(raw) = raw.filter(|raw| raw.valid) else { return Err(ClosureError::Invalid(path)) };
    let nar_hash: NarHash =
        raw.nar_hash.parse().map_err(|source| ClosureError::Hash { path: path.clone(), source })?;
    let reference = |text: &String| text.parse::<StorePath>();
    let references = raw.references.iter().map(reference).collect::<Result<_, _>>();
    let references = references.map_err(|source| ClosureError::Reference { path: path.clone(), source })?;
    let ca = raw.ca.filter(|text| !text.is_empty()).map(|text| text.parse::<ContentAddress>()).transpose();
    let ca = ca.map_err(|source| ClosureError::ContentAddress { path: path.clone(), source })?;
    // A signature of another form is as good as none; keys of other kinds may come.
    let signatures =
        raw.signatures.iter().take(MAX_SIGNATURES).filter_map(|text| text.parse::<NixSignature>().ok());
    Ok(PathInfo {
        nar_hash,
        nar_size: raw.nar_size,
        references,
        deriver: raw.deriver.and_then(|text| text.parse().ok()),
        signatures: signatures.collect(),
        ca,
        path,
    })
}
