//! Bodies that break off, stall, lie about their length or are others than they should be.

use std::time::Duration;

use mvm_tests::faults::fault::{body, both, change, end, endless, header, length, raw, says, slow, without};
use mvm_tests::faults::{End, Length, Reply, Rule, Target, digest, gzip};

use super::{Fault, Refused, Same, Scene, nothing};
use crate::{Outcome, ensure, ensure_eq};

const LAYER: Target = Target::Layer(0);

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "layer_cut_once_is_resumed",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(LAYER, end(End::Cut(70_000))))),
        expected: Same,
        check: |scene| ranges(scene, &[None, Some(70_000)]),
    },
    Fault {
        name: "layer_cut_three_times_is_resumed",
        arrange: || {
            let cut = |skip, at| Rule::once(LAYER, end(End::Cut(at))).after(skip);
            Ok(Scene::plain()?.rule(cut(0, 100)).rule(cut(1, 50_000)).rule(cut(2, 1)).waits(5))
        },
        expected: Same,
        check: |scene| ranges(scene, &[None, Some(100), Some(50_100), Some(50_101)]),
    },
    Fault {
        name: "layer_cut_at_its_first_byte",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(LAYER, end(End::Cut(0))))),
        expected: Same,
        check: nothing,
    },
    Fault {
        name: "layer_cut_at_its_last_byte",
        arrange: || {
            let scene = Scene::plain()?;
            let at = scene.registry.image().layers[0].len() - 1;
            Ok(scene.rule(Rule::once(LAYER, end(End::Cut(at)))))
        },
        expected: Same,
        check: |scene| ranges(scene, &[None, Some(scene.registry.image().layers[0].len() - 1)]),
    },
    Fault {
        name: "layer_cut_always_at_the_same_byte",
        arrange: || {
            let cut = |request: &_, reply: Reply| {
                let first = mvm_tests::faults::Request::first_byte(request).unwrap_or(0);
                Reply { end: End::Cut(1000_usize.saturating_sub(first)), ..reply }
            };
            Ok(Scene::plain()?.rule(Rule::always(LAYER, Box::new(cut))).retries(1))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: |scene| ranges(scene, &[None, Some(1000)]),
    },
    Fault {
        name: "layer_reset_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(LAYER, end(End::Reset(60_000))))),
        expected: Same,
        check: |scene| heard(scene, LAYER, 2),
    },
    Fault {
        name: "layer_stalls_once",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::once(LAYER, end(End::Stall(60_000))))
                .option("--timeout")
                .option("1"))
        },
        expected: Same,
        check: |scene| ranges(scene, &[None, Some(60_000)]),
    },
    Fault {
        name: "layer_stalls_always",
        arrange: || {
            let stall = Rule::always(LAYER, end(End::Stall(0)));
            Ok(Scene::plain()?.rule(stall).timeout(1).retries(1))
        },
        expected: Refused(6, &["127.0.0.1", "for 1 s"]),
        check: |scene| heard(scene, LAYER, 2),
    },
    Fault {
        name: "layer_comes_slowly",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, slow(10_000, Duration::from_millis(10))))),
        expected: Same,
        check: |scene| heard(scene, LAYER, 1),
    },
    Fault {
        name: "manifest_comes_byte_by_byte",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, slow(1, Duration::from_micros(200))))),
        expected: Same,
        check: |scene| heard(scene, Target::Tag, 1),
    },
    Fault {
        name: "manifest_cut_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Tag, end(End::Cut(100))))),
        expected: Same,
        check: |scene| heard(scene, Target::Tag, 2),
    },
    Fault {
        name: "config_cut_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Config, end(End::Cut(100))))),
        expected: Same,
        check: |scene| heard(scene, Target::Config, 2),
    },
    Fault {
        name: "manifest_cut_always",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, end(End::Cut(100)))).retries(1)),
        expected: Refused(6, &["127.0.0.1", "broke off"]),
        check: |scene| heard(scene, Target::Tag, 2),
    },
    Fault {
        name: "manifest_never_comes",
        arrange: || {
            let mute = Rule::always(Target::Tag, end(End::Mute));
            Ok(Scene::plain()?.rule(mute).timeout(1).retries(0))
        },
        expected: Refused(6, &["127.0.0.1", "for 1 s"]),
        check: |scene| heard(scene, Target::Tag, 1),
    },
    Fault {
        name: "empty_reply_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Tag, raw("")))),
        expected: Same,
        check: |scene| heard(scene, Target::Tag, 2),
    },
    Fault {
        name: "connection_reset_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Config, end(End::Reset(0))))),
        expected: Same,
        check: |scene| heard(scene, Target::Config, 2),
    },
    Fault {
        name: "layer_announced_a_byte_short",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| announced(scene, -1))),
        expected: Refused(4, &["announces", "its descriptor says", "sha256:"]),
        check: |scene| heard(scene, LAYER, 1),
    },
    Fault {
        name: "layer_announced_a_byte_long",
        arrange: || Ok(Scene::plain()?.rule_by(|scene| announced(scene, 1))),
        expected: Refused(4, &["announces", "its descriptor says", "sha256:"]),
        check: |scene| heard(scene, LAYER, 1),
    },
    Fault {
        name: "layer_announced_as_an_exabyte",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, says("1152921504606846976")))),
        expected: Refused(4, &["announces 1152921504606846976 bytes", "sha256:"]),
        check: nothing,
    },
    Fault {
        name: "layer_of_negative_length",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, says("-1"))).retries(0)),
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "layer_of_two_lengths",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, header("Content-Length", "5"))).retries(0)),
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "layer_in_chunks",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, length(Length::Chunked)))),
        expected: Same,
        check: |scene| heard(scene, LAYER, 1),
    },
    Fault {
        name: "layer_in_a_chunk_that_is_none_once",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(LAYER, length(Length::BadChunk(50_000))))),
        expected: Same,
        check: |scene| heard(scene, LAYER, 2),
    },
    Fault {
        name: "layer_ended_by_its_connection",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Any, http_1_0()))),
        expected: Same,
        check: |scene| heard(scene, LAYER, 1),
    },
    Fault {
        name: "layer_ended_early_by_its_connection",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(LAYER, both(http_1_0(), end(End::Cut(70_000)))))),
        expected: Same,
        check: |scene| ranges(scene, &[None, Some(70_000)]),
    },
    Fault {
        name: "layer_with_one_bit_flipped",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, change(|bytes| bytes[150_000] ^= 1)))),
        expected: Refused(4, &["layer 1", "sha256:"]),
        check: |scene| heard(scene, LAYER, 1),
    },
    Fault {
        name: "layer_that_is_the_other_layer",
        arrange: || {
            Ok(Scene::plain()?
                .rule_by(|scene| {
                    Rule::always(
                        LAYER,
                        both(body(scene.registry.image().layers[1].clone()), length(Length::Chunked)),
                    )
                })
                .retries(1))
        },
        expected: Refused(6, &["layer 1", "broke off"]),
        check: nothing,
    },
    Fault {
        name: "layer_that_is_empty",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(LAYER, body("")))),
        expected: Refused(4, &["announces 0 bytes"]),
        check: nothing,
    },
    Fault {
        name: "layer_that_goes_on_after_its_end",
        arrange: || {
            let more = change(|bytes| bytes.extend([0; 1024]));
            Ok(Scene::plain()?.rule(Rule::always(LAYER, both(more, length(Length::Chunked)))))
        },
        expected: Refused(4, &["layer 1", "goes on after"]),
        check: nothing,
    },
    Fault {
        name: "layer_packed_for_the_way",
        arrange: || {
            let pack = change(|bytes| *bytes = gzip(bytes));
            let both = both(pack, both(header("Content-Encoding", "gzip"), length(Length::Chunked)));
            Ok(Scene::plain()?.rule(Rule::always(LAYER, both)))
        },
        expected: Refused(6, &["encodes its answer as \"gzip\""]),
        check: nothing,
    },
    Fault {
        name: "config_with_one_bit_flipped",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Config, change(|bytes| bytes[5] ^= 1)))),
        expected: Refused(4, &["image config", "sha256:"]),
        check: |scene| heard(scene, Target::Config, 1),
    },
    Fault {
        name: "range_answered_with_the_whole",
        arrange: || {
            let forget = |_: &_, reply: Reply| Reply { status: 200, ..reply };
            Ok(Scene::plain()?.rule(Rule::once(LAYER, end(End::Cut(70_000)))).rule_by(|scene| {
                let whole = scene.registry.image().layers[0].clone();
                Rule::always(LAYER, both(body(whole), both(without("Content-Range"), Box::new(forget))))
            }))
        },
        expected: Same,
        check: |scene| heard(scene, LAYER, 2),
    },
    Fault {
        name: "range_answered_with_another_range",
        arrange: || {
            Ok(Scene::plain()?.rule(Rule::once(LAYER, end(End::Cut(70_000)))).rule_by(|scene| {
                let total = scene.registry.image().layers[0].len();
                let range = header("Content-Range", format!("bytes 60000-{}/{total}", total - 1));
                Rule::always(LAYER, range).after(1)
            }))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "range_of_another_total",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::once(LAYER, end(End::Cut(70_000))))
                .rule(Rule::always(LAYER, header("Content-Range", "bytes 70000-70099/70100")).after(1)))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "range_that_is_missing",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::once(LAYER, end(End::Cut(70_000))))
                .rule(Rule::always(LAYER, without("Content-Range")).after(1)))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "range_refused",
        arrange: || {
            let refuse = |_: &_, reply: Reply| Reply { status: 416, body: Vec::new(), ..reply };
            Ok(Scene::plain()?.rule(Rule::once(LAYER, end(End::Cut(70_000)))).rule(
                Rule::once(LAYER, both(Box::new(refuse), header("Content-Range", "bytes */100"))).after(1),
            ))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "rest_of_another_layer_after_a_cut",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::once(LAYER, end(End::Cut(70_000))))
                .rule(Rule::always(LAYER, change(|bytes| bytes[0] ^= 1)).after(1)))
        },
        expected: Refused(4, &["layer 1", "sha256:"]),
        check: nothing,
    },
    Fault {
        name: "layer_without_end",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(LAYER, endless(200, "application/octet-stream", Length::Chunked))))
        },
        expected: Refused(4, &["layer 1"]),
        check: nothing,
    },
    Fault {
        name: "manifest_without_end",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(Target::Tag, endless(200, "application/json", Length::Close))))
        },
        expected: Refused(6, &["manifest from 127.0.0.1", "longer than 4194304 bytes"]),
        check: |scene| heard(scene, Target::Tag, 1),
    },
    Fault {
        name: "config_without_end",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(Target::Config, endless(200, "application/json", Length::Chunked))))
        },
        expected: Refused(6, &["blob from 127.0.0.1", "longer than"]),
        check: nothing,
    },
    Fault {
        name: "error_page_without_end",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(Target::Tag, endless(404, "application/json", Length::Close))))
        },
        expected: Refused(3, &["team/app:one"]),
        check: nothing,
    },
    Fault {
        name: "headers_without_end",
        arrange: || Ok(Scene::plain()?.rule(Rule::always(Target::Tag, end(End::EndlessHeaders))).retries(0)),
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "header_of_a_mebibyte",
        arrange: || {
            Ok(Scene::plain()?
                .rule(Rule::always(Target::Tag, header("X-Long", "a".repeat(1 << 20))))
                .retries(0))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "ssh_on_the_port",
        arrange: || {
            Ok(Scene::plain()?.rule(Rule::always(Target::Any, raw("SSH-2.0-OpenSSH_9.2\r\n"))).retries(0))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "http_of_another_version",
        arrange: || {
            Ok(Scene::plain()?.rule(Rule::always(Target::Any, raw("HTTP/3.9 200 OK\r\n\r\n"))).retries(0))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "continue_without_end",
        arrange: || {
            let flood = Rule::always(Target::Tag, end(End::EndlessContinue));
            Ok(Scene::plain()?.rule(flood).timeout(1).retries(0))
        },
        expected: Refused(6, &["127.0.0.1"]),
        check: nothing,
    },
    Fault {
        name: "continue_before_the_answer",
        arrange: || Ok(Scene::plain()?.rule(Rule::once(Target::Tag, continued(20)))),
        expected: Same,
        check: nothing,
    },
];

/// Answers as a server of HTTP 1.0 does, whose bodies end with the connection.
fn http_1_0() -> mvm_tests::faults::Fault {
    Box::new(|_, reply| Reply { version: "HTTP/1.0", length: Length::Close, ..reply })
}

/// Puts so many informational answers before the real one.
fn continued(count: usize) -> mvm_tests::faults::Fault {
    Box::new(move |_, reply| {
        let head = format!(
            "{}HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(count),
            mvm_tests::faults::MANIFEST,
            reply.body.len()
        );
        Reply { raw: Some([head.into_bytes(), reply.body.clone()].concat()), ..reply }
    })
}

/// Announces the lowest layer as so much longer than it is.
fn announced(scene: &Scene, by: i64) -> Rule {
    let length = scene.registry.image().layers[0].len() as i64 + by;
    Rule::always(LAYER, says(length.to_string()))
}

/// Returns the path of what is asked for.
fn path(scene: &Scene, target: Target) -> String {
    let image = scene.registry.image();
    match target {
        Target::Tag => "/manifests/one".to_owned(),
        Target::Config => format!("/blobs/{}", digest(&image.config)),
        Target::Layer(index) => format!("/blobs/{}", digest(&image.layers[index])),
        _ => String::new(),
    }
}

/// Checks how often the registry was asked for something.
fn heard(scene: &Scene, target: Target, times: usize) -> Outcome {
    ensure_eq!(scene.log.to(&path(scene, target)).len(), times);
    Ok(())
}

/// Checks the first byte of each request for the lowest layer.
fn ranges(scene: &Scene, firsts: &[Option<usize>]) -> Outcome {
    let requests = scene.log.to(&path(scene, LAYER));
    let asked: Vec<_> = requests.iter().map(mvm_tests::faults::Request::first_byte).collect();
    ensure_eq!(asked, firsts);
    let open = |text: &str| text.starts_with("bytes=") && text.ends_with('-');
    ensure!(requests.iter().filter_map(|request| request.header("range")).all(open), "a range with an end");
    Ok(())
}
