//! `registries.conf`: an image is looked for where a rule says, by its own tag and digest, and nowhere else.

use mvm_fetch::fuzzing::places;
use mvm_ref::Reference;

/// Images that are looked up.
const IMAGES: [&str; 4] =
    ["docker.io/library/x:1", "a.example.com/team/x:1", "one.example:5000/x:1", "quay.io/x:1"];

/// Reads the input as a file of rules.
pub fn body(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for image in IMAGES {
        let Ok(image) = image.parse::<Reference>() else { continue };
        let pinned = image.pinned(mvm_ref::Digest::of(b"x"));
        for image in [image, pinned] {
            match places(text, &image) {
                Ok(places) => {
                    assert!(!places.is_empty(), "nowhere to look for {image}");
                    for place in &places {
                        assert_eq!((place.tag(), place.digest()), (image.tag(), image.digest()), "{place}");
                    }
                }
                Err(words) => assert!(!words.is_empty()),
            }
        }
    }
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let rules = r#"unqualified-search-registries = ["quay.io"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.example"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "docker.io/library"
location = "own.example/official"
[[registry]]
prefix = "*.example.com"
location = "cache.example/all"
[[registry]]
prefix = "one.example:5000"
blocked = true
[aliases]
"x" = "docker.io/library/x"
"#;
    let more = "[[registry]]\nprefix = \"quay.io\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"localhost/copy\"\n";
    let bad = "[[registry]]\nlocation = \"\u{fc}\u{fc}\"\nunknown = \u{fc}";
    [rules, more, bad, "[registries.search]\nregistries = []\n"]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}
