//! One file with every key, compared as a whole, and a table of mistakes with their messages.

use super::*;

fn parse(text: &str) -> Result<Project, ProjectMistakes> {
    Project::parse(text.as_bytes(), Path::new("/home/ann/shop/mvm.toml"), Path::new("mvm.toml"))
}

/// Returns what is said of a text that is no project.
fn mistakes(text: &str) -> String {
    match parse(text) {
        Ok(project) => panic!("it is a project: {project:?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

#[test]
fn every_key() {
    let project =
        parse(include_str!("../../golden/mvm.toml")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let got = serde_json::to_string_pretty(&project).unwrap() + "\n";
    let expected = include_str!("../../golden/mvm.json");
    assert_eq!(got, expected, "\n{got}");
}

#[test]
fn defaults() {
    let project = parse("[vm.web]\nimage = \"debian:12\"\n").unwrap();
    let got = serde_json::to_value(&project).unwrap();
    let expected = serde_json::json!({
        "name": "shop",
        "vms": [{
            "key": "web", "name": "shop-web", "after": [],
            "image": "docker.io/library/debian:12", "platform": null, "pull": "missing", "isolation": "any",
            "kernel": null, "cpus": 1, "memory_mib": 512, "scratch_mib": 16384, "read_only": false, "main": true,
            "entrypoint": null, "command": [], "env_files": [], "env": [], "user": null, "working_dir": null,
            "stop_grace_secs": 10, "restart": "no", "network": "user", "egress": null, "allow_host": [],
            "ports": [], "mounts": [], "secrets": [],
            "services": [], "health_checks": [], "users": [], "service_group": null,
        }],
        "volumes": [],
    });
    assert_eq!(got, expected);
}

#[test]
fn commands() {
    let sh = |text: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    for (lines, main, entrypoint, command) in [
        ("", true, None, vec![]),
        ("command = ['a', 'b']", true, None, words(&["a", "b"])),
        ("command = 'a b'", true, Some(vec![]), sh("a b")),
        ("entrypoint = '/a'", true, Some(words(&["/a"])), vec![]),
        ("entrypoint = ''", true, Some(vec![]), vec![]),
        ("entrypoint = ''\ncommand = 'a'", true, Some(vec![]), sh("a")),
        ("entrypoint = ['/a', '']\ncommand = ['b']", true, Some(words(&["/a", ""])), words(&["b"])),
        ("services.s.command = ['c']", false, None, vec![]),
        ("main = true\nservices.s.command = ['c']", true, None, vec![]),
        ("command = ['a']\nservices.s.command = ['c']", true, None, words(&["a"])),
    ] {
        let project =
            parse(&format!("[vm.a]\nimage = 'b'\n{lines}\n")).unwrap_or_else(|m| panic!("{lines}: {m}"));
        let vm = &project.vms[0];
        assert_eq!((vm.main, &vm.entrypoint, &vm.command), (main, &entrypoint, &command), "{lines}");
    }
}

#[test]
fn the_project_is_called_as_its_directory() {
    for (path, expected) in [
        ("/srv/Shop/mvm.toml", Some("shop")),
        ("/srv/_My Shop (2)/mvm.toml", Some("myshop2")),
        ("/mvm.toml", None),
        ("/srv/…/mvm.toml", None),
    ] {
        let text = "[vm.a]\nimage = 'b'\n";
        let project = Project::parse(text.as_bytes(), Path::new(path), Path::new("mvm.toml"));
        assert_eq!(project.ok().map(|project| project.name.to_string()).as_deref(), expected, "{path}");
    }
}

#[test]
fn what_is_needed_is_chosen_with_what_is_asked_for() {
    let project = parse(
        "[vm.a]\nimage='i'\nafter=['c']\n[vm.b]\nimage='i'\n[vm.c]\nimage='i'\nafter={d='started'}\n[vm.d]\nimage='i'\n",
    )
    .unwrap();
    let key = |text: &str| text.parse::<VmName>().unwrap();
    let chosen = |keys: &[&str]| {
        let keys: Vec<VmName> = keys.iter().map(|text| key(text)).collect();
        project.chosen(&keys).map(|vms| vms.iter().map(|vm| vm.key.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(chosen(&[]), Ok("b d c a".to_owned()));
    assert_eq!(chosen(&["c"]), Ok("d c".to_owned()));
    assert_eq!(chosen(&["a", "b"]), Ok("b d c a".to_owned()));
    assert_eq!(chosen(&["d", "x"]), Err(key("x")));
}

#[test]
fn mistakes_and_their_places() {
    for (text, expected) in include_str!("../../golden/mistakes.txt").split("\n=== ").skip(1).map(|case| {
        let (text, expected) = case.split_once("\n--- said\n").unwrap();
        let (_, text) = text.split_once('\n').unwrap_or((text, ""));
        (text, expected.trim_end())
    }) {
        assert_eq!(mistakes(text), expected, "\n{text}\n\n{}\n", mistakes(text));
    }
}

#[test]
fn all_of_a_bad_file_is_told_once_and_no_more_than_fits() {
    let text: String = (0..30).map(|index| format!("key{index:02} = 1\n")).collect();
    let said = mistakes(&text);
    assert_eq!(said.matches("unknown key").count(), 19, "{said}");
    assert!(said.ends_with("\nand 11 more"), "{said}");
}

#[test]
fn hostile_texts_are_mistakes() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("[vm.a]\nimage = \"{}\"", "x".repeat(900_000));
    for text in [
        &deep,
        &long,
        "\u{0}",
        "[vm.a]\nimage = \"a\\u0000b\"",
        "a = \"\u{1b}[2J\"",
        "[vm]\n\"\" = {}",
        "\u{feff}x",
    ] {
        let said = mistakes(text);
        assert!(said.len() < 4000, "{} bytes", said.len());
        assert!(!said.contains('\u{1b}') && !said.contains('\0'), "{said:?}");
    }
    let bytes = [b"[vm.a]\nimage = \"".as_slice(), &[0xff, 0xfe], b"\""].concat();
    let said =
        Project::parse(&bytes, Path::new("/a/mvm.toml"), Path::new("mvm.toml")).unwrap_err().to_string();
    assert_eq!(said.lines().next(), Some("mvm.toml:2:10: this is not UTF-8"), "{said}");
    let large = vec![b'#'; MAX_PROJECT + 1];
    let said =
        Project::parse(&large, Path::new("/a/mvm.toml"), Path::new("mvm.toml")).unwrap_err().to_string();
    assert!(said.contains("at most 1048576 are read"), "{said}");
}
