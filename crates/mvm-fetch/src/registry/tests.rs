mod failures;
mod logins;
mod mirrored;
mod pushes;
mod retries;
mod server;
mod signatures;
mod tls;
mod uploads;

use crate::inflate::tests::gzip;
use crate::{FetchConfig, FetchError, Fetcher, Origin, Resolved};
use mvm_ref::{Digest, ImageSource, Platform, VerifiedLayer};
use server::{Body, Reply, Request, Server};
use std::collections::BTreeMap;
use std::time::Duration;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image with one layer, as the paths and bytes of a registry.
#[derive(Clone)]
struct Image {
    tar: Vec<u8>,
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let tar: Vec<u8> = (0..400_000_u64).map(|i| ((i * i) >> 9) as u8 & 0x1f).collect();
        let layer = gzip(&tar);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&tar)
        );
        Self { tar, layer, config: config.into_bytes(), manifest: vec![], index: vec![] }.linked()
    }

    /// Writes the manifest and index anew.
    fn linked(mut self) -> Self {
        let descriptor = |kind: &str, bytes: &[u8]| {
            format!(r#""mediaType":"{kind}","digest":"{}","size":{}"#, Digest::of(bytes), bytes.len())
        };
        let config = descriptor("application/vnd.oci.image.config.v1+json", &self.config);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &self.layer);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{{config}}},"layers":[{{{layer}}}]}}"#
        );
        self.manifest = manifest.into_bytes();
        let entry = descriptor(MANIFEST, &self.manifest);
        self.index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{{entry},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        )
        .into_bytes();
        self
    }

    fn layer_path(&self) -> String {
        blob_path(&self.layer)
    }

    /// Returns type and bytes by path.
    fn routes(&self) -> BTreeMap<String, (&'static str, Vec<u8>)> {
        let octets = "application/octet-stream";
        let manifest = |name: &str| format!("/v2/team/app/manifests/{name}");
        let digest = |bytes: &[u8]| Digest::of(bytes).to_string();
        BTreeMap::from([
            (manifest("one"), (MANIFEST, self.manifest.clone())),
            (manifest("many"), (INDEX, self.index.clone())),
            (manifest(&digest(&self.manifest)), (MANIFEST, self.manifest.clone())),
            (manifest(&digest(&self.index)), (INDEX, self.index.clone())),
            (blob_path(&self.config), (octets, self.config.clone())),
            (self.layer_path(), (octets, self.layer.clone())),
        ])
    }

    /// Serves the image; `special` answers before it does.
    fn serve(&self, special: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Server {
        let routes = self.routes();
        Server::start(move |request| special(request).unwrap_or_else(|| found(&routes, request)))
    }
}

fn found(routes: &BTreeMap<String, (&'static str, Vec<u8>)>, request: &Request) -> Reply {
    match routes.get(&request.path) {
        Some((kind, bytes)) => Reply::new(200, &[("Content-Type", kind)], bytes.clone()),
        None => {
            let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\nunknown"}]}"#;
            Reply::new(404, &[("Content-Type", "application/json")], body)
        }
    }
}

fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/team/app/blobs/{}", Digest::of(bytes))
}

fn platform() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// Waits next to nothing before it tries again.
fn quick() -> FetchConfig {
    FetchConfig { backoff: Duration::from_millis(1), ..FetchConfig::default() }
}

fn open(config: FetchConfig, server: &Server, name: &str) -> Origin {
    let source: ImageSource = format!("{}/team/app{name}", server.host()).parse().unwrap();
    Fetcher::new(config).open(&source).unwrap()
}

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn read(origin: &Origin, resolved: &Resolved) -> Result<(Vec<u8>, VerifiedLayer), FetchError> {
    let result = origin.read_layer(resolved, 0, &|_| (), |reader| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    result.map_err(|error| match error {
        BodyError::Fetch(error) => error,
        BodyError::Io(error) => panic!("the stream's own error hides behind {error}"),
    })
}

fn pull(config: FetchConfig, server: &Server, name: &str) -> Result<(Vec<u8>, VerifiedLayer), FetchError> {
    let origin = open(config, server, name);
    let resolved = origin.resolve(&platform())?;
    read(&origin, &resolved)
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest() {
    let image = Image::new();
    let server = image.serve(|_| None);
    let (manifest, index) = (Digest::of(&image.manifest), Digest::of(&image.index));
    let cases = [
        (":one".to_owned(), None),
        (":many".to_owned(), Some(index)),
        (format!("@{manifest}"), None),
        (format!("@{index}"), Some(index)),
        (format!(":gone@{index}"), Some(index)),
    ];
    for (name, index_digest) in cases {
        let origin = open(quick(), &server, &name);
        let resolved = origin.resolve(&platform()).unwrap();
        assert_eq!(resolved.index_digest(), index_digest, "{name}");
        assert_eq!(resolved.manifest_digest(), manifest);
        assert_eq!(resolved.manifest_bytes(), image.manifest);
        assert_eq!(resolved.config_bytes(), image.config);
        assert_eq!(resolved.config_digest(), Digest::of(&image.config));
        assert_eq!(resolved.requested(), origin.source());
        let (tar, layer) = read(&origin, &resolved).unwrap();
        assert!(tar == image.tar);
        assert_eq!((layer.digest(), layer.diff_id()), (Digest::of(&image.layer), Digest::of(&image.tar)));
    }
    let origin = open(quick(), &server, ":one");
    let resolved = origin.resolve(&platform()).unwrap();
    let beyond = origin.read_layer::<(), FetchError>(&resolved, 1, &|_| (), |_| Ok(()));
    assert!(matches!(beyond, Err(FetchError::NoSuchLayer { index: 1, layers: 1 })));
}

#[test]
fn layers_of_one_image_are_read_at_the_same_time() {
    let image = Image::new();
    let server = image.serve(|_| None);
    let origin = open(quick(), &server, ":one");
    let resolved = origin.resolve(&platform()).unwrap();
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..4).map(|_| scope.spawn(|| read(&origin, &resolved))).collect();
        for job in jobs {
            assert!(job.join().unwrap().unwrap().0 == image.tar);
        }
    });
}

/// Serves `documents` by digest beside an image, the last one as `:nested`.
fn nested(image: &Image, documents: Vec<Vec<u8>>) -> Server {
    image.serve(move |request| {
        let name = request.path.strip_prefix("/v2/team/app/manifests/")?;
        let last = documents.last().filter(|_| name == "nested");
        let found = last.or_else(|| documents.iter().find(|bytes| Digest::of(bytes).to_string() == name))?;
        Some(Reply::new(200, &[("Content-Type", INDEX)], found.clone()))
    })
}

fn index_of(entries: &[&[u8]]) -> Vec<u8> {
    let entry = |bytes: &&[u8]| {
        format!(r#"{{"mediaType":"{INDEX}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

#[test]
fn indexes_may_lie_in_indexes_so_deep_and_so_many() {
    let image = Image::new();
    let empty = br#"{"schemaVersion":2,"manifests":[]}"#;
    let mut documents = vec![empty.to_vec(), image.index.clone()];
    for depth in 2..=6 {
        documents.push(index_of(&[empty, &documents[documents.len() - 1]]));
        let server = nested(&image, documents.clone());
        let result = pull(quick(), &server, ":nested").map(|_| ());
        match depth {
            ..=4 => result.unwrap(),
            _ => assert!(matches!(result, Err(FetchError::Nesting { limit: 4, .. })), "{depth}: {result:?}"),
        }
    }
    let many: Vec<_> = (0..17).map(|n| format!(r#"{{"schemaVersion":2,"manifests":[],"n":{n}}}"#)).collect();
    let mut documents: Vec<_> = many.iter().map(|text| text.as_bytes().to_vec()).collect();
    let entries: Vec<&[u8]> = many.iter().map(|text| text.as_bytes()).collect();
    documents.push(index_of(&entries));
    let error = pull(quick(), &nested(&image, documents), ":nested").map(|_| ()).unwrap_err();
    assert!(matches!(error, FetchError::Indexes { limit: 16, .. }), "{error:?}");
    let alone = vec![empty.to_vec(), index_of(&[empty])];
    let error = pull(quick(), &nested(&image, alone), ":nested").map(|_| ()).unwrap_err();
    assert!(matches!(error, FetchError::Platform(_)), "{error:?}");
}
