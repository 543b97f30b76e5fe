//! Servers that can't prove who they are.

use mvm_tests::faults::Certificate;

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
