use super::{FlakeAttribute, FlakeAttributeError, FlakeError, FlakeKind, FlakeReference};

#[test]
fn references_are_parsed_and_written() {
    use FlakeKind::{Directory, Git, Path};
    let table = [
        (".", Directory, ".", None, None, "."),
        (".#", Directory, ".", None, None, "."),
        ("#web", Directory, ".", None, Some("web"), ".#web"),
        (".#web", Directory, ".", None, Some("web"), ".#web"),
        ("..", Directory, "..", None, None, ".."),
        ("./a b", Directory, "./a b", None, None, "./a b"),
        ("/srv/a%20b", Directory, "/srv/a%20b", None, None, "/srv/a%20b"),
        ("/srv/web?dir=nix#a.b", Directory, "/srv/web", Some("nix"), Some("a.b"), "/srv/web?dir=nix#a.b"),
        ("path:./sub", Path, "./sub", None, None, "path:./sub"),
        ("path:/srv/a%20b%23", Path, "/srv/a b#", None, None, "path:/srv/a%20b%23"),
        (
            "path:///srv/web?dir=./nix/#x'",
            Path,
            "/srv/web",
            Some("nix"),
            Some("x'"),
            "path:/srv/web?dir=nix#x'",
        ),
        ("git+file:///srv/web", Git, "/srv/web", None, None, "git+file:/srv/web"),
        ("git+file:.?dir=.", Git, ".", None, None, "git+file:."),
        (
            "git+file:/srv/%C3%A4?dir=a%3Fb",
            Git,
            "/srv/ä",
            Some("a?b"),
            None,
            "git+file:/srv/%C3%A4?dir=a%3Fb",
        ),
    ];
    for (text, kind, path, subdirectory, attribute, written) in table {
        let reference: FlakeReference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.kind(), kind, "{text}");
        assert_eq!(reference.path(), std::path::Path::new(path), "{text}");
        assert_eq!(reference.subdirectory(), subdirectory, "{text}");
        assert_eq!(reference.attribute().map(FlakeAttribute::as_str), attribute, "{text}");
        assert_eq!(reference.to_string(), written, "{text}");
        assert_eq!(written.parse(), Ok(reference), "{text}");
    }
}

#[test]
fn what_is_no_local_flake_is_refused() {
    let t = |text: &str| text.to_owned();
    let table = [
        ("", FlakeError::NoPath(t(""))),
        ("path:", FlakeError::NoPath(t("path:"))),
        ("nixpkgs", FlakeError::Registry(t("nixpkgs"))),
        ("nixpkgs#hello", FlakeError::Registry(t("nixpkgs#hello"))),
        ("github:a/b", FlakeError::Remote { text: t("github:a/b"), scheme: t("github") }),
        (
            "git+https://example.org/a",
            FlakeError::Remote { text: t("git+https://example.org/a"), scheme: t("git+https") },
        ),
        ("git+file://host/a", FlakeError::Host(t("git+file://host/a"))),
        (".?ref=main", FlakeError::Parameter { text: t(".?ref=main"), name: t("ref") }),
        (".?dir", FlakeError::Parameter { text: t(".?dir"), name: t("dir") }),
        (".?dir=../a", FlakeError::Subdirectory { text: t(".?dir=../a"), directory: t("../a") }),
        (".?dir=/a", FlakeError::Subdirectory { text: t(".?dir=/a"), directory: t("/a") }),
        ("path:/a%2", FlakeError::Percent(t("path:/a%2"))),
        ("path:/a%ff", FlakeError::Percent(t("path:/a%ff"))),
        ("path:/a%00", FlakeError::Character { path: t("/a\0"), found: '\0' }),
        ("./a\nb", FlakeError::Character { path: t("./a\nb"), found: '\n' }),
        (".#a b", FlakeAttributeError::Name(t("a b")).into()),
        (".#a..b", FlakeAttributeError::Name(t("a..b")).into()),
        (".#-a", FlakeAttributeError::Name(t("-a")).into()),
        (".#a^out", FlakeAttributeError::Outputs(t("a^out")).into()),
    ];
    for (text, expected) in table {
        assert_eq!(text.parse::<FlakeReference>(), Err(expected), "{text:?}");
    }
    let long = "a".repeat(201);
    assert_eq!(long.parse::<FlakeAttribute>(), Err(FlakeAttributeError::Length { limit: 200, got: 201 }));
}

#[test]
fn a_directory_that_no_reference_can_say_is_refused() {
    assert_eq!(
        FlakeReference::directory("/srv/a#b"),
        Err(FlakeError::Character { path: "/srv/a#b".to_owned(), found: '#' })
    );
    let written = FlakeReference::directory("web").map(|reference| reference.to_string());
    assert_eq!(written, Ok("./web".to_owned()));
}
