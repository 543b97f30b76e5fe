//! Statuses and headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mvm_tests::faults::fault::{body, both, busy, change, endless, header, status, without};
use mvm_tests::faults::{INDEX, Image, Length, Reply, Request, Rule, Target, digest};

use super::{Fault, Refused, Same, Scene, nothing};
use crate::{Outcome, ensure, ensure_eq};

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "too_many_requests_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Tag, busy(429, "1")))),
        expected: Same,
        check: |scene| waited(scene, 1),
    },
    Fault {
        name: "too_many_requests_until_a_date",
        arrange: || {
            let limited = |_: &Request, _: Reply| {
                Reply::new(429, "text/plain", "").with("Retry-After", http_date(Duration::from_secs(2)))
            };
            Ok(Scene::plain()?.rule(Rule::once(Target::Tag, Box::new(limited))))
        },
        expected: Same,
        // A date has whole seconds: of the two at least one is left.
        check: |scene| waited(scene, 1),
    },
    Fault {
        name: "too_many_requests_for_a_day",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, busy(429, "86400")))),
        expected: Refused(6, &["127.0.0.1", "86400 s"]),
        check: |scene| asked(scene, "/manifests/one", 1),
    },
    Fault {
        name: "too_many_requests_for_ages",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(Target::Tag, busy(429, "99999999999999999999999")))
                .retries(0))
        },
        expected: Refused(6, &["127.0.0.1", "limits the rate"]),
        check: nothing,
    },
    Fault {
        name: "retry_after_that_says_nothing",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Tag, busy(429, "soon, -5")))),
        expected: Same,
        check: |scene| asked(scene, "/manifests/one", 2),
    },
    Fault {
        name: "too_many_requests_always",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(429))).retries(1)),
        expected: Refused(6, &["127.0.0.1", "limits the rate"]),
        check: |scene| asked(scene, "/manifests/one", 2),
    },
    Fault {
        name: "layer_limited_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Layer(1), busy(429, "0")))),
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "unavailable_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Tag, busy(503, "1")))),
        expected: Same,
        check: |scene| waited(scene, 1),
    },
    Fault {
        name: "gateway_fails_for_each_part_once",
        arrange: || {
            let page = || {
                let page = |_: &Request, _: Reply| Reply::new(502, "text/html", "<html>bad gateway</html>");
                Box::new(page)
            };
            Ok(Scene::plain()?
                .rule(Rule::once(Target::Tag, page()))
                .rule(Rule::once(Target::Config, page()))
                .rule(Rule::once(Target::Layer(0), page())))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "server_fails_always",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(500))).retries(1)),
        expected: Refused(6, &["127.0.0.1", "500", "team/app"]),
        check: |scene| asked(scene, "/manifests/one", 2),
    },
    Fault {
        name: "layer_fails_always",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Layer(0), status(504))).retries(1)),
        expected: Refused(6, &["127.0.0.1", "504", "team/app"]),
        check: |scene| asked(scene, &layer(scene), 2),
    },
    Fault {
        name: "teapot",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(418)))),
        expected: Refused(6, &["127.0.0.1", "418"]),
        check: |scene| asked(scene, "/manifests/one", 1),
    },
    Fault {
        name: "forbidden",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(403)))),
        expected: Refused(6, &["127.0.0.1", "denies access to team/app"]),
        check: |scene| asked(scene, "/manifests/one", 1),
    },
    Fault {
        name: "no_such_tag",
        arrange: || Ok(Scene::plain()?.named(":none")),
        expected: Refused(3, &["team/app:none", "127.0.0.1"]),
        check: |scene| asked(scene, "/manifests/none", 1),
    },
    Fault {
        name: "no_such_blob",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Layer(1), status(404)))),
        expected: Refused(6, &["has lost blob sha256:", "team/app"]),
        check: nothing,
    },
    Fault {
        name: "no_content",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(204)))),
        expected: Refused(6, &["127.0.0.1", "204"]),
        check: nothing,
    },
    Fault {
        name: "not_modified",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, status(304)))),
        expected: Refused(6, &["127.0.0.1", "304"]),
        check: nothing,
    },
    Fault {
        name: "part_of_a_manifest_nobody_asked_for",
        arrange: || {
            let part = |_: &Request, reply: Reply| Reply { status: 206, ..reply };
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, Box::new(part))))
        },
        expected: Refused(6, &["127.0.0.1", "206"]),
        check: nothing,
    },
    Fault {
        name: "error_words_with_escapes",
        arrange: || {
            let body = r#"{"errors":[{"code":"DENIED","message":"\u001b[31mred\nmvmctl: second line"}]}"#;
            let denied = move |_: &Request, _: Reply| Reply::new(403, "application/json", body);
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, Box::new(denied))))
        },
        expected: Refused(6, &["denies access to team/app (it says: DENIED: [31mred"]),
        check: nothing,
    },
    Fault {
        name: "error_words_without_end",
        arrange: || {
            let long =
                || format!(r#"{{"errors":[{{"code":"DENIED","message":"{}"}}]}}"#, "word ".repeat(3000));
            let denied = move |_: &Request, _: Reply| Reply::new(403, "application/json", long());
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, Box::new(denied))))
        },
        expected: Refused(6, &["denies access to team/app (it says: DENIED: word word"]),
        check: nothing,
    },
    Fault {
        name: "failing_server_talks_without_end",
        arrange: || {
            let talk = endless(500, "text/plain", Length::Chunked);
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, talk)).retries(0))
        },
        expected: Refused(6, &["127.0.0.1", "500"]),
        check: nothing,
    },
    Fault {
        name: "web_page_for_a_manifest",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, header("Content-Type", "text/html")))),
        expected: Refused(6, &["127.0.0.1", "text/html", "not a registry"]),
        check: nothing,
    },
    Fault {
        name: "web_page_for_a_layer",
        arrange: || {
            Ok(Scene::plain()?.rule(Rule::always(Target::Layer(0), header("Content-Type", "text/html"))))
        },
        expected: Refused(6, &["127.0.0.1", "text/html"]),
        check: nothing,
    },
    Fault {
        name: "manifest_of_no_type",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, without("Content-Type")))),
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "manifest_as_json",
        arrange: || {
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, header("Content-Type", "application/json"))))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "manifest_as_an_index",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, header("Content-Type", INDEX)))),
        expected: Refused(
            4,
            &["image.manifest.v1+json", "delivered as application/vnd.oci.image.index.v1+json"],
        ),
        check: nothing,
    },
    Fault {
        name: "digest_header_lies",
        arrange: || {
            let lie = header("Docker-Content-Digest", digest(b"something else"));
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, lie)))
        },
        expected: Refused(4, &["says that the document is sha256:", "but it is sha256:"]),
        check: nothing,
    },
    Fault {
        name: "digest_header_of_another_algorithm",
        arrange: || {
            let long = header("Docker-Content-Digest", format!("sha512:{}", "a".repeat(128)));
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, long)))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "digest_header_of_a_blob_lies",
        arrange: || {
            let lie = header("Docker-Content-Digest", digest(b"something else"));
            Ok(Scene::plain()?.rule(Rule::always(Target::Layer(0), lie)))
        },
        // What counts is what comes.
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "another_manifest_than_the_digest_asked_for",
        arrange: || {
            let scene = Scene::plain()?;
            let name = format!("@{}", digest(&scene.registry.image().manifest));
            let other = Image::of(vec![scene.registry.image().layers[1].clone()]).manifest;
            let both = both(body(other), without("Docker-Content-Digest"));
            Ok(scene.named(&name).rule(Rule::always(Target::Manifest, both)))
        },
        expected: Refused(4, &["was asked for sha256:", "but gave sha256:"]),
        check: nothing,
    },
    Fault {
        name: "another_manifest_than_the_index_names",
        arrange: || {
            let scene = Scene::plain()?.named(":many");
            let other = Image::of(vec![scene.registry.image().layers[1].clone()]).manifest;
            let both = both(body(other), without("Docker-Content-Digest"));
            Ok(scene.rule(Rule::always(Target::Manifest, both)))
        },
        expected: Refused(4, &["was asked for sha256:", "but gave sha256:"]),
        check: nothing,
    },
    Fault {
        name: "tag_that_changes_with_every_request",
        arrange: || {
            let scene = Scene::plain()?;
            let other = Image::of(vec![scene.registry.image().layers[1].clone()]);
            let moved =
                both(body(other.manifest.clone()), header("Docker-Content-Digest", digest(&other.manifest)));
            Ok(scene.rule(Rule::always(Target::Tag, moved).after(1)))
        },
        // The tag is read once; all the rest is named by digests.
        expected: Same,
        check: |scene| asked(scene, "/manifests/one", 1),
    },
    Fault {
        name: "head_that_lies",
        arrange: || {
            let lie = |request: &Request, reply: Reply| match request.method.as_str() {
                "HEAD" => {
                    reply.with("Docker-Content-Digest", digest(b"something else")).with("Content-Type", INDEX)
                }
                _ => reply,
            };
            Ok(Scene::plain()?.rule(Rule::always(Target::Any, Box::new(lie))))
        },
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "empty_manifest",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(Target::Tag, both(body(""), without("Docker-Content-Digest")))))
        },
        expected: Refused(4, &["document sha256:", "not a valid image manifest"]),
        check: nothing,
    },
    Fault {
        name: "manifest_with_a_word_more",
        arrange: || {
            let more = change(|bytes| bytes.extend(b" true"));
            Ok(Scene::plain()?.rule(Rule::always(Target::Tag, both(more, without("Docker-Content-Digest")))))
        },
        expected: Refused(4, &["trailing characters"]),
        check: nothing,
    },
];

fn layer(scene: &Scene) -> String {
    format!("/blobs/{}", digest(&scene.registry.image().layers[0]))
}

/// Checks how often the registry was asked for a path.
fn asked(scene: &Scene, path: &str, times: usize) -> Outcome {
    ensure_eq!(scene.log.to(path).len(), times);
    Ok(())
}

/// Checks that between the two requests for the manifest at least so many seconds have passed.
fn waited(scene: &Scene, seconds: u64) -> Outcome {
    let requests = scene.log.to("/manifests/one");
    ensure_eq!(requests.len(), 2);
    let between = requests[1].at - requests[0].at;
    ensure!(between >= Duration::from_secs(seconds), "asked again after {between:?}");
    Ok(())
}

/// Writes the time that is so far ahead as headers do (RFC 9110, section 5.6.7).
fn http_date(ahead: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + ahead;
    let (days, second) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months[month as usize - 1];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{week}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Returns year, month and day of a number of days after 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}
