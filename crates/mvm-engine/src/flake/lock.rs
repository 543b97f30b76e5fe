//! `flake.lock`: which revision of each input a flake was last built with (nix3-flake(1), "Lock files").

use mvm_ref::Digest;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Versions of the file that Nix 2.4 and later write.
const VERSIONS: std::ops::RangeInclusive<u64> = 5..=7;

/// A lock file that hangs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    document: Map<String, Value>,
    root: String,
}

/// Says why a text is no lock file.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It isn't JSON.
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    /// Its version is not known.
    #[error("its version is {0}; 5 to 7 are known")]
    Version(String),
    /// Something is not what it should be.
    #[error("{0} is missing or not what it should be")]
    Shape(String),
    /// An input is not in it.
    #[error("input {input:?} of {node:?} is node {target:?}, which is not there")]
    Missing {
        /// Whose input it is.
        node: String,
        /// The input's name.
        input: String,
        /// Where it should be.
        target: String,
    },
}

impl Lock {
    /// Reads a lock file.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        let document: Value = serde_json::from_slice(bytes).map_err(LockError::Json)?;
        let shape = |what: &str| LockError::Shape(what.to_owned());
        let Value::Object(document) = document else { return Err(shape("the top level")) };
        match document.get("version") {
            Some(version) if version.as_u64().is_some_and(|version| VERSIONS.contains(&version)) => {}
            Some(version) => return Err(LockError::Version(version.to_string())),
            None => return Err(shape("version")),
        }
        let root = document.get("root").and_then(Value::as_str).ok_or_else(|| shape("root"))?.to_owned();
        let lock = Self { document, root };
        let nodes = lock.nodes().ok_or_else(|| shape("nodes"))?;
        if !nodes.contains_key(&lock.root) {
            return Err(shape("the node of root"));
        }
        for (name, node) in nodes {
            if !node.is_object() || (*name != lock.root && !node.get("locked").is_some_and(Value::is_object))
            {
                return Err(shape(&format!("node {name:?}")));
            }
            for (input, target) in inputs(node) {
                match target {
                    Value::String(target) if nodes.contains_key(target) => {}
                    Value::String(target) => {
                        let (node, input, target) = (name.clone(), input.clone(), target.clone());
                        return Err(LockError::Missing { node, input, target });
                    }
                    // It follows another input, from the root.
                    Value::Array(path) if path.iter().all(Value::is_string) => {}
                    _ => return Err(shape(&format!("input {input:?} of node {name:?}"))),
                }
            }
        }
        Ok(lock)
    }

    fn nodes(&self) -> Option<&Map<String, Value>> {
        self.document.get("nodes")?.as_object()
    }

    /// Returns the names of the flake's own inputs.
    pub fn inputs(&self) -> BTreeSet<String> {
        let root = self.nodes().and_then(|nodes| nodes.get(&self.root));
        root.into_iter().flat_map(inputs).map(|(name, _)| name.clone()).collect()
    }

    /// Forgets some of the flake's own inputs, and what only they need.
    pub fn without(mut self, names: &BTreeSet<String>) -> Self {
        let root = self.root.clone();
        let nodes = self.document.get_mut("nodes").and_then(Value::as_object_mut);
        let Some(nodes) = nodes else { return self };
        if let Some(Value::Object(inputs)) = nodes.get_mut(&root).and_then(|node| node.get_mut("inputs")) {
            inputs.retain(|name, _| !names.contains(name));
        }
        let mut reached = BTreeSet::new();
        let mut next = vec![root];
        while let Some(name) = next.pop() {
            let Some(node) = nodes.get(&name) else { continue };
            if reached.insert(name) {
                next.extend(inputs(node).filter_map(|(_, target)| target.as_str()).map(str::to_owned));
            }
        }
        nodes.retain(|name, _| reached.contains(name));
        self
    }

    /// Returns the file as Nix writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LockError> {
        let mut bytes = serde_json::to_vec_pretty(&self.document).map_err(LockError::Json)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Returns a digest over what it says, whatever its layout.
    pub fn digest(&self) -> Result<Digest, LockError> {
        Ok(Digest::of(&serde_json::to_vec(&self.document).map_err(LockError::Json)?))
    }
}

fn inputs(node: &Value) -> impl Iterator<Item = (&String, &Value)> {
    node.get("inputs").and_then(Value::as_object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::Lock;

    const TWO: &str = r#"{"nodes": {
        "mvm": {"inputs": {"nixpkgs": ["nixpkgs"], "systems": "systems"}, "locked": {"type": "path"}},
        "nixpkgs": {"locked": {"narHash": "sha256-x", "type": "github"}},
        "root": {"inputs": {"mvm": "mvm", "nixpkgs": "nixpkgs"}},
        "systems": {"locked": {}}
    }, "root": "root", "version": 7}"#;

    #[test]
    fn inputs_are_known_and_forgotten() {
        let lock = Lock::parse(TWO.as_bytes()).expect("a lock");
        assert_eq!(lock.inputs(), ["mvm", "nixpkgs"].map(str::to_owned).into());
        let less = lock.clone().without(&["mvm".to_owned()].into());
        assert_eq!(less.inputs(), ["nixpkgs".to_owned()].into());
        let written = "{\n  \"nodes\": {\n    \"nixpkgs\": {\n      \"locked\": {\n        \"narHash\": \"sha256-x\",\n        \"type\": \"github\"\n      }\n    },\n    \"root\": {\n      \"inputs\": {\n        \"nixpkgs\": \"nixpkgs\"\n      }\n    }\n  },\n  \"root\": \"root\",\n  \"version\": 7\n}\n";
        let bytes = less.to_bytes().expect("text");
        assert_eq!(String::from_utf8_lossy(&bytes), written);
        assert_eq!(Lock::parse(&bytes).expect("a lock"), less);
        assert_ne!(less.digest().expect("a digest"), lock.digest().expect("a digest"));
        let squeezed: String = TWO.split_whitespace().collect();
        let squeezed = Lock::parse(squeezed.as_bytes()).expect("a lock");
        assert_eq!(squeezed.digest().expect("a digest"), lock.digest().expect("a digest"));
    }

    #[test]
    fn what_does_not_hang_together_is_refused() {
        let table = [
            ("", "it is not JSON"),
            ("[]", "the top level is missing or not what it should be"),
            ("{}", "version is missing or not what it should be"),
            (r#"{"version": 8}"#, "its version is 8; 5 to 7 are known"),
            (r#"{"version": "7"}"#, "its version is \"7\"; 5 to 7 are known"),
            (r#"{"version": 7}"#, "root is missing or not what it should be"),
            (r#"{"version": 7, "root": "r"}"#, "nodes is missing or not what it should be"),
            (
                r#"{"version": 7, "root": "r", "nodes": {}}"#,
                "the node of root is missing or not what it should be",
            ),
            (
                r#"{"version": 7, "root": "r", "nodes": {"r": {"inputs": {"a": "b"}}}}"#,
                "input \"a\" of \"r\" is node \"b\", which is not there",
            ),
            (
                r#"{"version": 7, "root": "r", "nodes": {"r": {}, "b": {}}}"#,
                "node \"b\" is missing or not what it should be",
            ),
            (
                r#"{"version": 7, "root": "r", "nodes": {"r": {"inputs": {"a": 1}}}}"#,
                "input \"a\" of node \"r\" is missing or not what it should be",
            ),
        ];
        for (text, expected) in table {
            let error = Lock::parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }
}
