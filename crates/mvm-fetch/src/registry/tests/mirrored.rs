//! Images that mirrors serve.

use super::*;
use crate::{Notice, RegistriesConf, RegistryError};
use std::sync::mpsc::channel;

/// Pulls `hub.example/team/app` under rules in which `HOME` and `MIRROR` stand for these servers.
fn pull_under(rules: &str, home: &Server, mirror: &str, name: &str) -> (Result<(), FetchError>, Vec<Notice>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registries.conf");
    std::fs::write(&path, rules.replace("HOME", &home.host()).replace("MIRROR", mirror)).unwrap();
    let (notices, heard) = channel();
    let config = FetchConfig {
        registries_conf: RegistriesConf::File(path),
        notices: Some(notices),
        auth_files: vec![auths(directory.path(), home, mirror)],
        ..quick()
    };
    let pull = || {
        let source: ImageSource = format!("hub.example/team/app{name}").parse().unwrap();
        let origin = Fetcher::new(config).open(&source)?;
        let resolved = origin.resolve(&platform())?;
        read(&origin, &resolved).map(|(tar, _)| assert!(tar == Image::new().tar))
    };
    (pull(), heard.into_iter().collect())
}

/// Writes one password for each server, `home` and `mirror`.
fn auths(directory: &std::path::Path, home: &Server, mirror: &str) -> std::path::PathBuf {
    let path = directory.join("auth.json");
    let entry = |host: &str, auth: &str| format!(r#""{host}":{{"auth":"{auth}"}}"#);
    // hub:x, home:x and mirror:x
    let entries =
        [entry("hub.example", "aHViOng="), entry(&home.host(), "aG9tZTp4"), entry(mirror, "bWlycm9yOng=")];
    std::fs::write(&path, format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))).unwrap();
    path
}

const RULES: &str = r#"
[[registry]]
prefix = "hub.example"
location = "HOME"
[[registry.mirror]]
location = "MIRROR"
"#;

fn served(notices: &[Notice]) -> Vec<&str> {
    let name = |notice: &'static str| notice;
    notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Mirror { .. } => Some(name("served")),
            Notice::MirrorFailed { .. } => Some(name("passed over")),
            Notice::Resume { .. } => Some(name("resumed")),
            _ => None,
        })
        .collect()
}

#[test]
fn a_mirror_is_asked_first_and_the_home_only_when_it_must_be() {
    let (home, mirror) = (Image::new().serve(|_| None), Image::new().serve(|_| None));
    let (result, heard) = pull_under(RULES, &home, &mirror.host(), ":many");
    result.unwrap();
    assert_eq!(heard, [Notice::Mirror { name: format!("{}/team/app:many", mirror.host()) }]);
    assert_eq!((home.requests().len(), mirror.requests().len()), (0, 4));

    let empty = Server::start(|_| Reply::new(404, &[], "{}"));
    let (result, heard) = pull_under(RULES, &home, &empty.host(), ":many");
    result.unwrap();
    assert_eq!((served(&heard), empty.requests().len()), (vec!["passed over"], 1));

    // Nobody is there: no second attempt.
    let gone = Server::start(|_| Reply::new(404, &[], "")).host();
    let (result, heard) = pull_under(RULES, &home, &gone, ":many");
    result.unwrap();
    assert_eq!(served(&heard), ["passed over"]);

    let lying = Image::new().serve(|request| {
        let path = format!("/v2/team/app/manifests/{}", Digest::of(&Image::new().manifest));
        (request.path == path).then(|| Reply::new(200, &[("Content-Type", MANIFEST)], "{}"))
    });
    let (result, heard) = pull_under(RULES, &home, &lying.host(), ":many");
    result.unwrap();
    assert_eq!(served(&heard), ["served", "passed over"]);
}

#[test]
fn a_blob_that_breaks_off_goes_on_elsewhere() {
    let image = Image::new();
    let (path, layer) = (image.layer_path(), image.layer.clone());
    let mirror = image.serve(move |request| {
        (request.path == path).then(|| match &request.range.0 {
            None => Reply {
                body: Body::Announced(layer.len(), layer[..3000].to_vec()),
                ..Reply::new(200, &[("ETag", "\"mirror\"")], "")
            },
            Some(_) => Reply::new(404, &[], ""),
        })
    });
    let (path, layer) = (image.layer_path(), image.layer.clone());
    let home = image.serve(move |request| {
        (request.path == path).then(|| {
            let range = format!("bytes 3000-{}/{}", layer.len() - 1, layer.len());
            Reply::new(206, &[("Content-Range", &range)], layer[3000..].to_vec())
        })
    });
    let (result, heard) = pull_under(RULES, &home, &mirror.host(), ":one");
    result.unwrap();
    assert_eq!(served(&heard), ["served", "resumed", "passed over", "resumed"]);
    let ranges: Vec<_> = home.requests().into_iter().map(|request| request.range).collect();
    assert_eq!(ranges, [(Some("bytes=3000-".to_owned()), None)]);
}

#[test]
fn each_place_is_shown_its_own_password() {
    let guarded = |basic: &'static str, status: u16| {
        Image::new().serve(move |request| match request.authorization.as_deref() {
            None => Some(Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "")),
            Some(shown) if shown == basic && status == 200 => None,
            Some(_) => Some(Reply::new(status, &[], "")),
        })
    };
    let (home, mirror) = (guarded("Basic aG9tZTp4", 200), guarded("Basic bWlycm9yOng=", 403));
    let (result, _) = pull_under(RULES, &home, &mirror.host(), ":many");
    result.unwrap();
    let shown = |server: &Server| {
        let mut shown: Vec<_> = server.requests().into_iter().filter_map(|r| r.authorization).collect();
        shown.dedup();
        shown
    };
    assert_eq!(shown(&home), ["Basic aG9tZTp4"]);
    assert_eq!(shown(&mirror), ["Basic bWlycm9yOng="]);
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let home = Image::new().serve(|_| None);
    let rules = "[[registry]]\nprefix = \"hub.example/team\"\nlocation = \"HOME\"\nblocked = true\n";
    let (result, _) = pull_under(rules, &home, "x.example", ":many");
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Mirrors(_))), "{error:?}");
    assert_eq!(home.requests().len(), 0);
}
