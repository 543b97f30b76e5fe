use super::*;
use crate::{Digest, Document};

fn index(entries: &[(&str, &str)]) -> Index {
    let entry = |(at, (media_type, platform)): (usize, &(&str, &str))| {
        let digest = Digest::of(&at.to_le_bytes());
        let mut parts = platform.split('/');
        let mut part = || parts.next().unwrap_or_default();
        let platform = match *platform {
            "" => String::new(),
            _ => format!(
                r#","platform":{{"os":"{}","architecture":"{}","variant":"{}","os.version":"1"}}"#,
                part(),
                part(),
                part()
            ),
        };
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1{platform}}}"#)
    };
    let entries: Vec<_> = entries.iter().enumerate().map(entry).collect();
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    match Document::parse(text.as_bytes(), None).unwrap() {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("an index was written"),
    }
}

const M: &str = "application/vnd.oci.image.manifest.v1+json";
const I: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn the_best_entry_is_chosen() {
    let many = [
        (M, "unknown/unknown"),
        (M, "windows/amd64"),
        (M, "linux/amd64/v3"),
        (M, "linux/amd64"),
        (M, "linux/amd64"),
        (M, "linux/arm64/v8"),
        (M, "linux/arm/v5"),
        (M, "linux/arm/v6"),
        (I, "linux/riscv64"),
    ];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Result<usize, &'a [&'a str]>);
    let available =
        ["linux/amd64", "linux/amd64/v3", "linux/arm/v5", "linux/arm/v6", "linux/arm64/v8", "windows/amd64"];
    let cases: &[Case<'_>] = &[
        (&many, "linux/amd64", Ok(3)),
        (&many, "linux/amd64/v2", Ok(3)),
        (&many, "linux/amd64/v4", Ok(2)),
        (&many, "linux/arm64", Ok(5)),
        (&many, "linux/arm", Ok(7)),
        (&many, "linux/arm/v5", Ok(6)),
        (&many, "linux/riscv64", Err(&available)),
        (&many, "linux/386", Err(&available)),
        (&[(M, "")], "linux/amd64", Ok(0)),
        (&[(M, ""), (M, "unknown/unknown")], "linux/amd64", Ok(0)),
        (&[(M, ""), (M, "")], "linux/amd64", Err(&[])),
        (&[(I, "")], "linux/amd64", Err(&[])),
        (&[], "linux/amd64", Err(&[])),
    ];
    for (entries, wanted, chosen) in cases {
        let index = index(entries);
        let wanted: Platform = wanted.parse().unwrap();
        let got = index.select(&wanted);
        let expected = match chosen {
            Ok(at) => Ok(&index.manifests()[*at]),
            Err(list) => Err(SelectError {
                wanted: wanted.clone(),
                available: list.iter().map(|text| text.parse().unwrap()).collect(),
                unusable: Vec::new(),
            }),
        };
        assert_eq!(got, expected, "{wanted}");
    }
}

#[test]
fn the_error_lists_what_there_is() {
    let error = index(&[(M, "linux/arm64"), (M, "linux/386")])
        .select(&Platform::new("linux", "amd64", None))
        .unwrap_err();
    assert_eq!(error.to_string(), "no image for platform linux/amd64; available: linux/386, linux/arm64");
    let error = index(&[]).select(&Platform::new("linux", "amd64", None)).unwrap_err();
    assert_eq!(error.to_string(), "no image for platform linux/amd64; available: none");
}

#[test]
fn an_entry_that_is_bad_leaves_the_others() {
    let good = Digest::of(b"good");
    let entry = |digest: &str, size: &str| {
        format!(
            r#"{{"mediaType":"{M}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"amd64"}}}}"#
        )
    };
    let good_text = good.to_string();
    let text = |entries: &[String]| format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
    let parse = |text: String| match Document::parse(text.as_bytes(), None).unwrap() {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("an index was written"),
    };
    let long = format!("sha512:{}", "0".repeat(128));
    let bad = [
        entry(&long, "1"),
        entry(&good_text, "-1"),
        "5".to_owned(),
        entry(&good_text, "9223372036854775808"),
    ];
    let wanted = Platform::new("linux", "amd64", None);
    let index = parse(text(&[bad.to_vec(), vec![entry(&good_text, "1")]].concat()));
    assert_eq!(index.select(&wanted).unwrap().digest, good);
    let unusable: Vec<String> = index.unusable().iter().map(Unusable::to_string).collect();
    assert_eq!(
        unusable,
        [
            "index entry 0 has a bad digest: digest algorithm \"sha512\" is not supported; expected sha256",
            "index entry 1 is not a valid descriptor: invalid value: integer `-1`, expected u64 at line 1 column 150",
            "index entry 2 is not a valid descriptor: invalid type: integer `5`, expected struct RawDescriptor at line 1 column 1",
            "index entry 3 has size 9223372036854775808, more than 9223372036854775807",
        ]
    );
    let error = parse(text(&bad[..1])).select(&wanted).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no image for platform linux/amd64; available: none; entries that can't be used: 1, the first: index entry 0 has \
         a bad digest: digest algorithm \"sha512\" is not supported; expected sha256"
    );
}
