//! Servers that can't prove who they are.

use mvm_tests::faults::fault::{both, end, length};
use mvm_tests::faults::login::Login;
use mvm_tests::faults::{Certificate, End, Length, Rule, Target};

use super::{Fault, Refused, Same, Scene};
use crate::{Outcome, ensure};

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "tls_of_a_private_authority",
        arrange: || Scene::tls(Certificate::Good),
        expected: Same,
        check: |scene| {
            ensure!(!scene.log.of("registry").is_empty(), "nobody asked");
            Ok(())
        },
    },
    Fault {
        name: "tls_and_a_token_server_without",
        arrange: || {
            let login = Login::token(Login::bearer("http://tokens.example/token"));
            Scene::tls(Certificate::Good)?.login(login).credentials()
        },
        expected: Refused(6, &["tokens.example", "without encryption"]),
        check: |scene| {
            let shown = scene.log.all().iter().any(|request| request.header("authorization").is_some());
            ensure!(!shown, "the password was shown");
            Ok(())
        },
    },
    Fault {
        name: "tls_with_a_password",
        arrange: || Scene::tls(Certificate::Good)?.login(Login::basic()).credentials(),
        expected: Same,
        check: Scene::secrets_stayed,
    },
    Fault {
        name: "tls_that_ends_without_goodbye",
        arrange: || {
            let cut = both(length(Length::Close), end(End::Cut(70_000)));
            Ok(Scene::tls(Certificate::Good)?.rule(Rule::once(Target::Layer(0), cut)))
        },
        expected: Same,
        check: Scene::secrets_stayed,
    },
    Fault {
        name: "no_network_wanted",
        arrange: || Ok(Scene::plain()?.option("--offline")),
        expected: Refused(3, &["127.0.0.1"]),
        check: unheard,
    },
    Fault {
        name: "tls_of_an_authority_nobody_trusts",
        arrange: || Scene::untrusted_tls(),
        expected: Refused(6, &["127.0.0.1"]),
        check: unheard,
    },
    Fault {
        name: "tls_of_another_host",
        arrange: || Scene::tls(Certificate::WrongHost),
        expected: Refused(6, &["127.0.0.1", "certificate"]),
        check: unheard,
    },
    Fault {
        name: "tls_of_the_past",
        arrange: || Scene::tls(Certificate::Expired),
        expected: Refused(6, &["127.0.0.1", "certificate"]),
        check: unheard,
    },
    Fault {
        name: "tls_of_the_future",
        arrange: || Scene::tls(Certificate::Early),
        expected: Refused(6, &["127.0.0.1", "certificate"]),
        check: unheard,
    },
    Fault {
        name: "tls_of_the_server_itself",
        arrange: || Scene::tls(Certificate::SelfSigned),
        expected: Refused(6, &["127.0.0.1", "certificate"]),
        check: unheard,
    },
];

/// Checks that nothing was said to the server, least of all a password.
fn unheard(scene: &Scene) -> Outcome {
    let heard = scene.log.of("registry");
    ensure!(heard.is_empty(), "it heard {heard:?}");
    Ok(())
}
