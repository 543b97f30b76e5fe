use super::*;
use crate::inflate::tests::gzip;
use crate::{Bundle, FetchConfig, Fetcher, LayoutError, Origin};
use mvm_ref::{ImageSource, Platform};
use std::path::PathBuf;

/// Builds an archive, member by member.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, name: &str, kind: u8, link: &str, bytes: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.entry(name, b'0', "", bytes.as_ref())
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', target, b"")
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn config(layers: &[&[u8]]) -> String {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let ids = ids.join(",");
    format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#)
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    Digest::of(bytes.as_ref()).hex()
}

/// One image of two layers, the first of which is a link, as Docker wrote them for years.
fn image(names: &str) -> Tar {
    let config = config(&[b"lower", b"upper"]);
    let manifest = format!(
        r#"[{{"Config":"{}.json","RepoTags":{names},"Layers":["a/layer.tar","b/layer.tar"],"Parent":"x"}}]"#,
        hex(&config)
    );
    Tar::default()
        .entry("a/", b'5', "", b"")
        .link("a/layer.tar", "../b/../c/layer.tar")
        .file("b/layer.tar", "upper")
        .file("c/layer.tar", "lower")
        .file(&format!("{}.json", hex(&config)), &config)
        .file("manifest.json", manifest)
        .file("repositories", "{}")
}

struct Place(tempfile::TempDir);

impl Place {
    fn new(bytes: &[u8]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path(), bytes).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("image.tar")
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher::new(FetchConfig { spool: self.0.path().to_owned(), ..FetchConfig::default() })
    }

    fn open(&self, selector: &str) -> Result<Origin, FetchError> {
        let source = format!("docker-archive:{}{selector}", self.path().display());
        self.fetcher().open(&source.parse::<ImageSource>().unwrap())
    }
}

/// Reads every layer of an image.
fn layers(origin: &Origin) -> Result<Vec<Vec<u8>>, FetchError> {
    let resolved = origin.resolve(&Platform::new("linux", "amd64", None))?;
    let read = |index| {
        origin.read_layer::<_, FetchError>(&resolved, index, &|_| (), |reader| {
            let mut bytes = Vec::new();
            reader
                .read_to_end(&mut bytes)
                .map_err(|error| DockerArchiveError::ReadLayer(error).into())
                .map(|_| bytes)
        })
    };
    (0..resolved.layers().len()).map(|index| read(index).map(|(bytes, _)| bytes)).collect()
}

fn refused(bytes: &[u8]) -> String {
    let place = Place::new(bytes);
    let error = place.open("").and_then(|origin| layers(&origin)).unwrap_err();
    error.to_string().replace(&format!("{:?}", place.path()), "ARCHIVE")
}

#[test]
fn an_archive_is_an_image_with_a_manifest_of_its_own() {
    let config = config(&[b"lower", b"upper"]);
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
         \"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":{}}},\
         \"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{}\",\"size\":5}},\
         {{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{}\",\"size\":5}}]}}",
        Digest::of(config.as_bytes()),
        config.len(),
        Digest::of(b"lower"),
        Digest::of(b"upper")
    );
    let plain = image(r#"["app:1"]"#).bytes();
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
        let place = Place::new(&bytes);
        for selector in ["", ":@0", ":app:1", ":docker.io/library/app:1"] {
            let origin = place.open(selector).unwrap();
            let resolved = origin.resolve(&Platform::new("linux", "amd64", None)).unwrap();
            assert_eq!(std::str::from_utf8(resolved.manifest_bytes()).unwrap(), manifest);
            assert_eq!(resolved.config_bytes(), config.as_bytes());
            assert_eq!(layers(&origin).unwrap(), [b"lower", b"upper"]);
        }
        // What was unpacked to be read has no name.
        assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 1);
    }
}

#[test]
fn layers_may_be_compressed_and_linked_and_shared() {
    let config = config(&[b"one", b"two", b"one"]);
    let (zipped, packed) = (gzip(b"one"), zstd::encode_all(&b"two"[..], 1).unwrap());
    let manifest = r#"[{"Config":"config.json","RepoTags":null,"Layers":["1.tar.gz","2","./x/../3"]}]"#;
    let tar = Tar::default()
        .file("./manifest.json", manifest)
        .file("config.json", config)
        .file("1.tar.gz", &zipped)
        .file("2", &packed)
        .hard_link("3", "1.tar.gz");
    let origin = Place::new(&tar.bytes()).open("").unwrap();
    let resolved = origin.resolve(&Platform::new("linux", "amd64", None)).unwrap();
    let stored: Vec<Digest> = resolved.layers().iter().map(|(descriptor, _)| descriptor.digest).collect();
    assert_eq!(stored, [Digest::of(&zipped), Digest::of(&packed), Digest::of(&zipped)]);
    assert_eq!(layers(&origin).unwrap(), [b"one", b"two", b"one"]);
}

#[test]
fn long_names_are_read_as_gnu_and_pax_write_them() {
    let long = format!("{}/layer.tar", "d".repeat(200));
    let config = config(&[b"one", b"two"]);
    let pax = format!("path={long}2\n");
    let pax = format!("{} {pax}", pax.len() + 4);
    let manifest = format!(r#"[{{"Config":"c","Layers":["{long}","{long}2"]}}]"#);
    let tar = Tar::default()
        .entry("././@LongLink", b'L', "", format!("{long}\0").as_bytes())
        .file("cut", "one")
        .entry("pax", b'x', "", pax.as_bytes())
        .file("cut", "two")
        .file("c", config)
        .file("manifest.json", manifest);
    assert_eq!(layers(&Place::new(&tar.bytes()).open("").unwrap()).unwrap(), [b"one", b"two"]);
}

#[test]
fn one_of_several_images_is_selected() {
    let (one, two) = (config(&[b"one"]), config(&[b"two"]));
    let manifest = format!(
        r#"[{{"Config":"{}.json","RepoTags":["a:1","r.io/a:2"],"Layers":["1"]}},{{"Config":"{}.json","Layers":["2"]}}]"#,
        hex(&one),
        hex(&two)
    );
    let tar = Tar::default().file("manifest.json", manifest).file("1", "one").file("2", "two");
    let tar = tar.file(&format!("{}.json", hex(&one)), one).file(&format!("{}.json", hex(&two)), two);
    let place = Place::new(&tar.bytes());
    for (selector, layer) in [(":a:1", b"one"), (":r.io/a:2", b"one"), (":@0", b"one"), (":@1", b"two")] {
        assert_eq!(layers(&place.open(selector).unwrap()).unwrap(), [layer], "{selector}");
    }
    let names = ["a:1", "@1"];
    for (selector, expected) in [
        ("", format!("{:?} holds several images; name one of them: {}", place.path(), names.join(", "))),
        (":@2", format!("{:?} has no image @2; it has: {}", place.path(), names.join(", "))),
    ] {
        assert_eq!(place.open(selector).err().unwrap().to_string(), expected);
    }
    assert!(place.open(":b").is_err());
    let bundle = place.fetcher().open_bundle(Bundle::Path(place.path())).unwrap();
    let found: Vec<_> = bundle
        .iter()
        .map(|image| {
            (image.names.iter().map(ToString::to_string).collect::<Vec<_>>(), layers(&image.origin).unwrap())
        })
        .collect();
    let first = ["docker.io/library/a:1".to_owned(), "r.io/a:2".to_owned()].to_vec();
    assert_eq!(found, [(first, vec![b"one".to_vec()]), (vec![], vec![b"two".to_vec()])]);
}

#[test]
fn what_comes_through_a_pipe_is_the_same_image() {
    let plain = image("[]").bytes();
    for bytes in [plain.clone(), gzip(&plain)] {
        let place = Place::new(b"");
        let stream = Bundle::Stream(Box::new(std::io::Cursor::new(bytes)));
        let bundle = place.fetcher().open_bundle(stream).unwrap();
        assert_eq!(bundle.len(), 1);
        assert_eq!(bundle[0].origin.source().to_string(), "docker-archive:-:@0");
        assert_eq!(layers(&bundle[0].origin).unwrap(), [b"lower", b"upper"]);
    }
}

#[test]
fn hostile_members_are_refused_by_name() {
    let config = config(&[b"one"]);
    let with = |layer: &str| {
        let manifest = format!(r#"[{{"Config":"c.json","Layers":["{layer}"]}}]"#);
        Tar::default().file("manifest.json", manifest).file("c.json", &config)
    };
    let mut long_chain = with("0");
    for link in 0..12 {
        long_chain = long_chain.link(&link.to_string(), &(link + 1).to_string());
    }
    let cases: Vec<(Tar, &str)> = vec![
        (with("../x").file("../x", "one"), r#""../x" in ARCHIVE leads out of the archive"#),
        (with("/x").file("/x", "one"), r#""/x" in ARCHIVE leads out of the archive"#),
        (with("x"), r#""x" in ARCHIVE does not exist"#),
        (with("x").file("x", "one").file("./x", "one"), r#""x" in ARCHIVE is there twice"#),
        (with("x").link("x", "/etc/passwd"), r#""x" in ARCHIVE leads out of the archive"#),
        (with("d/x").link("d/x", "../../x"), r#""d/x" in ARCHIVE leads out of the archive"#),
        (with("x").hard_link("x", "../x"), r#""x" in ARCHIVE leads out of the archive"#),
        (with("x").link("x", "y").link("y", "x"), r#""x" in ARCHIVE is a link that leads nowhere"#),
        (with("x").hard_link("x", "x"), r#""x" in ARCHIVE is a link that leads nowhere"#),
        (long_chain, r#""0" in ARCHIVE is a link that leads nowhere"#),
        (with("x").entry("x", b'5', "", b""), r#""x" in ARCHIVE is not a regular file"#),
        (with("x").entry("x", b'6', "", b""), r#""x" in ARCHIVE is not a regular file"#),
        (
            with("x").file("x", b"BZh91AY"),
            r#"layer "x" in ARCHIVE is compressed with bzip2, which is not supported"#,
        ),
    ];
    for (tar, expected) in cases {
        assert_eq!(refused(&tar.bytes()), expected);
    }
    let lie = refused(&with("x").file("x", "two").bytes());
    assert!(lie.contains("has digest"), "{lie}");
    // A link that leads through a member is only a name that doesn't exist.
    let through = with("d/x").link("d", ".").file("x", "one");
    assert_eq!(refused(&through.bytes()), r#""d/x" in ARCHIVE does not exist"#);
}

#[test]
fn hostile_manifests_and_configs_are_refused() {
    let good = config(&[b"one"]);
    let zero = "0".repeat(64);
    let with = |manifest: &str, name: &str, config: &str| {
        Tar::default().file("manifest.json", manifest).file(name, config).file("l", "one").bytes()
    };
    let image = |name: &str| format!(r#"[{{"Config":"{name}","Layers":["l"]}}]"#);
    let named = |name: &str| refused(&with(&image(name), name, &good));
    for name in [format!("{zero}.json"), format!("sha256:{zero}"), format!("blobs/sha256/{zero}")] {
        let digest = Digest::of(good.as_bytes());
        let expected = format!("{name:?} in ARCHIVE has digest {digest}, its name says sha256:{zero}");
        assert_eq!(named(&name), expected);
    }
    let long = format!("\"{}\"", "a".repeat(MAX_CONFIG_SIZE as usize));
    let many = format!("[{}]", vec![r#"{"Config":"c"}"#; 1025].join(","));
    let two = r#"[{"Config":"c","Layers":["l","l"]}]"#;
    let cases = [
        (with("[]", "c", ""), "manifest.json in ARCHIVE lists 0 images; 1 to 1024 can be read".to_owned()),
        (
            with(&many, "c", ""),
            "manifest.json in ARCHIVE lists 1025 images; 1 to 1024 can be read".to_owned(),
        ),
        (with("{}", "c", ""), "ARCHIVE has a bad manifest.json".to_owned()),
        (with(r#"[{"Layers":[]}]"#, "c", ""), "ARCHIVE has a bad manifest.json".to_owned()),
        (
            with(r#"[{"Config":"c","RepoTags":["../x"]}]"#, "c", ""),
            "image 0 in ARCHIVE has a bad name".to_owned(),
        ),
        (with(&image("c"), "c", "{"), r#"image config "c" in ARCHIVE can't be used"#.to_owned()),
        (
            with(&image("c"), "c", &long),
            format!("\"c\" in ARCHIVE has {} bytes, more than {MAX_CONFIG_SIZE}", long.len()),
        ),
        (with(two, "c", &good), "image 0 in ARCHIVE lists 2 layers, its config 1".to_owned()),
        (
            Tar::default().file("repositories", "{}").bytes(),
            "ARCHIVE is an archive of Docker before 1.10, which has no manifest.json; that is not supported"
                .to_owned(),
        ),
        (
            Tar::default().file("x", "{}").bytes(),
            "ARCHIVE holds no image: it has neither manifest.json nor oci-layout".to_owned(),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(refused(&bytes), expected);
    }
    let twice = Tar::default().file("manifest.json", "[]").file("manifest.json", "[]").bytes();
    assert_eq!(refused(&twice), r#""manifest.json" in ARCHIVE is there twice"#);
}

#[test]
fn an_archive_unpacks_within_a_limit() {
    let place = Place::new(&gzip(&vec![0; 100_000]));
    let spool = Spool { directory: place.0.path().to_owned(), limit: 99_999, cancel: CancelToken::default() };
    let error = ArchiveFile::open(&place.path(), &spool).unwrap_err();
    assert!(matches!(error, LayoutError::SpoolLimit { limit: 99_999, .. }), "{error:?}");
    let cut = gzip(&vec![7; 100_000]);
    let place = Place::new(&cut[..cut.len() / 2]);
    let error = place.open("").err().unwrap();
    assert!(matches!(error, FetchError::Layout(LayoutError::Inflate { .. })), "{error:?}");
}
