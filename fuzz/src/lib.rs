//! Bodies of fuzz targets: each takes hostile bytes, gives them to one parser and asserts what must hold of the answer.
//!
//! The same bodies run in two ways: the ordinary test `replay` runs them over every stored input in `corpus/`, and
//! `make fuzz` links them with libFuzzer and looks for new inputs. Adding a target is a module here, a line in
//! [`TARGETS`], a file in `targets/`, and its seeds in [`seeds`].

pub mod archive;
pub mod audit;
pub mod auth;
pub mod challenge;
pub mod changes;
pub mod closure;
pub mod cosign;
pub mod documents;
pub mod dsse;
pub mod erofs;
pub mod flakes;
pub mod frames;
pub mod framing;
pub mod guest_document;
pub mod image;
pub mod index;
pub mod inflate;
pub mod kernel;
pub mod keys;
pub mod layers;
pub mod messages;
pub mod nar;
pub mod network;
pub mod plan;
pub mod plan_bundle;
pub mod policy;
pub mod references;
pub mod registries_conf;
pub mod seeds;
pub mod sink;
pub mod tar;
pub mod tree;
pub mod verity;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its directory in `corpus/`, and its program is `fuzz-` and this.
    pub label: &'static str,
    /// What is done with an input.
    pub body: fn(&[u8]),
    /// Valid inputs to start from, made by our own code.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, in name order.
pub const TARGETS: &[Target] = &[
    Target { label: "archive", body: archive::body, seeds: archive::seeds },
    Target { label: "audit", body: audit::body, seeds: seeds::documents::audit },
    Target { label: "auth", body: auth::body, seeds: auth::seeds },
    Target { label: "challenge", body: challenge::body, seeds: seeds::text::challenges },
    Target { label: "changes", body: changes::body, seeds: seeds::trees::changes },
    Target { label: "closure", body: closure::body, seeds: closure::seeds },
    Target { label: "cosign", body: cosign::body, seeds: cosign::seeds },
    Target { label: "documents", body: documents::body, seeds: seeds::documents::oci },
    Target { label: "dsse", body: dsse::body, seeds: seeds::documents::dsse },
    Target { label: "erofs", body: erofs::body, seeds: seeds::trees::erofs },
    Target { label: "flakes", body: flakes::body, seeds: flakes::seeds },
    Target { label: "frames", body: frames::body, seeds: seeds::wire::frames },
    Target { label: "framing", body: framing::body, seeds: framing::seeds },
    Target { label: "guest_document", body: guest_document::body, seeds: seeds::wire::guest_documents },
    Target { label: "index", body: index::body, seeds: seeds::trees::index },
    Target { label: "inflate", body: inflate::body, seeds: seeds::trees::inflate },
    Target { label: "kernel", body: kernel::body, seeds: seeds::kernel::kernels },
    Target { label: "keys", body: keys::body, seeds: seeds::documents::keys },
    Target { label: "layers", body: layers::body, seeds: seeds::trees::layers },
    Target { label: "messages", body: messages::body, seeds: seeds::wire::messages },
    Target { label: "nar", body: nar::body, seeds: nar::seeds },
    Target { label: "network", body: network::body, seeds: network::seeds },
    Target { label: "plan", body: plan::body, seeds: seeds::documents::plan },
    Target { label: "plan_bundle", body: plan_bundle::body, seeds: plan_bundle::seeds },
    Target { label: "policy", body: policy::body, seeds: policy::seeds },
    Target { label: "references", body: references::body, seeds: seeds::text::references },
    Target { label: "registries_conf", body: registries_conf::body, seeds: registries_conf::seeds },
    Target { label: "tar", body: tar::body, seeds: seeds::trees::tars },
    Target { label: "verity", body: verity::body, seeds: seeds::trees::verity },
];
