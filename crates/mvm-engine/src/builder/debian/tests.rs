use super::apt::{Download, mirror_of, parse};
use super::deb::merged;
use super::*;
use mvm_ref::Digest;
use std::io::Write as _;

#[test]
fn what_apt_lists() {
    let hex = "ab".repeat(32);
    let line = format!(
        "'https://deb.example/pool/n/nix/nix-bin_1%3a2.26.3+dfsg-1_amd64.deb' nix-bin_1%3a2.26.3+dfsg-1_amd64.deb 3563492 SHA256:{hex}"
    );
    let expected = Download {
        package: DebianPackage {
            package: "nix-bin".to_owned(),
            version: "1:2.26.3+dfsg-1".to_owned(),
            architecture: "amd64".to_owned(),
            digest: Digest::from_sha256([0xab; 32]),
        },
        file: "nix-bin_1%3a2.26.3+dfsg-1_amd64.deb".to_owned(),
        size: 3_563_492,
    };
    assert_eq!(parse(&format!("{line}\n")).unwrap(), [expected]);
    for (from, to) in [
        ("SHA256:ab", "MD5Sum:ab"),
        (" nix-bin_", " ../nix-bin_"),
        ("_amd64.deb 35", "_amd64.rpm 35"),
        (" 3563492 ", " many "),
    ] {
        let line = line.replace(from, to);
        assert!(matches!(parse(&line), Err(AptError::Line(got)) if got == line), "{line}");
    }
}

#[test]
fn the_mirror_is_that_of_the_release_itself() {
    let listed = "Node Source nodistro https://node.example/\n\
                  Debian bookworm-updates https://deb.example/updates/\n\
                  Debian-Security bookworm-security https://deb.example/security/\n\
                  Debian bookworm https://deb.example/debian/\n";
    assert_eq!(mirror_of(listed).as_deref(), Some("https://deb.example/debian/"));
    assert_eq!(mirror_of("Ubuntu noble http://archive.example/ubuntu/\n"), None);
    assert_eq!(mirror_of("Debian bookworm [trusted=yes]\n"), None);
}

#[test]
fn paths_lead_into_usr() {
    for (path, expected) in [
        ("./", None),
        (".", None),
        ("./bin/sh", Some("usr/bin/sh")),
        ("./lib64/ld.so", Some("usr/lib64/ld.so")),
        ("./usr/bin/nix", Some("usr/bin/nix")),
        ("./binary", Some("binary")),
        ("./etc/", Some("etc")),
    ] {
        assert_eq!(merged(path).as_deref(), expected, "{path}");
    }
    for (name, expected) in [("perl", true), ("perl-base", false), ("libperl5.40", true), ("git", false)] {
        assert_eq!(is_left_out(name), expected, "{name}");
    }
}

/// Makes a package of these files, a program that is linked to twice, and a manual.
fn package(member: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    let header = |kind, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_mtime(7);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size as u64);
        header
    };
    for (path, text) in files {
        data.append_data(&mut header(tar::EntryType::Regular, text.len()), path, text.as_bytes()).unwrap();
    }
    data.append_link(&mut header(tar::EntryType::Link, 0), "./bin/second", "./bin/first").unwrap();
    data.append_link(&mut header(tar::EntryType::Symlink, 0), "./bin/third", "first").unwrap();
    let data = data.into_inner().unwrap();
    let mut package = ar::Builder::new(Vec::new());
    for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", b""), (member, &data[..])] {
        package.append(&ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64), bytes).unwrap();
    }
    package.into_inner().unwrap()
}

fn layer(package: &[u8], expected: Digest) -> Result<(Vec<String>, Base), DebError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(package).unwrap();
    let (mut out, mut base) = (Vec::new(), Base::default());
    deb::to_layer(file.path(), expected, &mut out, &mut base)?;
    let mut archive = tar::Archive::new(&out[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        match entry.link_name().unwrap() {
            Some(target) => format!("{path} -> {}", target.display()),
            None => format!("{path} {} {:o}", entry.size(), entry.header().mode().unwrap()),
        }
    });
    Ok((entries.collect(), base))
}

#[test]
fn a_package_becomes_a_layer() {
    let files = [
        ("./bin/first", "program"),
        ("./usr/share/doc/first/README", "read me"),
        ("./usr/share/ca-certificates/mozilla/B.crt", "b\n"),
        ("./usr/share/ca-certificates/mozilla/A.crt", "a\n"),
    ];
    let made = package("data.tar", &files);
    let (entries, base) = layer(&made, Digest::of(&made)).unwrap();
    assert_eq!(
        entries,
        [
            "usr/bin/first 7 755",
            "usr/share/ca-certificates/mozilla/B.crt 2 755",
            "usr/share/ca-certificates/mozilla/A.crt 2 755",
            "usr/bin/second -> usr/bin/first",
            "usr/bin/third -> first",
        ]
    );
    let mut out = Vec::new();
    base.write(DebianRelease::Bookworm, &mut out).unwrap();
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains("a\nb\n"), "the authorities are joined in the order of their names");
    assert!(text.contains("extra-sandbox-paths"));
}

#[test]
fn what_is_no_package_of_the_index_is_refused() {
    let made = package("data.tar", &[]);
    let other = layer(&made, Digest::of(b"other"));
    assert!(matches!(other, Err(DebError::Digest { .. })), "{other:?}");
    let made = package("data.tar.zst", &[]);
    let packed = layer(&made, Digest::of(&made));
    assert!(matches!(packed, Err(DebError::Packing { .. })), "{packed:?}");
    let made = package("other.tar", &[]);
    let empty = layer(&made, Digest::of(&made));
    assert!(matches!(empty, Err(DebError::NoData { .. })), "{empty:?}");
}
