use super::*;

#[test]
fn sources_parse_and_print() {
    let name = |tag: &str| Some(Selector::Name(tag.to_owned()));
    let zero = Digest::from_sha256([0; 32]);
    let reference = |text: &str| ImageSource::Registry(text.parse().unwrap());
    let layout = |path: &str, selector| ImageSource::OciLayout { path: path.into(), selector };
    let archive = |path: &str, selector| ImageSource::OciArchive { path: path.into(), selector };
    let docker = |selector| ImageSource::DockerArchive { path: "a.tar".into(), selector };
    let flake = |text: &str| ImageSource::Flake(text.parse().unwrap());
    let named = |name: &str| docker(Some(ArchiveSelector::Name(name.parse().unwrap())));
    let cases = [
        ("debian", reference("debian"), "docker.io/library/debian:latest"),
        ("docker://debian:12", reference("debian:12"), "docker.io/library/debian:12"),
        ("docker:24", reference("docker:24"), "docker.io/library/docker:24"),
        ("oci:dir", layout("dir", None), "oci:dir"),
        ("oci:/a/b:v1", layout("/a/b", name("v1")), "oci:/a/b:v1"),
        ("oci:d:host.com/app:v1", layout("d", name("host.com/app:v1")), "oci:d:host.com/app:v1"),
        ("oci-archive:a.tar", archive("a.tar", None), "oci-archive:a.tar"),
        ("oci-archive:a.tar:x", archive("a.tar", name("x")), "oci-archive:a.tar:x"),
        ("docker-archive:a.tar", docker(None), "docker-archive:a.tar"),
        ("docker-archive:a.tar:@12", docker(Some(ArchiveSelector::Number(12))), "docker-archive:a.tar:@12"),
        ("docker-archive:a.tar:b:1", named("b:1"), "docker-archive:a.tar:docker.io/library/b:1"),
        ("flake:.#web", flake(".#web"), "flake:.#web"),
        ("flake:path:/a:b", flake("path:/a:b"), "flake:path:/a%3Ab"),
        ("docker-archive:a.tar:r.io:5/b", named("r.io:5/b"), "docker-archive:a.tar:r.io:5/b:latest"),
    ];
    for (text, source, shown) in cases {
        assert_eq!(text.parse::<ImageSource>().as_ref(), Ok(&source), "{text}");
        assert_eq!(source.to_string(), shown);
        assert_eq!(shown.parse::<ImageSource>(), Ok(source));
    }
    let pinned = format!("oci:d:@{zero}");
    assert_eq!(pinned.parse(), Ok(layout("d", Some(Selector::Digest(zero)))));
    assert_eq!(layout("d", Some(Selector::Digest(zero))).to_string(), pinned);
}

#[test]
fn other_sources_are_refused_by_name() {
    let transport = |name: &str| SourceError::Transport { transport: name.to_owned() };
    let cases = [
        ("docker-archive:", SourceError::NoPath("docker-archive:".to_owned())),
        ("docker-archive:a:@", SourceError::Number("docker-archive:a:@".to_owned())),
        ("docker-archive:a:@+1", SourceError::Number("docker-archive:a:@+1".to_owned())),
        ("docker-archive:a:", SourceError::EmptyTag("docker-archive:a:".to_owned())),
        ("docker-daemon:app:1", transport("docker-daemon")),
        ("dir:/tmp/x", transport("dir")),
        ("containers-storage:app", transport("containers-storage")),
        ("https://host.com/app", SourceError::Url("https://host.com/app".to_owned())),
        ("flake:", FlakeError::NoPath(String::new()).into()),
        ("oci:", SourceError::NoPath("oci:".to_owned())),
        ("oci::tag", SourceError::NoPath("oci::tag".to_owned())),
        ("oci:dir:", SourceError::EmptyTag("oci:dir:".to_owned())),
        ("", SourceError::Reference(ReferenceError::Empty(String::new()))),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<ImageSource>(), Err(error), "{text}");
    }
    assert!(matches!("oci:dir:@sha256:0".parse::<ImageSource>(), Err(SourceError::Digest { .. })));
    assert_eq!(
        transport("dir").to_string(),
        "image source dir: is not supported; use a registry reference, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] (skopeo copy converts) or flake:REF"
    );
}
