//! Answers that lead elsewhere.

use mvm_tests::faults::fault::{change, end, redirect, status};
use mvm_tests::faults::login::Login;
use mvm_tests::faults::{Certificate, End, Reply, Request, Rule, Target, digest};

use super::{Fault, Refused, Same, Scene, nothing};
use crate::{Outcome, ensure, ensure_eq};

const LAYER: Target = Target::Layer(0);

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "layers_in_storage",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| stored(scene, 307))),
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "layers_in_storage_301",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| stored(scene, 301))),
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "layers_in_storage_302",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| stored(scene, 302))),
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "layers_in_storage_303",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| stored(scene, 303))),
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "layers_in_storage_308",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| stored(scene, 308))),
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "password_is_not_for_storage",
        arrange: || Scene::plain()?.rule_by(|scene| stored(scene, 307)).login(Login::basic()).credentials(),
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "token_is_not_for_storage",
        arrange: || {
            Ok(Scene::plain()?
                .rule_by(|scene| stored(scene, 307))
                .login_by(|scene| Login::token(Login::bearer(&scene.here("/token")))))
        },
        expected: Same,
        check: |scene| stored_once(scene),
    },
    Fault {
        name: "relative_location",
        arrange: || {
            Ok(Scene::plain()?.rule_by(|scene| {
                let digest = digest(&scene.registry.image().layers[0]);
                Rule::always(LAYER, redirect(307, format!("../../../../storage/{digest}")))
            }))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "location_without_scheme",
        arrange: || {
            Ok(Scene::plain()?.rule_by(|scene| {
                let digest = digest(&scene.registry.image().layers[0]);
                Rule::always(LAYER, redirect(307, format!("//{}/storage/{digest}", scene.elsewhere.host())))
            }))
        },
        expected: Same,
        check: Scene::secrets_stayed,
    },
    Fault {
        name: "manifest_elsewhere",
        arrange: || {
            Ok(Scene::plain()?.rule_by(|scene| {
                Rule::once(Target::Tag, redirect(307, scene.there("/v2/team/app/manifests/one")))
            }))
        },
        expected: Same,
        check: Scene::secrets_stayed,
    },
    Fault {
        name: "three_hops",
        arrange: || {
            let hop = |request: &Request, reply: Reply| {
                let hops = request.target.matches('+').count();
                let next = format!("{}?{}", request.path(), "+".repeat(hops + 1));
                if hops < 3 { Reply::new(302, "text/plain", "").with("Location", next) } else { reply }
            };
            Ok(Scene::plain()?.rule(Rule::always(LAYER, Box::new(hop))))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "hops_without_end",
        arrange: || {
            let hop = |request: &Request, _: Reply| {
                Reply::new(302, "text/plain", "").with("Location", format!("{}?+", request.target))
            };
            Ok(Scene::plain()?.rule(Rule::always(LAYER, Box::new(hop))))
        },
        expected: Refused(6, &["127.0.0.1", "redirect"]),
        check: bounded,
    },
    Fault {
        name: "loop_of_one",
        arrange: || {
            let again = |request: &Request, _: Reply| {
                Reply::new(307, "text/plain", "").with("Location", request.target.as_str())
            };
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, Box::new(again))))
        },
        expected: Refused(6, &["127.0.0.1", "redirect"]),
        check: bounded,
    },
    Fault {
        name: "loop_of_two",
        arrange: || {
            Ok(Scene::plain()?.rule_by(|scene| {
                let (here, there) = (scene.here(""), scene.there(""));
                let other = move |request: &Request, _: Reply| {
                    let base = if request.server == "registry" { &there } else { &here };
                    Reply::new(307, "text/plain", "").with("Location", format!("{base}{}", request.path()))
                };
                Rule::always(LAYER, Box::new(other))
            }))
        },
        expected: Refused(6, &["127.0.0.1", "redirect"]),
        check: bounded,
    },
    Fault {
        name: "location_of_the_cloud",
        arrange: || to("http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
        expected: Refused(6, &["169.254.169.254", "refused"]),
        check: nothing,
    },
    Fault {
        name: "location_of_the_cloud_in_other_digits",
        arrange: || to("https://0xa9fea9fe/latest/meta-data/"),
        expected: Refused(6, &["169.254.169.254", "local link"]),
        check: nothing,
    },
    Fault {
        name: "location_of_the_cloud_in_ipv6",
        arrange: || to("https://[::ffff:169.254.169.254]/latest/meta-data/"),
        expected: Refused(6, &["local link"]),
        check: nothing,
    },
    Fault {
        name: "location_on_the_local_link",
        arrange: || to("https://[fe80::1]/"),
        expected: Refused(6, &["fe80::1", "local link"]),
        check: nothing,
    },
    Fault {
        name: "location_of_any_address",
        arrange: || to("https://0.0.0.0/"),
        expected: Refused(6, &["0.0.0.0"]),
        check: nothing,
    },
    Fault {
        name: "location_of_a_file",
        arrange: || to("file:///etc/passwd"),
        expected: Refused(6, &["file:///etc/passwd", "no web address"]),
        check: nothing,
    },
    Fault {
        name: "location_of_a_far_host_without_tls",
        arrange: || to("http://registry.example/v2/"),
        expected: Refused(6, &["registry.example", "without encryption"]),
        check: nothing,
    },
    Fault {
        name: "location_with_a_password",
        arrange: || {
            Ok(Scene::plain()?.rule_by(|scene| {
                Rule::always(LAYER, redirect(307, format!("http://root:toor@{}/", scene.elsewhere.host())))
            }))
        },
        expected: Refused(6, &["refused", "it holds credentials"]),
        check: |scene| {
            ensure_eq!(scene.log.of("elsewhere").len(), 0);
            Ok(())
        },
    },
    Fault {
        name: "location_that_is_empty",
        arrange: || {
            let empty = |_: &Request, _: Reply| Reply::new(307, "text/plain", "");
            Ok(Scene::plain()?.rule(Rule::always(LAYER, Box::new(empty))))
        },
        expected: Refused(6, &["127.0.0.1", "redirect"]),
        check: nothing,
    },
    Fault {
        name: "location_that_is_none",
        arrange: || to("http://[:::]:99999/"),
        expected: Refused(6, &["127.0.0.1", "not an address"]),
        check: nothing,
    },
    Fault {
        name: "location_of_sixty_kilobytes",
        arrange: || to(&format!("gopher://{}", "a".repeat(60_000))),
        expected: Refused(6, &["127.0.0.1", "refused"]),
        check: |scene| {
            let said = scene.pull()?.err();
            ensure!(said.len() < 2000, "an error of {} bytes", said.len());
            Ok(())
        },
    },
    Fault {
        name: "use_a_proxy",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| Rule::always(LAYER, redirect(305, scene.there("/"))))),
        expected: Refused(6, &["127.0.0.1", "305"]),
        check: |scene| {
            ensure_eq!(scene.log.of("elsewhere").len(), 0);
            Ok(())
        },
    },
    Fault {
        name: "storage_wants_a_password",
        arrange: || {
            Scene::plain()?
                .login(Login::basic())
                .rule_by(|scene| {
                    Rule::always(LAYER, redirect(307, scene.there("/v2/team/app/manifests/one")))
                })
                .credentials()
        },
        expected: Refused(6, &["127.0.0.1", "401"]),
        check: Scene::secrets_stayed,
    },
    Fault {
        name: "storage_says_that_the_time_is_over",
        arrange: || {
            Ok(Scene::plain()?
                .rule_by(|scene| stored(scene, 307))
                .rule(Rule::always(Target::Storage, status(403))))
        },
        expected: Refused(6, &["127.0.0.1", "403"]),
        check: nothing,
    },
    Fault {
        name: "storage_has_other_bytes",
        arrange: || {
            Ok(Scene::plain()?
                .rule_by(|scene| stored(scene, 307))
                .rule(Rule::always(Target::Storage, change(|bytes| bytes[600] ^= 1))))
        },
        expected: Refused(4, &["layer 1", "sha256:"]),
        check: nothing,
    },
    Fault {
        name: "storage_breaks_off_once",
        arrange: || {
            Ok(Scene::plain()?
                .rule_by(|scene| stored(scene, 307))
                .rule(Rule::once(Target::Storage, end(End::Cut(50_000)))))
        },
        expected: Same,
        check: |scene| {
            let asked: Vec<_> = scene.log.of("elsewhere").iter().map(Request::first_byte).collect();
            ensure_eq!(asked, [None, Some(50_000)]);
            scene.secrets_stayed()
        },
    },
    Fault {
        name: "from_tls_to_none",
        arrange: || {
            let scene = Scene::tls(Certificate::Good)?;
            Ok(scene.rule(Rule::always(LAYER, redirect(307, "http://storage.example/blob"))))
        },
        expected: Refused(6, &["storage.example", "without encryption"]),
        check: nothing,
    },
];

/// Leads to an address that doesn't depend on the servers.
fn to(location: &str) -> std::io::Result<Scene> {
    Ok(Scene::plain()?.rule(Rule::always(LAYER, redirect(307, location))))
}

/// Leads from the lowest layer to the same bytes on the other server.
fn stored(scene: &Scene, status: u16) -> Rule {
    let digest = digest(&scene.registry.image().layers[0]);
    Rule::always(LAYER, redirect(status, scene.there(&format!("/storage/{digest}?signature=abc"))))
}

fn stored_once(scene: &Scene) -> Outcome {
    ensure_eq!(scene.log.of("elsewhere").len(), 1);
    scene.secrets_stayed()
}

/// Checks that somebody gave up after a few hops.
fn bounded(scene: &Scene) -> Outcome {
    let count = scene.log.all().len();
    ensure!(count < 20, "{count} requests");
    Ok(())
}
