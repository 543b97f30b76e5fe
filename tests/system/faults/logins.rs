//! Registries that want to know who asks, and token servers.

use std::time::Duration;

use mvm_tests::faults::fault::{body, busy, end, endless, header, raw, redirect, slow, status};
use mvm_tests::faults::login::{BASIC, Login};
use mvm_tests::faults::{End, Length, Reply, Request, Rule, Target};

use super::{Fault, Refused, Same, Scene, nothing};
use crate::{Outcome, ensure, ensure_eq};

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "password_wanted_and_there",
        arrange: || Scene::plain()?.login(Login::basic()).credentials(),
        expected: Same,
        check: |scene| {
            // A password is shown only after it was asked for.
            let requests = scene.log.of("registry");
            let shown: Vec<_> = requests.iter().map(|request| request.header("authorization")).collect();
            ensure!(shown[0].is_none() && shown[1..].iter().all(|text| *text == Some(BASIC)), "{shown:?}");
            Ok(())
        },
    },
    Fault {
        name: "password_wanted_and_not_there",
        arrange: || Ok(Scene::plain()?.login(Login::basic())),
        expected: Refused(6, &["127.0.0.1", "team/app", "login"]),
        check: |scene| tries(scene, 1),
    },
    Fault {
        name: "password_not_wanted",
        arrange: || Scene::plain()?.credentials(),
        expected: Same,
        check: |scene| {
            let mut requests = scene.log.all().into_iter();
            ensure!(requests.all(|request| request.header("authorization").is_none()), "it was shown");
            Ok(())
        },
    },
    Fault {
        name: "password_refused",
        arrange: || {
            Scene::plain()?.login(Login::basic()).rule(Rule::always(Target::Tag, challenge())).credentials()
        },
        expected: Refused(6, &["127.0.0.1", "refuses the stored credentials", "login"]),
        check: |scene| tries(scene, 2),
    },
    Fault {
        name: "token_for_anyone",
        arrange: || Ok(Scene::plain()?.login_by(|scene| Login::token(Login::bearer(&scene.here("/token"))))),
        expected: Same,
        check: |scene| tokens(scene, 1),
    },
    Fault {
        name: "token_for_the_user",
        arrange: || here(Login::for_user),
        expected: Same,
        check: |scene| tokens(scene, 1),
    },
    Fault {
        name: "token_for_the_user_who_is_not_known",
        arrange: || {
            Ok(Scene::plain()?
                .login_by(|scene| Login::token(Login::bearer(&scene.here("/token"))).for_user()))
        },
        expected: Refused(6, &["127.0.0.1", "team/app", "login"]),
        check: nothing,
    },
    Fault {
        name: "token_that_ends_after_one_request",
        arrange: || here(|login| login.uses(1)),
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "token_that_ends_in_the_middle",
        arrange: || here(|login| login.uses(2)),
        expected: Same,
        check: |scene| {
            // Layers that are fetched at the same time may each find out that it has ended.
            let count = scene.log.to("/token").len();
            ensure!((2..=3).contains(&count), "{count} tokens");
            Ok(())
        },
    },
    Fault {
        name: "token_that_is_never_taken",
        arrange: || here(|login| login.uses(0)),
        expected: Refused(6, &["127.0.0.1", "team/app"]),
        check: |scene| tries(scene, 2),
    },
    Fault {
        name: "token_server_elsewhere",
        arrange: || {
            Scene::plain()?
                .login_by(|scene| Login::token(Login::bearer(&scene.there("/token"))).for_user())
                .credentials()
        },
        expected: Same,
        check: |scene| {
            // The token server that the registry names is shown the password, and the registry never is.
            let shown = |request: &Request| request.header("authorization") == Some(BASIC);
            ensure!(scene.log.of("elsewhere").iter().all(shown), "no password for the token server");
            ensure!(!scene.log.of("registry").iter().any(shown), "the registry was shown the password");
            Ok(())
        },
    },
    Fault {
        name: "token_server_without_tls_far_away",
        arrange: || realm("http://tokens.example/token"),
        expected: Refused(6, &["tokens.example", "without encryption"]),
        check: nothing,
    },
    Fault {
        name: "token_server_of_the_cloud",
        arrange: || realm("http://169.254.169.254/token"),
        expected: Refused(6, &["169.254.169.254"]),
        check: nothing,
    },
    Fault {
        name: "token_server_that_is_a_file",
        arrange: || realm("file:///etc/shadow"),
        expected: Refused(6, &["file:///etc/shadow"]),
        check: nothing,
    },
    Fault {
        name: "token_server_that_is_a_word",
        arrange: || realm("registry"),
        expected: Refused(6, &["127.0.0.1", "registry"]),
        check: nothing,
    },
    Fault {
        name: "token_server_fails_once",
        arrange: || Ok(here(|login| login)?.rule(Rule::once(Target::Token, status(503)))),
        expected: Same,
        check: |scene| tokens(scene, 2),
    },
    Fault {
        name: "token_server_limits_once",
        arrange: || Ok(here(|login| login)?.rule(Rule::once(Target::Token, busy(429, "0")))),
        expected: Same,
        check: |scene| tokens(scene, 2),
    },
    Fault {
        name: "token_server_fails_always",
        arrange: || Ok(here(|login| login)?.rule(Rule::always(Target::Token, status(500))).retries(1)),
        expected: Refused(6, &["127.0.0.1", "500"]),
        check: |scene| tokens(scene, 2),
    },
    Fault {
        name: "token_server_refuses",
        arrange: || Ok(here(|login| login)?.rule(Rule::always(Target::Token, status(403)))),
        expected: Refused(6, &["127.0.0.1", "refuses the stored credentials"]),
        check: |scene| tokens(scene, 1),
    },
    Fault {
        name: "token_server_is_slow",
        arrange: || {
            let slow = slow(4, Duration::from_millis(5));
            Ok(here(|login| login)?.rule(Rule::always(Target::Token, slow)))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "token_server_breaks_off_once",
        arrange: || Ok(here(|login| login)?.rule(Rule::once(Target::Token, end(End::Cut(10))))),
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "token_server_is_a_web_page",
        arrange: || {
            let page = |_: &Request, _: Reply| Reply::new(200, "text/html", "<html>log in</html>");
            Ok(here(|login| login)?.rule(Rule::always(Target::Token, Box::new(page))))
        },
        expected: Refused(6, &["127.0.0.1", "text/html"]),
        check: nothing,
    },
    Fault {
        name: "token_without_end",
        arrange: || {
            let endless = endless(200, "application/json", Length::Chunked);
            Ok(here(|login| login)?.rule(Rule::always(Target::Token, endless)))
        },
        expected: Refused(6, &["token from 127.0.0.1", "longer than"]),
        check: nothing,
    },
    Fault {
        name: "token_of_a_hundred_kilobytes",
        arrange: || token(&format!(r#"{{"token":"{}"}}"#, "a".repeat(100_000))),
        expected: Refused(6, &["127.0.0.1", "no usable token"]),
        check: nothing,
    },
    Fault {
        name: "token_that_is_empty",
        arrange: || token(r#"{"token":""}"#),
        expected: Refused(6, &["127.0.0.1", "no usable token"]),
        check: nothing,
    },
    Fault {
        name: "token_that_is_a_number",
        arrange: || token(r#"{"token":5}"#),
        expected: Refused(6, &["127.0.0.1", "no usable token"]),
        check: nothing,
    },
    Fault {
        name: "token_that_smuggles_a_header",
        arrange: || token(r#"{"token":"a\r\nX-Smuggled: yes"}"#),
        expected: Refused(6, &["127.0.0.1", "no usable token"]),
        check: |scene| {
            let smuggled = scene.log.all().iter().any(|request| request.header("x-smuggled").is_some());
            ensure!(!smuggled, "a header was smuggled");
            Ok(())
        },
    },
    Fault {
        name: "token_that_is_not_json",
        arrange: || token("token=abc"),
        expected: Refused(6, &["127.0.0.1", "no usable token"]),
        check: nothing,
    },
    Fault {
        name: "token_server_leads_elsewhere",
        arrange: || {
            Ok(here(Login::for_user)?
                .rule_by(|scene| Rule::once(Target::Token, redirect(307, scene.there("/token")))))
        },
        // The other server gets no password, and so gives no token.
        expected: Refused(6, &["127.0.0.1"]),
        check: Scene::secrets_stayed,
    },
    Fault {
        name: "challenge_of_several_schemes",
        arrange: || {
            challenged(|realm| {
                let bearer =
                    format!(r#"bEaReR realm="{realm}",service="a, b",scope="repository:team/app:pull""#);
                Login::token(format!(
                    "Negotiate, Digest qop=\"auth, int\", nonce=\"Bearer realm=x\", {bearer}"
                ))
            })
        },
        expected: Same,
        check: |scene| {
            let asked = scene.log.to("/token");
            ensure!(asked[0].target.contains("service=a%2C+b"), "asked {}", asked[0].target);
            Ok(())
        },
    },
    Fault {
        name: "challenge_in_two_headers",
        arrange: || {
            challenged(|realm| Login::token("Basic realm=\"first\"").also(Login::bearer(realm)).or_password())
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "challenge_without_scope",
        arrange: || challenged(|realm| Login::token(format!("Bearer realm=\"{realm}\""))),
        expected: Same,
        check: |scene| {
            let asked = scene.log.to("/token");
            ensure!(
                asked[0].target.contains("scope=repository%3Ateam%2Fapp%3Apull"),
                "asked {}",
                asked[0].target
            );
            Ok(())
        },
    },
    Fault {
        name: "challenge_of_no_known_scheme",
        arrange: || Ok(Scene::plain()?.login(Login::token("Negotiate abcdef, Digest realm=\"x\""))),
        expected: Refused(6, &["127.0.0.1", "Negotiate"]),
        check: |scene| tries(scene, 1),
    },
    Fault {
        name: "challenge_that_is_missing",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(401)))),
        expected: Refused(6, &["127.0.0.1"]),
        check: |scene| tries(scene, 1),
    },
    Fault {
        name: "challenge_of_fifty_kilobytes",
        arrange: || {
            Ok(Scene::plain()?.login(Login::token(format!("Bearer realm=\"{}", "\\\"".repeat(25_000)))))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: |scene| tries(scene, 1),
    },
    Fault {
        name: "challenge_for_layers_only",
        arrange: || {
            let open = |request: &Request, reply: Reply| match request.path().contains("/manifests/") {
                true => Reply::new(
                    200,
                    mvm_tests::faults::MANIFEST,
                    mvm_tests::faults::Image::standard().manifest,
                ),
                false => reply,
            };
            Ok(here(|login| login)?.rule(Rule::always(Target::Tag, Box::new(open))))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "password_for_a_connection_that_breaks_off",
        arrange: || {
            Scene::plain()?
                .login(Login::basic())
                .rule(Rule::once(Target::Tag, raw("")).after(1))
                .credentials()
        },
        expected: Same,
        check: Scene::secrets_stayed,
    },
];

/// Makes a registry whose own server gives tokens, and a user who is known.
fn here(login: fn(Login) -> Login) -> std::io::Result<Scene> {
    Scene::plain()?.login_by(|scene| login(Login::token(Login::bearer(&scene.here("/token"))))).credentials()
}

/// Makes a registry with a challenge that names its own token server in its own way.
fn challenged(login: fn(&str) -> Login) -> std::io::Result<Scene> {
    Ok(Scene::plain()?.login_by(|scene| login(&scene.here("/token"))))
}

/// Makes a registry that sends users elsewhere for their tokens.
fn realm(realm: &str) -> std::io::Result<Scene> {
    Scene::plain()?.login(Login::token(Login::bearer(realm))).credentials()
}

/// Makes a registry whose token server answers with this.
fn token(text: &str) -> std::io::Result<Scene> {
    Ok(here(|login| login)?.rule(Rule::always(Target::Token, body(text))))
}

/// Refuses whatever was shown.
fn challenge() -> mvm_tests::faults::Fault {
    let refuse = status(401);
    let name = header("WWW-Authenticate", "Basic realm=\"registry\"");
    mvm_tests::faults::fault::both(refuse, name)
}

/// Checks how often the manifest was asked for.
fn tries(scene: &Scene, times: usize) -> Outcome {
    ensure_eq!(scene.log.to("/manifests/one").len(), times);
    Ok(())
}

/// Checks how often a token was asked for.
fn tokens(scene: &Scene, times: usize) -> Outcome {
    ensure_eq!(scene.log.to("/token").len(), times);
    scene.secrets_stayed()
}
