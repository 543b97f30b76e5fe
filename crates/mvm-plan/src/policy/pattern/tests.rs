use super::*;

#[test]
fn registries_match_as_a_whole() {
    let table = [
        ("docker.io", "docker.io", true),
        ("docker.io", "DOCKER.io", true),
        ("Docker.IO", "docker.io", true),
        ("docker.io", "docker.io:443", false),
        ("docker.io", "docker.iox", false),
        ("docker.io", "xdocker.io", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "a.example.com.evil.org", false),
        ("127.0.0.1:*", "127.0.0.1:5000", true),
        ("127.0.0.1:*", "127.0.0.1", false),
        ("[::1]:5000", "[::1]:5000", true),
        ("*", "anything:1", true),
    ];
    for (pattern, registry, expected) in table {
        assert_eq!(
            pattern.parse::<RegistryPattern>().unwrap().fits(registry),
            expected,
            "{pattern} {registry}"
        );
    }
    for text in ["", "a/b", "a b", "a\n", "über.de", &"a".repeat(513)] {
        assert!(matches!(text.parse::<RegistryPattern>(), Err(PatternError::Registry(_))), "{text:?}");
    }
}

#[test]
fn repositories_match_component_by_component() {
    let table = [
        ("docker.io/library/debian", "docker.io/library/debian", true),
        ("docker.io/library/debian", "docker.io/library/debian2", false),
        ("docker.io/library/*", "docker.io/library/debian", true),
        ("docker.io/library/*", "docker.io/library/a/b", false),
        ("docker.io/library/*", "docker.io/library", false),
        ("docker.io/library/*", "docker.io/other/debian", false),
        ("docker.io/lib*/d*n", "docker.io/library/debian", true),
        ("docker.io/lib*/d*n", "docker.io/library/debia", false),
        ("ghcr.io/org/**", "ghcr.io/org/a", true),
        ("ghcr.io/org/**", "ghcr.io/org/a/b/c", true),
        ("ghcr.io/org/**", "ghcr.io/org", false),
        ("ghcr.io/org/**", "ghcr.io/organ/a", false),
        ("ghcr.io/**/app", "ghcr.io/a/b/app", true),
        ("ghcr.io/**/app", "ghcr.io/app", false),
        ("*/**", "anything:5000/a", true),
        ("GHCR.io/a", "ghcr.IO/a", true),
        ("*.example.com/a", "x/example.com/a", false),
    ];
    for (pattern, name, expected) in table {
        assert_eq!(pattern.parse::<RepositoryPattern>().unwrap().fits(name), expected, "{pattern} {name}");
    }
    for text in ["debian", "library/debian", "docker.io", "docker.io/", ""] {
        let error = PatternError::NoRegistry(text.to_owned());
        assert_eq!(text.parse::<RepositoryPattern>(), Err(error), "{text:?}");
    }
    for text in
        ["a.b//c", "a.b/C", "a.b/c:tag", "a.b/c@sha256:0", "a.b/***", "a.b/x**", "a.b/c d", "**/**/a b"]
    {
        let error = PatternError::Repository(text.to_owned());
        assert_eq!(text.parse::<RepositoryPattern>(), Err(error), "{text:?}");
    }
}

#[test]
fn hostile_patterns_end() {
    let pattern = "*a".repeat(100);
    assert!(!glob(pattern.as_bytes(), "a".repeat(5000).replace("aaaa", "b").as_bytes()));
    let many = format!("x.y/{}", ["**"; 60].join("/"));
    let name = format!("x.y/{}", ["a"; 100].join("/"));
    assert!(many.parse::<RepositoryPattern>().unwrap().fits(&name));
}
