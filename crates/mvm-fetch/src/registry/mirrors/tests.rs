use super::*;
use std::cell::RefCell;
use std::path::Path;

fn parse(text: &str) -> Result<(Mirrors, Vec<Notice>), MirrorsError> {
    let told = RefCell::new(Vec::new());
    let tell = |notice| told.borrow_mut().push(notice);
    let entries = file::parse(Path::new("r.conf"), text, &tell)?;
    let by_prefix = entries.into_iter().map(|entry| (entry.prefix.clone(), entry)).collect();
    Ok((Mirrors { by_prefix }, told.into_inner()))
}

const RULES: &str = r#"
unqualified-search-registries = ["quay.io"]
short-name-mode = "enforcing"

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "third.example/"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "docker.io/library"
location = "own.example/official"

[[registry]]
prefix = "docker.io/library/secret"
blocked = true

[[registry]]
prefix = "*.example.com"
location = "cache.example/all"
insecure = true
[[registry]]
prefix = "*.deep.example.com"
[[registry]]
prefix = "one.deep.example.com/team"
mirror-by-digest-only = true
[[registry.mirror]]
location = "localhost/copy"

[[registry]]
location = "lab.example"
insecure = true

[aliases]
"x" = "docker.io/library/x"
"#;

#[test]
fn the_most_particular_rule_says_where_to_ask() {
    let (mirrors, told) = parse(RULES).unwrap();
    assert_eq!(told, []);
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let cases: &[(&str, &[&str])] = &[
        (
            "team/app:1",
            &["mirror.example:5000/hub/team/app:1", "third.example/team/app:1", "docker.io/team/app:1"],
        ),
        (
            "team/app@D",
            &["mirror.example:5000/hub/team/app@D", "second.example/team/app@D", "docker.io/team/app@D"],
        ),
        ("alpine", &["own.example/official/alpine:latest"]),
        (
            "library2/x",
            &[
                "mirror.example:5000/hub/library2/x:latest",
                "third.example/library2/x:latest",
                "docker.io/library2/x:latest",
            ],
        ),
        ("a.example.com/x/y:1", &["cache.example/all/x/y:1"]),
        ("example.com/x:1", &["example.com/x:1"]),
        ("b.deep.example.com/x:1", &["b.deep.example.com/x:1"]),
        ("one.deep.example.com/team/x:1", &["one.deep.example.com/team/x:1"]),
        ("one.deep.example.com/team/x:1@D", &["localhost/copy/x:1@D", "one.deep.example.com/team/x:1@D"]),
        ("one.deep.example.com/teams/x:1", &["one.deep.example.com/teams/x:1"]),
        ("other.example/x:1", &["other.example/x:1"]),
    ];
    for (image, expected) in cases {
        let image: Reference = image.replace('D', digest).parse().unwrap();
        let places = mirrors.places(&image).unwrap().iter().map(Reference::to_string).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|text| text.replace('D', digest)).collect();
        assert_eq!(places, expected, "{image}");
    }
    let blocked = mirrors.places(&"secret".parse().unwrap()).unwrap_err();
    let expected = "docker.io/library/secret:latest is blocked by the rule for \"docker.io/library/secret\" in registries.conf";
    assert_eq!(blocked.to_string(), expected);
    assert_eq!(mirrors.places(&"secrets".parse().unwrap()).unwrap().len(), 1);
    let insecure: Vec<_> = mirrors.insecure().iter().map(ToString::to_string).collect();
    assert_eq!(insecure, ["cache.example", "mirror.example:5000", "lab.example"]);
}

#[test]
fn what_blocks_a_host_blocks_its_ports_and_other_letters() {
    let rules = "[[registry]]\nprefix=\"bad.example\"\nblocked=true\n\
                 [[registry]]\nprefix=\"*.bad.example\"\nblocked=true\n\
                 [[registry]]\nprefix=\"[::2]\"\nblocked=true\n\
                 [[registry]]\nprefix=\"one.example:5000\"\nblocked=true\n";
    let (mirrors, _) = parse(rules).unwrap();
    let cases = [
        ("bad.example/x", true),
        ("bad.example:443/x", true),
        ("BAD.Example/x", true),
        ("a.bad.example:5000/x", true),
        ("A.b.BAD.example/x", true),
        ("[::2]:5000/x", true),
        ("one.example:5000/x", true),
        ("one.example:50001/x", false),
        ("one.example/x", false),
        ("bad.example.org/x", false),
        ("notbad.example/x", false),
        ("other.example/bad.example/x", false),
    ];
    for (image, blocked) in cases {
        let places = mirrors.places(&image.parse().unwrap());
        assert_eq!(matches!(places, Err(MirrorsError::Blocked { .. })), blocked, "{image}: {places:?}");
        assert_eq!(places.is_err(), blocked, "{image}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let cases = [
        ("[[registry]\n", "\"r.conf\" is not valid at line 1, column 12: "),
        ("x = 1\n[[registry]]\nlocation = 5\n", "\"r.conf\" is not valid at line 3, column 12: invalid type"),
        (
            "[[registry]]\nlocation=\"a.b\"\n[[registry.mirror]]\nlocation=\"c.d\"\npull-from-mirror=\"x\"",
            "\"r.conf\" is not valid at line 5, column 18: unknown variant",
        ),
        ("[registries.search]\nregistries = []\n", "\"r.conf\" has the format of version 1"),
        ("[[registry]]\nblocked = true", "\"r.conf\": the 1. [[registry]] has neither prefix nor location"),
        ("[[registry]]\nlocation = \"host/x\"", "\"r.conf\": prefix \"host/x\" is not HOST"),
        ("[[registry]]\nlocation = \"https://a.b\"", "\"r.conf\": prefix \"https://a.b\" is not HOST"),
        ("[[registry]]\nprefix = \"*.a.b/x\"", "\"r.conf\": prefix \"*.a.b/x\" is not HOST"),
        ("[[registry]]\nprefix = \"a.b/x:tag\"", "\"r.conf\": prefix \"a.b/x:tag\" is not HOST"),
        (
            "[[registry]]\nprefix=\"a.b\"\n[[registry.mirror]]\ninsecure=true",
            "\"r.conf\": mirror location \"\" is not HOST",
        ),
        (
            "[[registry]]\nprefix=\"a.b\"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation=\"c.d\"\n\
             pull-from-mirror=\"all\"",
            "\"r.conf\": \"a.b\" has both mirror-by-digest-only",
        ),
    ];
    for (text, expected) in cases {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{text}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let (_, told) =
        parse("nonsense=1\n[[registry]]\nlocation=\"a.b\"\nmirrors=[]\nmirror=[{location=\"c.d\",x=1}]")
            .unwrap();
    let told: Vec<_> = told.iter().map(ToString::to_string).collect();
    let expected = ["nonsense", "registry.mirrors", "registry.mirror.x"]
        .map(|key| format!("\"r.conf\": the key {key} is not known and changes nothing"));
    assert_eq!(told, expected);
}

#[test]
fn files_are_found_and_later_ones_win() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let rule = |place: &str| format!("[[registry]]\nprefix=\"a.b\"\nlocation=\"{place}\"");
    let place = |conf: &RegistriesConf| {
        let mirrors = Mirrors::load(conf, |_| ())?;
        let places = mirrors.places(&"a.b/x:1".parse().unwrap())?;
        Ok::<_, MirrorsError>(places[0].registry().to_owned())
    };
    let (own, system) = (directory.path().join("own.conf"), write("etc.conf", &rule("system.example")));
    let search = RegistriesConf::Search {
        files: vec![own.clone(), system],
        directories: vec![directory.path().join("none.d"), directory.path().join("conf.d")],
    };
    assert_eq!(place(&search).unwrap(), "system.example");
    write("own.conf", "");
    assert_eq!(place(&search).unwrap(), "a.b");
    write("conf.d/2.conf", &rule("two.example"));
    write("conf.d/1.conf", &rule("one.example"));
    write("conf.d/3.toml", "not read");
    assert_eq!(place(&search).unwrap(), "two.example");
    let missing = place(&RegistriesConf::File(directory.path().join("none"))).unwrap_err();
    assert!(matches!(missing, MirrorsError::Read { .. }), "{missing:?}");
    std::fs::write(&own, vec![b'#'; (1 << 20) + 1]).unwrap();
    let long = place(&RegistriesConf::File(own)).unwrap_err();
    assert!(matches!(long, MirrorsError::TooLarge { .. }), "{long:?}");
}
