//! Image configs: what to run, and the diff IDs.

use std::io;

use serde_json::{Value, json};

use super::documents::{store, tree};
use super::image::{Image, digest};
use super::tar::Tar;
use super::{Case, Kind, Peer, Tree, hostile, oddity};

const LENIENT: Peer = Peer::Differs("it doesn't look");
const RUNTIME: Peer = Peer::Differs("it makes a runtime's configuration of it at once");
const UNREAD: Peer = Peer::Differs("it copies the config unread");

/// Writes the usual image with a changed config.
fn changed(change: impl Fn(&mut Value)) -> impl Fn(&mut Image) -> io::Result<()> {
    move |image| {
        image.layer(Tar::new().file("a", "x"))?;
        let mut config = image.config();
        change(&mut config);
        let manifest = image.manifest(config.to_string().as_bytes())?.to_string();
        store(image, manifest)
    }
}

/// Writes the usual image with the text of its config changed.
fn written(change: impl Fn(String) -> String) -> impl Fn(&mut Image) -> io::Result<()> {
    move |image| {
        image.layer(Tar::new().file("a", "x"))?;
        let config = change(image.config().to_string());
        let manifest = image.manifest(config.as_bytes())?.to_string();
        store(image, manifest)
    }
}

pub(super) fn cases() -> Vec<Case> {
    [layers(), platforms(), processes(), texts()].into_iter().flatten().collect()
}

fn layers() -> Vec<Case> {
    vec![
        hostile("config-of-nothing", "an object without properties", |i| written(|_| "{}".to_owned())(i))
            .refused(Kind::Json, "rootfs")
            .skopeo(UNREAD),
        hostile("fewer-diff-ids-than-layers", "a layer that nothing vouches for", |i| {
            changed(|c| c["rootfs"]["diff_ids"] = json!([]))(i)
        })
        .refused(Kind::Pair, "1 layers, the image config has 0 diff IDs")
        .skopeo(UNREAD),
        hostile("more-diff-ids-than-layers", "a diff ID without a layer", |i| {
            changed(|c| {
                let id = c["rootfs"]["diff_ids"][0].clone();
                c["rootfs"]["diff_ids"] = json!([id, id]);
            })(i)
        })
        .refused(Kind::Pair, "1 layers, the image config has 2 diff IDs")
        .umoci(LENIENT)
        .skopeo(UNREAD),
        hostile(
            "diff-id-of-something-else",
            "2014-8178: a good digest, and a layer that is another one",
            |i| changed(|c| c["rootfs"]["diff_ids"] = json!([digest(b"something else")]))(i),
        )
        .refused(Kind::DiffId, "sha256:")
        .skopeo(UNREAD),
        hostile("diff-id-of-the-compressed-layer", "the digest of the wrong bytes", |i| {
            let archive = Tar::new().file("a", "x").finish();
            let packed = super::gzip(&archive);
            i.stored(&packed, super::image::TAR_GZIP, &digest(&packed))
        })
        .refused(Kind::DiffId, "sha256:"),
        hostile("diff-id-as-path", "2014-9358, 2024-3727: an ID that is a path", |i| {
            changed(|c| c["rootfs"]["diff_ids"] = json!(["sha256:../../../tmp/mvm-corpus-canary/file"]))(i)
        })
        .refused(Kind::DigestValue, "../../../tmp/mvm-corpus-canary/file")
        .skopeo(UNREAD),
        hostile("diff-id-of-another-kind", "sha512 is registered, and mvm names content by sha256", |i| {
            changed(|c| c["rootfs"]["diff_ids"] = json!([format!("sha512:{}", "0".repeat(128))]))(i)
        })
        .refused(Kind::DigestAlgorithm, "sha512")
        .skopeo(UNREAD),
        hostile("rootfs-missing", "nothing vouches for the layers", |i| {
            changed(|c| drop(c.as_object_mut().map(|c| c.remove("rootfs"))))(i)
        })
        .refused(Kind::Json, "rootfs")
        .skopeo(UNREAD),
        hostile("rootfs-of-another-type", "a base that isn't made of layers", |i| {
            changed(|c| c["rootfs"]["type"] = json!("layers+base"))(i)
        })
        .refused(Kind::RootfsType, "layers+base")
        .skopeo(UNREAD),
        oddity("history-of-more-layers", "history is a story, not a check", |i| {
            changed(|c| {
                let step = |empty: bool| json!({"created_by": "RUN x", "empty_layer": empty});
                c["history"] = json!([step(false), step(true), step(false), step(false)]);
            })(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity("history-of-nonsense", "nobody reads it", |i| changed(|c| c["history"] = json!([5, null]))(i))
            .accepted(tree)
            .umoci(Peer::NotAsked("it reads the history"))
            .skopeo(Peer::NotAsked("it reads the history or not, by the way it copies")),
    ]
}

fn platforms() -> Vec<Case> {
    vec![
        hostile("system-of-windows", "not for this machine", |i| changed(|c| c["os"] = json!("windows"))(i))
            .refused(Kind::OperatingSystem, "windows")
            .skopeo(UNREAD),
        hostile("system-missing", "required by the specification", |i| {
            changed(|c| drop(c.as_object_mut().map(|c| c.remove("os"))))(i)
        })
        .refused(Kind::OperatingSystem, "\"\"")
        .skopeo(UNREAD),
        hostile("architecture-missing", "required by the specification", |i| {
            changed(|c| c["architecture"] = json!(""))(i)
        })
        .refused(Kind::NoArchitecture, "image config sha256:")
        .umoci(LENIENT)
        .skopeo(UNREAD),
        hostile("architecture-of-another-machine", "not for this machine", |i| {
            changed(|c| c["architecture"] = json!("s390x"))(i)
        })
        .refused(Kind::Platform, "s390x")
        .umoci(LENIENT)
        .skopeo(UNREAD),
        hostile("variant-of-no-word", "a name that breaks what lists the images", |i| {
            changed(|c| c["variant"] = json!("v1\n\u{1b}[31m"))(i)
        })
        .refused(Kind::PlatformWords, "linux/amd64/v1")
        .umoci(LENIENT)
        .skopeo(UNREAD),
        oddity("architecture-x86-64", "what other tools call amd64", |i| {
            changed(|c| c["architecture"] = json!("x86_64"))(i)
        })
        .accepted(tree)
        .skopeo(Peer::Same),
        oddity("variant-v1", "what every amd64 machine runs", |i| changed(|c| c["variant"] = json!("v1"))(i))
            .accepted(tree)
            .skopeo(Peer::Same),
    ]
}

/// What is to run. A pull keeps it as it is; what a VM does with it is decided when one starts.
fn processes() -> Vec<Case> {
    let odd = |name, why, change: fn(&mut Value)| {
        oddity(name, why, move |i: &mut Image| changed(|c| change(&mut c["config"]))(i))
            .accepted(tree)
            .skopeo(Peer::Same)
    };
    let bad = |name, why, change: fn(&mut Value)| {
        hostile(name, why, move |i: &mut Image| changed(|c| change(&mut c["config"]))(i))
    };
    vec![
        odd("all-null", "Go writes what is unset so", |c| {
            *c = json!({"User": "", "Env": null, "Cmd": null, "Entrypoint": null, "Volumes": null, "Labels": null,
                "ExposedPorts": null, "WorkingDir": "", "Healthcheck": null, "OnBuild": null, "Shell": null});
        }),
        odd("config-null", "an image that runs nothing", |c| *c = Value::Null),
        odd("user-of-many-digits", "2024-40635, 2026-46680: a user that is root after an overflow", |c| {
            c["User"] = json!("4294967296:18446744073709551616");
        })
        .umoci(RUNTIME),
        odd("directory-of-a-descriptor", "2024-21626: a directory that leads to the host", |c| {
            c["WorkingDir"] = json!("/proc/self/fd/8/../../..");
        }),
        odd("volume-out-of-the-root", "2022-23648: a volume that is a path of the host", |c| {
            c["Volumes"] = json!({"/../../../tmp/mvm-corpus-canary": {}, "relative": null});
        }),
        odd("labels-that-command", "2026-53488, 2026-94603: labels that host tools obey", |c| {
            c["Labels"] =
                json!({"run": "podman run --privileged -v /:/host IMAGE", "io.containers.x": "\u{1b}[2J"});
        }),
        odd("odd-variables", "without a value, without a name, twice", |c| {
            c["Env"] = json!(["PATH", "=x", "A=1", "A=2", "B=a=b", "\u{fc}=\u{fc}"]);
        })
        .umoci(RUNTIME),
        odd("odd-ports", "what is no port is nobody's harm", |c| {
            c["ExposedPorts"] = json!({"80": {}, "53/udp": {}, "99999/tcp": {}, "x": {}});
        }),
        odd("entrypoint-as-text", "Docker's own reader takes a text for a list of one", |c| {
            c["Entrypoint"] = json!("/bin/sh -c x");
        })
        .umoci(Peer::Differs("it knows lists only, as OCI has them")),
        odd("label-without-text", "null is the empty text to Go", |c| c["Labels"] = json!({"a": null})),
        odd("names-in-small-letters", "Go reads names in any case", |c| {
            *c = json!({"cmd": ["/bin/sh"], "ENV": ["A=b"]})
        }),
        bad("user-as-number", "a number is no text", |c| c["User"] = json!(0))
            .refused(Kind::Json, "image config sha256:")
            .skopeo(UNREAD),
        bad("environment-as-object", "an object is no list", |c| c["Env"] = json!({"A": "b"}))
            .refused(Kind::Json, "image config sha256:")
            .skopeo(UNREAD),
        bad("command-as-number", "a number is no list", |c| c["Cmd"] = json!(0))
            .refused(Kind::Json, "image config sha256:")
            .skopeo(UNREAD),
        bad("process-twice", "which one runs depends on the reader", |c| {
            *c = json!({"Cmd": ["/good"], "cmd": ["/evil"]});
        })
        .refused(Kind::Json, "twice")
        .umoci(Peer::Differs("Go takes the last of several"))
        .skopeo(UNREAD),
        bad("variable-with-a-nul", "what C takes for the end", |c| c["Env"] = json!(["A=b\0c"]))
            .refused(Kind::NulInConfig, "Env")
            .umoci(LENIENT)
            .skopeo(UNREAD),
        bad("argument-with-a-nul", "what C takes for the end", |c| c["Cmd"] = json!(["/bin/sh\0"]))
            .refused(Kind::NulInConfig, "Cmd")
            .umoci(LENIENT)
            .skopeo(UNREAD),
    ]
}

fn texts() -> Vec<Case> {
    let padded = |size: usize| written(move |text| format!("{}{text}", " ".repeat(size - text.len())));
    vec![
        hostile("config-is-no-json", "bytes of something else", |i| written(|_| "\u{7f}ELF".to_owned())(i))
            .refused(Kind::Json, "image config sha256:")
            .skopeo(UNREAD),
        hostile(
            "config-nested-a-hundred-thousand-deep",
            "readers that call themselves for each level",
            |i| {
                written(|text| {
                    format!("{{\"x\":{}{},{}", "[".repeat(100_000), "]".repeat(100_000), &text[1..])
                })(i)
            },
        )
        .refused(Kind::Nesting, "100 levels")
        .skopeo(UNREAD),
        oddity("config-of-four-mebibytes", "the most that is read", move |i| padded(4 << 20)(i))
            .accepted(tree)
            .skopeo(Peer::Same),
        hostile("config-of-four-mebibytes-and-a-byte", "2020-1702: documents without limit", move |i| {
            padded((4 << 20) + 1)(i)
        })
        .refused(Kind::DocumentLimit, "4194305")
        .umoci(LENIENT)
        .skopeo(Peer::NotAsked("it reads the config or not, by the way it copies")),
        hostile("config-of-a-claimed-exabyte", "nothing is set aside for what a descriptor claims", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            let config = i.config().to_string();
            let mut manifest = i.manifest(config.as_bytes())?;
            manifest["config"]["size"] = json!(1_u64 << 60);
            store(i, manifest.to_string())
        })
        .refused(Kind::DocumentLimit, "1152921504606846976")
        .skopeo(Peer::Same),
        hostile("config-a-byte-longer", "the descriptor says less", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            let config = i.config().to_string();
            let mut manifest = i.manifest(config.as_bytes())?;
            manifest["config"]["size"] = json!(config.len() - 1);
            store(i, manifest.to_string())
        })
        .refused(Kind::BlobSize, "sha256:")
        .skopeo(Peer::Same),
        oddity("config-of-a-single-line-comment-like-text", "a text with quotes and slashes", |i| {
            changed(|c| c["comment"] = json!("// \"},{\" /* \\u0000 */"))(i)
        })
        .accepted(|| Tree::new().file("a", "x"))
        .skopeo(Peer::Same),
        oddity("created-in-words", "a time that is none", |i| {
            changed(|c| c["created"] = json!("yesterday"))(i)
        })
        .accepted(tree)
        .umoci(Peer::Differs("it reads the time"))
        .skopeo(Peer::Same),
    ]
}
