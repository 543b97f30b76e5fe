use super::*;
use crate::{FetchConfig, Fetcher};
use mvm_ref::{ImageSource, Platform};
use std::fs;
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layout with blobs; `index.json` is written by each test.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fixture = Self { directory };
        fs::create_dir_all(fixture.path("blobs/sha256")).unwrap();
        fixture.write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn blob(&self, bytes: &[u8]) -> (Digest, String) {
        let digest = Digest::of(bytes);
        fs::write(self.path("blobs/sha256").join(digest.hex()), bytes).unwrap();
        (digest, format!(r#""digest":"{digest}","size":{}"#, bytes.len()))
    }

    /// Adds an image whose only layer is `tar`, and returns its entry of `index.json`.
    fn image(&self, tar: &[u8], name: &str) -> (Digest, String) {
        let (diff_id, layer) = self.blob(tar);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let (_, config) = self.blob(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar",{layer}}}]}}"#
        );
        let (digest, manifest) = self.blob(manifest.as_bytes());
        let name = match name {
            "" => String::new(),
            _ => format!(r#","annotations":{{"{REF_NAME}":"{name}"}}"#),
        };
        (digest, format!(r#"{{"mediaType":"{MANIFEST}",{manifest}{name}}}"#))
    }

    fn index(&self, entries: &[&str]) {
        self.write("index.json", &format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")));
    }

    /// Resolves the image and reads its layer, from the directory or from a tar file of it.
    fn read(&self, archive: bool, selector: &str) -> Result<(Digest, Vec<u8>), FetchError> {
        let path = self.directory.path();
        let source = if archive {
            let file = self.path("archive.tar");
            fs::write(&file, tar_of(path)).unwrap();
            format!("oci-archive:{}{selector}", file.display())
        } else {
            format!("oci:{}{selector}", path.display())
        };
        read_source(&source)
    }

    fn error(&self, archive: bool, selector: &str) -> String {
        let error = self.read(archive, selector).unwrap_err();
        let place = if archive { self.path("archive.tar") } else { self.directory.path().to_owned() };
        error.to_string().replace(&format!("{place:?}"), "PATH")
    }
}

#[derive(Debug)]
enum BodyError {
    Fetch(FetchError),
    Io(io::Error),
}

impl From<FetchError> for BodyError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

fn read_source(source: &str) -> Result<(Digest, Vec<u8>), FetchError> {
    let source: ImageSource = source.parse().unwrap();
    let origin = Fetcher::new(FetchConfig::default()).open(&source)?;
    let resolved = origin.resolve(&Platform::new("linux", "amd64", None))?;
    let result = origin.read_layer(&resolved, 0, &|_| (), |reader| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(BodyError::Io)?;
        Ok(bytes)
    });
    match result {
        Ok((bytes, _)) => Ok((resolved.manifest_digest(), bytes)),
        Err(BodyError::Fetch(error)) => Err(error),
        Err(BodyError::Io(error)) => panic!("the stream's own error hides behind {error}"),
    }
}

/// Writes the tar header of a file, directory or extended header.
fn header(name: &str, kind: u8, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    seal(&mut header);
    header
}

fn seal(header: &mut [u8; 512]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut member = header(name, b'0', bytes.len() as u64).to_vec();
    member.extend_from_slice(bytes);
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

fn tar_of(directory: &Path) -> Vec<u8> {
    let mut tar = header("./", b'5', 0).to_vec();
    for name in ["oci-layout", "index.json"] {
        if let Ok(bytes) = fs::read(directory.join(name)) {
            tar.extend(member(&format!("./{name}"), &bytes));
        }
    }
    tar.extend(header("blobs/sha256/", b'5', 0));
    for entry in fs::read_dir(directory.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let name = format!("blobs/sha256/{}", entry.file_name().to_str().unwrap());
        tar.extend(member(&name, &fs::read(entry.path()).unwrap()));
    }
    tar.extend([0; 1024]);
    tar
}

#[test]
fn images_are_chosen_by_name_or_digest() {
    let fixture = Fixture::new();
    let (one, one_entry) = fixture.image(b"tar one", "one");
    let (two, two_entry) = fixture.image(b"tar two", "host.io/app:two");
    for archive in [false, true] {
        fixture.index(&[&one_entry]);
        for selector in ["", ":one", &format!(":@{one}")] {
            assert_eq!(fixture.read(archive, selector).unwrap(), (one, b"tar one".to_vec()), "{selector}");
        }
        fixture.index(&[&one_entry, &one_entry]);
        assert_eq!(fixture.read(archive, "").unwrap().0, one);
        fixture.index(&[&one_entry, &two_entry]);
        assert_eq!(fixture.read(archive, ":host.io/app:two").unwrap(), (two, b"tar two".to_vec()));
        assert_eq!(
            fixture.error(archive, ""),
            "PATH holds several images; name one of them: one, host.io/app:two"
        );
        assert_eq!(fixture.error(archive, ":x"), "PATH has no image x; it has: one, host.io/app:two");
        fixture.index(&[]);
        assert_eq!(fixture.error(archive, ""), "PATH holds no image");
    }
    let (three, unnamed) = fixture.image(b"tar three", "");
    fixture.index(&[&one_entry, &unnamed]);
    assert_eq!(
        fixture.error(false, ""),
        format!("PATH holds several images; name one of them: one, @{three}")
    );
}

#[test]
fn an_index_inside_the_layout_is_followed() {
    let fixture = Fixture::new();
    let (image, entry) = fixture.image(b"tar", "");
    let entry = entry.replace(r#""size""#, r#""platform":{"os":"linux","architecture":"amd64"},"size""#);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    let (_, index) = fixture.blob(index.as_bytes());
    fixture.index(&[&format!(r#"{{"mediaType":"application/vnd.oci.image.index.v1+json",{index}}}"#)]);
    for archive in [false, true] {
        assert_eq!(fixture.read(archive, "").unwrap(), (image, b"tar".to_vec()));
    }
}

#[test]
fn broken_layouts_are_refused() {
    let fixture = Fixture::new();
    let (image, entry) = fixture.image(b"the tar", "one");
    let place = |name: Digest| fixture.path("blobs/sha256").join(name.hex());
    for archive in [false, true] {
        fixture.index(&[&entry]);
        let layer = Digest::of(b"the tar");
        fs::write(place(layer), b"the").unwrap();
        let expected = format!("blob {layer} in PATH has 3 bytes, its descriptor says 7");
        assert_eq!(fixture.error(archive, ""), expected);
        fs::write(place(layer), b"another").unwrap();
        let error = fixture.read(archive, "").unwrap_err();
        assert!(matches!(error, FetchError::Verify(_)), "{error:?}");
        fs::remove_file(place(layer)).unwrap();
        assert_eq!(fixture.error(archive, ""), format!("PATH has no blob {layer}"));
        fs::write(place(layer), b"the tar").unwrap();

        let manifest = fs::read(place(image)).unwrap();
        fs::write(place(image), vec![b' '; manifest.len()]).unwrap();
        let error = fixture.read(archive, "").unwrap_err();
        assert!(matches!(error, FetchError::DocumentDigest { what: "manifest", .. }), "{error:?}");
        fs::write(place(image), manifest).unwrap();

        fixture.write("index.json", r#"{"layers":[],"manifests":[]}"#);
        assert_eq!(fixture.error(archive, ""), "PATH has a bad index.json");
        fs::remove_file(fixture.path("index.json")).unwrap();
        assert_eq!(fixture.error(archive, ""), "PATH is not an OCI layout: it has no index.json");
        for (text, expected) in [
            (
                r#"{"imageLayoutVersion":"2.0.0"}"#,
                "PATH is an OCI layout of version \"2.0.0\", expected 1.0.0",
            ),
            ("{}", "PATH has a bad file oci-layout"),
        ] {
            fixture.write("oci-layout", text);
            assert_eq!(fixture.error(archive, ""), expected);
        }
        fixture.write("oci-layout", &" ".repeat(5000));
        assert_eq!(fixture.error(archive, ""), "oci-layout in PATH has 5000 bytes, more than 4096");
        fs::remove_file(fixture.path("oci-layout")).unwrap();
        assert_eq!(fixture.error(archive, ""), "PATH is not an OCI layout: it has no oci-layout");
        fixture.write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    }
}

#[test]
fn links_and_pipes_are_not_followed() {
    let fixture = Fixture::new();
    let (_, entry) = fixture.image(b"tar", "one");
    fixture.index(&[&entry]);
    let blob = fixture.path("blobs/sha256").join(Digest::of(b"tar").hex());
    let elsewhere = fixture.path("elsewhere");
    fs::rename(&blob, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
    let error = fixture.read(false, "").unwrap_err();
    assert!(matches!(error, FetchError::Layout(LayoutError::NotAFile { .. })), "{error:?}");
    fs::remove_file(&blob).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &blob, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = fixture.read(false, "").unwrap_err();
    assert!(matches!(error, FetchError::Layout(LayoutError::NotAFile { .. })), "{error:?}");
}

#[test]
fn what_is_no_tar_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = read_source(&format!("oci-archive:{}", path.display())).unwrap_err();
        let text = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        text.replace(&format!("{path:?}"), "PATH")
    };
    let marker = member("oci-layout", b"{}");
    let mut negative = header("x", b'0', 0);
    negative[124..136].copy_from_slice(&[0xff; 12]);
    seal(&mut negative);
    let mut huge = header("x", b'0', 0);
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    seal(&mut huge);
    let mut wrong = header("x", b'0', 0);
    wrong[0] = b'y';
    // A field of eight bytes in base 256 has seven for the number.
    let mut binary = header("x", b'0', 0);
    binary[148..156].copy_from_slice(&[0x80; 8]);
    let pax = |record: &[u8]| {
        [&header("x", b'x', record.len() as u64)[..], record, &[0; 512][record.len()..]].concat()
    };
    let cases: &[(&[u8], &str)] = &[
        (b"\x1f\x8b\x08", "PATH can't be decompressed: gzip stream is truncated after 3 bytes"),
        (b"BZh91", "PATH is compressed with bzip2, which is not supported; decompress it first"),
        (b"\xfd7zXZ\0", "PATH is compressed with xz, which is not supported; decompress it first"),
        (b"", "PATH is not an OCI layout: it has no oci-layout"),
        (&[0; 1024], "PATH is not an OCI layout: it has no oci-layout"),
        (b"text", "PATH is not a readable tar file: file ends inside the member at byte 0"),
        (&[b'x'; 512], "PATH is not a readable tar file: no tar header at byte 0"),
        (&wrong, "PATH is not a readable tar file: no tar header at byte 0"),
        (&binary, "PATH is not a readable tar file: no tar header at byte 0"),
        (&header("x", b'0', 1), "PATH is not a readable tar file: file ends inside the member at byte 0"),
        (&huge, "PATH is not a readable tar file: file ends inside the member at byte 0"),
        (&negative, "PATH is not a readable tar file: bad size in the tar header at byte 0"),
        (&[&marker[..], &marker].concat(), "PATH has oci-layout twice"),
        (&pax(b"9 path=x"), "PATH is not a readable tar file: bad extended header at byte 0"),
        (&pax(b"0 path=x\n"), "PATH is not a readable tar file: bad extended header at byte 0"),
        (
            &pax(b"99999999999999999999 path=x\n"),
            "PATH is not a readable tar file: bad extended header at byte 0",
        ),
        (&pax(b"11 size=-1\n"), "PATH is not a readable tar file: bad extended header at byte 0"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(error(bytes), *expected);
    }
    let many = header("x", b'0', 0).repeat(65_537);
    assert_eq!(error(&many), "PATH has more than 65536 members");
}

#[test]
fn extended_headers_name_and_measure_the_next_file_only() {
    let record = |key: &str, value: &str| {
        let rest = key.len() + value.len() + 3;
        let length = (1..4).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
        format!("{length} {key}={value}\n")
    };
    let records = record("path", "./blobs/sha256/long") + &record("size", "3") + &record("comment", "x");
    let mut tar = header("global", b'g', 0).to_vec();
    tar.extend(member("extended", records.as_bytes()));
    tar[512 + 156] = b'x';
    let mut extended = header("extended", b'x', records.len() as u64);
    tar[512..1024].copy_from_slice(&extended);
    extended = header("short", b'0', 0);
    tar.extend(extended);
    tar.extend([&b"abc"[..], &[0; 509]].concat());
    tar.extend(member("plain", b"de"));
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), &tar).unwrap();
    let members: Vec<_> = tar::members(path.as_file(), tar.len() as u64).map(Result::unwrap).collect();
    let expected = [("./blobs/sha256/long", 2048, 3), ("plain", 3072, 2)];
    let expected = expected.map(|(name, offset, size)| tar::Member {
        name: name.as_bytes().to_vec(),
        kind: tar::MemberKind::File,
        offset,
        size,
    });
    assert_eq!(members, expected);
}
