//! What lies beside an image and may be a signature of it.

use super::*;
use crate::{FoundSignature, FoundSignatures, RegistryError};
use mvm_ref::Reference;
use serde_json::{Value, json};

const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What a registry answers by path.
#[derive(Clone, Default)]
struct Routes(BTreeMap<String, (&'static str, Vec<u8>)>);

impl Routes {
    fn blob(&mut self, bytes: &[u8]) -> Value {
        self.0.insert(blob_path(bytes), ("application/octet-stream", bytes.to_vec()));
        json!({"digest": Digest::of(bytes).to_string(), "size": bytes.len()})
    }

    fn layer(&mut self, kind: &str, bytes: &[u8], signature: Option<&str>) -> Value {
        let mut layer = self.blob(bytes);
        layer["mediaType"] = json!(kind);
        if let Some(signature) = signature {
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
        }
        layer
    }

    fn manifest(&mut self, name: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        for name in [name.to_owned(), digest.to_string()] {
            self.0.insert(format!("/v2/team/app/manifests/{name}"), (MANIFEST, bytes.clone()));
        }
        json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn serve(self, special: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Server {
        Server::start(move |request| special(request).unwrap_or_else(|| found(&self.0, request)))
    }
}

fn find(server: &Server, digest: &Digest) -> Result<FoundSignatures, FetchError> {
    let image: Reference = format!("{}/team/app:1", server.host()).parse().unwrap();
    Fetcher::new(quick()).signatures(&image, &[*digest])
}

fn simple(payload: &str, signature: &str) -> FoundSignature {
    FoundSignature::SimpleSigning { payload: payload.into(), signature: signature.to_owned() }
}

fn image() -> (Digest, String) {
    let digest = Digest::of(b"the image");
    (digest, format!("sha256-{}", digest.hex()))
}

#[test]
fn signatures_are_found_under_the_tag_and_among_the_referrers() {
    let (digest, tag) = image();
    let mut routes = Routes::default();
    let layers = json!([
        routes.layer(SIMPLE, b"payload", Some("one")),
        routes.layer(SIMPLE, b"payload", Some("two")),
        routes.layer(SIMPLE, b"unsigned", None),
        routes.layer("application/octet-stream", b"else", Some("x")),
    ]);
    routes.manifest(&format!("{tag}.sig"), &json!({"layers": layers}));
    let bundle = json!([routes.layer(BUNDLE, b"a bundle", None)]);
    let mut referrer = routes.manifest("unused", &json!({"layers": bundle}));
    let mut others = Vec::new();
    for kind in ["application/vnd.cyclonedx", "application/spdx+json"] {
        let layers = json!([routes.layer(SIMPLE, kind.as_bytes(), Some("x"))]);
        let mut other = routes.manifest("other", &json!({"layers": layers}));
        other["artifactType"] = json!(kind);
        others.push(other);
    }
    let by_tag = vec![simple("payload", "one"), simple("payload", "two")];
    let all = [by_tag.clone(), vec![FoundSignature::Bundle(b"a bundle".to_vec())]].concat();
    for kind in [Some(BUNDLE), Some("application/vnd.oci.empty.v1+json"), Some(""), None] {
        match kind {
            Some(kind) => referrer["artifactType"] = json!(kind),
            None => drop(referrer.as_object_mut().unwrap().remove("artifactType")),
        }
        let index = json!({"manifests": [others[0], referrer, others[1], referrer]});
        // Either the registry knows what refers to an image, or its clients keep a list.
        let mut listing = routes.clone();
        listing.manifest(&tag, &index);
        let server = listing.serve(|_| None);
        let expected = FoundSignatures { signatures: all.clone(), left_out: 0 };
        assert_eq!(find(&server, &digest).unwrap(), expected, "{kind:?}");
        let path = format!("/v2/team/app/referrers/{digest}");
        let server = routes.clone().serve(move |request| {
            (request.path == path).then(|| Reply::new(200, &[("Content-Type", INDEX)], index.to_string()))
        });
        assert_eq!(find(&server, &digest).unwrap(), expected, "{kind:?}");
    }
    // Registries that don't know about referrers say so in ways of their own.
    for status in [400, 404, 405, 406] {
        let server = routes.clone().serve(move |request| {
            request.path.contains("/referrers/").then(|| Reply::new(status, &[], "{}"))
        });
        let expected = FoundSignatures { signatures: by_tag.clone(), left_out: 0 };
        assert_eq!(find(&server, &digest).unwrap(), expected, "{status}");
    }
    let nothing = Routes::default().serve(|_| None);
    assert_eq!(find(&nothing, &digest).unwrap(), FoundSignatures::default());
}

/// Makes the header of a page from the list's path and the number of the next one.
type Lead = fn(&str, usize) -> String;

#[test]
fn lists_of_referrers_go_on_over_pages() {
    let (digest, _) = image();
    let mut routes = Routes::default();
    let names = ["first", "second", "third"];
    let referrers = names.map(|name| {
        let layers = json!([routes.layer(BUNDLE, name.as_bytes(), None)]);
        routes.manifest("unused", &json!({"layers": layers}))
    });
    let path = format!("/v2/team/app/referrers/{digest}");
    // How a page leads to the next one, how many bundles are found, and whether some are left out.
    let table: [(Lead, usize, usize); 4] = [
        (|path, page| format!("<{path}?page={page}>; rel=\"next\""), 3, 0),
        (|_, page| format!("<?page={page}>; rel=next"), 3, 0),
        (|path, page| format!("<http://127.0.0.2:1{path}?page={page}>; rel=\"next\""), 1, 1),
        // In a circle.
        (|path, page| format!("<{path}?page={}>; rel=\"next\"", page % 2), 2, 1),
    ];
    for (link, count, left_out) in table {
        let (path, referrers) = (path.clone(), referrers.clone());
        let server = routes.clone().serve(move |request| {
            let (asked, query) = request.path.split_once('?').unwrap_or((&request.path, "page=0"));
            let page: usize = query.strip_prefix("page=")?.parse().ok()?;
            let body = json!({"manifests": [referrers.get(page)?]}).to_string();
            let next = if page + 1 < referrers.len() { link(&path, page + 1) } else { String::new() };
            (asked == path).then(|| Reply::new(200, &[("Content-Type", INDEX), ("Link", &next)], body))
        });
        let found = find(&server, &digest).unwrap();
        assert_eq!((found.signatures.len(), found.left_out), (count, left_out));
        assert!(server.requests().len() < 50, "{} requests", server.requests().len());
    }
}

#[test]
fn a_registry_that_refuses_or_lies_is_an_error() {
    let (digest, tag) = image();
    for status in [401, 403, 429, 500] {
        let server = Routes::default().serve(move |request| {
            request.path.contains("/referrers/").then(|| Reply::new(status, &[], "{}"))
        });
        assert!(find(&server, &digest).is_err(), "{status}");
    }
    let mut routes = Routes::default();
    let layers = json!([routes.layer(SIMPLE, b"payload", Some("one"))]);
    routes.manifest(&format!("{tag}.sig"), &json!({"layers": layers}));
    routes.0.insert(blob_path(b"payload"), ("application/octet-stream", b"another".to_vec()));
    let error = find(&routes.serve(|_| None), &digest).unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Digest { .. })), "{error}");
}

#[test]
fn what_is_too_large_or_too_many_is_left_out() {
    let (digest, tag) = image();
    let under_tag = |document: &dyn Fn(&mut Routes) -> Value| {
        let mut routes = Routes::default();
        let document = document(&mut routes);
        routes.manifest(&format!("{tag}.sig"), &document);
        let found = find(&routes.serve(|_| None), &digest).unwrap();
        (found.signatures.len(), found.left_out)
    };
    let large = vec![b' '; 65 << 10];
    assert_eq!(under_tag(&|routes| json!({"layers": [routes.layer(SIMPLE, &large, Some("x"))]})), (0, 1));
    let many = |routes: &mut Routes| {
        let layers: Vec<Value> =
            (0..100).map(|number| routes.layer(SIMPLE, b"payload", Some(&number.to_string()))).collect();
        json!({"layers": layers})
    };
    assert_eq!(under_tag(&many), (64, 36));
    // One that is no document, or a huge one, leaves others to be found.
    assert_eq!(under_tag(&|_| json!([1])), (0, 1));
    assert_eq!(under_tag(&|_| json!({"layers": [], "x": " ".repeat(1 << 20)})), (0, 1));
    assert_eq!(under_tag(&|_| json!({"layers": [{"mediaType": SIMPLE, "digest": "x", "size": 1}]})), (0, 0));

    // Neither a list nor a manifest without end is held in memory.
    for part in ["/referrers/", ".sig"] {
        let server = Routes::default().serve(move |request| {
            request.path.contains(part).then(|| Reply { status: 200, headers: vec![], body: Body::Endless })
        });
        let error = find(&server, &digest).unwrap_err();
        assert!(matches!(error, FetchError::Registry(RegistryError::TooLarge { .. })), "{part}: {error}");
    }
    let mut routes = Routes::default();
    let layers = json!([routes.layer(BUNDLE, b"a bundle", None)]);
    let referrers: Vec<Value> = (0..100)
        .map(|number| routes.manifest("unused", &json!({"layers": layers, "number": number})))
        .collect();
    routes.manifest(&tag, &json!({"manifests": referrers}));
    let server = routes.serve(|_| None);
    let expected =
        FoundSignatures { signatures: vec![FoundSignature::Bundle(b"a bundle".to_vec())], left_out: 36 };
    assert_eq!(find(&server, &digest).unwrap(), expected);
}
