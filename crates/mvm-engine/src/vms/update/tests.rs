use super::*;

fn config(text: &str) -> ImageConfig {
    let text = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{text}}}"#
    );
    ImageConfig::parse(text.as_bytes()).unwrap()
}

fn main(argv: &[&str], env: &[&str], user: &str) -> Process {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Process {
        argv: words(argv),
        env: words(env),
        working_dir: "/srv".to_owned(),
        user: user.to_owned(),
        stop_signal: "SIGTERM".parse().unwrap(),
        tty: false,
        stdin: false,
    }
}

#[test]
fn what_came_from_the_image_comes_from_the_new_one() {
    let before = config(
        r#"{"Entrypoint":["/old"],"Cmd":["serve"],"Env":["PATH=/bin","MODE=a"],"User":"web","WorkingDir":"/srv"}"#,
    );
    let after = config(
        r#"{"Entrypoint":["/new","-x"],"Cmd":["go"],"Env":["PATH=/usr/bin","MODE=b","MORE=1"],"User":"app","WorkingDir":"/app","StopSignal":"SIGINT"}"#,
    );
    let new = adapt(&main(&["/old", "serve"], &["PATH=/bin", "MODE=a"], "web"), &before, &after);
    let expected = Process {
        working_dir: "/app".to_owned(),
        stop_signal: "SIGINT".parse().unwrap(),
        ..main(&["/new", "-x", "go"], &["PATH=/usr/bin", "MODE=b", "MORE=1"], "app")
    };
    assert_eq!(new, expected);

    // What somebody asked for stays.
    let asked = main(&["/old", "other", "words"], &["PATH=/bin", "MODE=mine", "OWN=1"], "root");
    let new = adapt(&asked, &before, &after);
    assert_eq!(new.argv, ["/new", "-x", "other", "words"]);
    assert_eq!(new.env, ["PATH=/usr/bin", "MODE=mine", "MORE=1", "OWN=1"]);
    assert_eq!(new.user, "root");
    let replaced = adapt(&main(&["/own"], &[], "web"), &before, &after);
    assert_eq!(replaced.argv, ["/own"]);
}
