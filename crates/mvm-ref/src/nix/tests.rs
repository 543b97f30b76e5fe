use super::*;
use crate::Digest;
use std::collections::BTreeSet;

/// What Nix 2.8 and 2.26 print of two files that evaluation wrote, a source tree and a file that was added flat; signed.
const INFO_28: &str = r#"[{"path":"/nix/store/f8sqnmfz24rajdf76k2q64hfpsaxwsyl-flat","narHash":"sha256-LKC4zplvhl2zdhm/6RAjVZMFqtgVgEL8bdsO8dQ8W2c=","narSize":120,"references":[],"ca":"fixed:sha256:10a83a91g1r50bdw8g4hn47m7j7m6angpabwc80l9c16nx11cw9d","registrationTime":1795217855,"signatures":["test-1:4yoLzDPKu8SI+Kp3fRxD2N3ySbHmj35N1tHTc0yNrB+IdwkydKRgkPjNyP8dN39J6x0b3ep42DGSTv0jipDFDQ=="]},{"path":"/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt","narHash":"sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=","narSize":120,"references":[],"ca":"text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq","registrationTime":1795217855,"signatures":["test-1:onjNyKoEOG1Bw1bdD3ViPgSLnV9CACXZDFYWMmFfk93Iyn+DiEBw9NbjCFRgDlyoJ9MvsFfkolB29faptkn6Dg=="]},{"path":"/nix/store/qbbwzgr8mgxz8x78g4a6cbyvvdzzv4sy-two.txt","narHash":"sha256-tm7kWKe5KcgfFJR3pS/uzG9zdgMgiSx10iRvENZ5ABA=","narSize":176,"references":["/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt"],"ca":"text:sha256:18gh8j233979r0blaz24aikbwrjgj32sxpdzsydrk89lmg8q5107","registrationTime":1795217855,"signatures":["test-1:dbfeMGCHWhUsL/4LnvPA38IHa5LrdDq/k8moFTvAf86S7M5jufgIP/NcTsGP05Vo8cnoaVMSVsD2dpmEjKdeAQ=="]},{"path":"/nix/store/y2dhwsd1jm5nsyz7dsplfxpz5cf9l8av-source","narHash":"sha256-XkoTJ7//t7BEovtqGqEdT4wihw4AIAJppu4J3BdvB58=","narSize":872,"references":[],"ca":"fixed:r:sha256:17q7dwbxq2gflrlh48001s3j532g3nhilspvl92b1dzzpwki6jjy","registrationTime":1795217855,"signatures":["test-1:kVKuCO3d7e9dWDskZxuKZSUpM7U1vKTEbgW0lLw2vH5qbw++ivWL9p47hNYUtlxck4Qn+SnEgyq+K9TuZ23WCw=="]}]"#;
const INFO_226: &str = r#"{"/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt":{"ca":"text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq","deriver":null,"narHash":"sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=","narSize":120,"references":[],"registrationTime":1795217855,"signatures":["test-1:onjNyKoEOG1Bw1bdD3ViPgSLnV9CACXZDFYWMmFfk93Iyn+DiEBw9NbjCFRgDlyoJ9MvsFfkolB29faptkn6Dg=="],"ultimate":false},"/nix/store/qbbwzgr8mgxz8x78g4a6cbyvvdzzv4sy-two.txt":{"ca":"text:sha256:18gh8j233979r0blaz24aikbwrjgj32sxpdzsydrk89lmg8q5107","deriver":null,"narHash":"sha256-tm7kWKe5KcgfFJR3pS/uzG9zdgMgiSx10iRvENZ5ABA=","narSize":176,"references":["/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt"],"registrationTime":1795217855,"signatures":["test-1:dbfeMGCHWhUsL/4LnvPA38IHa5LrdDq/k8moFTvAf86S7M5jufgIP/NcTsGP05Vo8cnoaVMSVsD2dpmEjKdeAQ=="],"ultimate":false}}"#;
const KEY: &str = "test-1:kw2LRcXyMkYqWcP+Qm0kIakJwPcpVWtl5uRgAssOjxY=";

fn closure() -> Closure {
    Closure::parse(INFO_28.as_bytes()).unwrap()
}

fn path(text: &str) -> StorePath {
    text.parse().unwrap()
}

#[test]
fn both_shapes_are_read() {
    let (old, new) = (closure(), Closure::parse(INFO_226.as_bytes()).unwrap());
    assert_eq!((old.paths().len(), old.nar_size()), (4, 120 + 120 + 176 + 872));
    assert_eq!(new.paths().len(), 2);
    for info in new.paths() {
        assert_eq!(old.get(&info.path), Some(info));
    }
    let two = path("/nix/store/qbbwzgr8mgxz8x78g4a6cbyvvdzzv4sy-two.txt");
    assert_eq!(
        old.get(&two).unwrap().references,
        BTreeSet::from([path("/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt")])
    );
    new.check_output(&two).unwrap();
    assert!(matches!(old.check_output(&two), Err(ClosureError::Unreachable { .. })));
    let other = path("/nix/store/00000000000000000000000000000000-x");
    assert!(matches!(old.check_output(&other), Err(ClosureError::NoOutput(path)) if path == other));
}

#[test]
fn names_follow_from_contents() {
    for info in closure().paths() {
        let ca = info.ca.as_ref().unwrap();
        assert_eq!(ca.to_string().parse::<ContentAddress>().as_ref(), Ok(ca));
        let content = ca.content_of(&info.path, &info.references).unwrap();
        let expected = match info.path.name() {
            "hello.txt" => ContentHash::File(Digest::of(b"hello\n")),
            "two.txt" => {
                ContentHash::File(Digest::of(b"see /nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt\n"))
            }
            "flat" => ContentHash::File(Digest::of(b"x")),
            _ => ContentHash::Nar(info.nar_hash),
        };
        assert_eq!(content, expected, "{:?}", info.path);
        // Another name, other references and another hash have other digits.
        let renamed = path(&format!("/nix/store/{}-other", info.path.hash_part()));
        assert_eq!(ca.content_of(&renamed, &info.references), None);
        let itself = BTreeSet::from([info.path.clone()]);
        assert_eq!(ca.content_of(&info.path, &itself), None);
        let others = BTreeSet::from([renamed]);
        assert_eq!(ca.content_of(&info.path, &others), None);
        let changed = match ca {
            ContentAddress::Text(_) => ContentAddress::Text(Digest::of(b"other").into()),
            ContentAddress::Flat(_) => ContentAddress::Flat(Digest::of(b"other").into()),
            _ => ContentAddress::Recursive(Digest::of(b"other").into()),
        };
        assert_eq!(changed.content_of(&info.path, &info.references), None);
    }
    let sha1 = "fixed:r:sha1:00xyyr3fi8l6hb839bv3f7yb86yjv7xi";
    assert_eq!(sha1.parse(), Ok(ContentAddress::Other(sha1.to_owned())));
    for bad in ["", "text:", "text:md5:00", "fixed:sha256:00", "sha256:00", "fixed:r:sha256:zz"] {
        assert!(bad.parse::<ContentAddress>().is_err(), "{bad}");
    }
}

#[test]
fn signatures_hold_for_what_was_signed() {
    let keys: Vec<NixPublicKey> = vec![KEY.parse().unwrap()];
    assert_eq!(keys[0].to_string(), KEY);
    for info in closure().paths() {
        assert_eq!(verify_signature(info, &keys), Some(&keys[0]));
        let changes: [fn(&mut PathInfo); 6] = [
            |info| info.nar_size += 1,
            |info| info.nar_hash = Digest::of(b"other").into(),
            |info| info.path = "/nix/store/00000000000000000000000000000000-x".parse().unwrap(),
            |info| info.references = BTreeSet::from([info.path.clone()]),
            |info| info.signatures.clear(),
            |info| {
                let renamed = info.signatures[0].to_string().replacen("test-1", "test-2", 1);
                info.signatures = vec![renamed.parse().unwrap()];
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = info.clone();
            change(&mut changed);
            assert_eq!(verify_signature(&changed, &keys), None, "{index}");
        }
        let renamed = vec![KEY.replacen("test-1", "test-2", 1).parse().unwrap()];
        assert_eq!(verify_signature(info, &renamed), None);
    }
    for bad in ["", "x", "x:", ":kw2LRcXyMkYqWcP+Qm0kIakJwPcpVWtl5uRgAssOjxY=", "a b:AAAA", "x:AAAA"] {
        assert!(bad.parse::<NixPublicKey>().is_err(), "{bad}");
        assert!(bad.parse::<NixSignature>().is_err(), "{bad}");
    }
}

#[test]
fn store_paths() {
    let base = "qa1w9gdfrba6jl2r57mb3c43863gqywp";
    for name in ["x", "a-b.c_d+e?f=g", ".x", "..x", "x.", &"x".repeat(211)] {
        let text = format!("/nix/store/{base}-{name}");
        let parsed = path(&text);
        assert_eq!((parsed.to_string(), parsed.name(), parsed.hash_part()), (text.clone(), name, base));
        assert_eq!(parsed.relative(), text[1..]);
        assert_eq!(StorePath::split(&format!("{text}/bin/sh")), Ok((parsed, "/bin/sh")));
    }
    for name in ["", ".", "..", ".-x", "..-x", "a/b", "a b", "ä", "x\0", &"x".repeat(212)] {
        assert!(format!("/nix/store/{base}-{name}").parse::<StorePath>().is_err(), "{name:?}");
    }
    let short = &base[1..];
    for bad in [
        "",
        "/nix/store",
        "/nix/store/",
        &format!("/gnu/store/{base}-x"),
        &format!("nix/store/{base}-x"),
        &format!("/nix/store/{base}"),
        &format!("/nix/store/{base}x"),
        &format!("/nix/store/{short}-x"),
        // No digits of Nix's base 32.
        &format!("/nix/store/e{short}-x"),
        &format!("/nix/store/Q{short}-x"),
        &format!("/nix/store/{base}-x/"),
    ] {
        assert!(bad.parse::<StorePath>().is_err(), "{bad}");
    }
}

#[test]
fn hashes_have_three_spellings() {
    let digest = Digest::of(b"hello\n");
    let hash = NarHash::from(digest);
    let spellings =
        [hash.to_string(), hash.base32(), digest.to_string()].map(|text| text.parse::<NarHash>().unwrap());
    assert_eq!(spellings, [hash; 3]);
    assert_eq!(hash.base32(), "sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq");
    // The first digit has one bit of 256 left.
    let over = hash.base32().replacen("sha256:0", "sha256:2", 1);
    for bad in ["", "sha256-", "sha256-AAAA", "sha512-AAAA", "sha256:00", "sha1:00", &over] {
        assert!(bad.parse::<NarHash>().is_err(), "{bad}");
    }
}

#[test]
fn what_is_no_closure() {
    let a = "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-a";
    let b = "/nix/store/qbbwzgr8mgxz8x78g4a6cbyvvdzzv4sy-b";
    let hash = NarHash::from(Digest::of(b""));
    let one = |path: &str, references: &str| {
        format!(r#"{{"path":"{path}","narHash":"{hash}","narSize":8,"references":[{references}]}}"#)
    };
    let cases = [
        (format!("[{}]", one(a, &format!("\"{b}\""))), "is not closed"),
        (format!("[{},{}]", one(a, ""), one(a, "")), "twice"),
        (format!(r#"[{{"path":"{a}","valid":false}}]"#), "is not in the builder's store"),
        (format!(r#"{{"{a}":null}}"#), "is not in the builder's store"),
        (format!("[{}]", one("/etc/passwd", "")), "is not a path directly in"),
        (format!("[{}]", one(a, "\"/etc/passwd\"")), "a reference of"),
        (format!(r#"[{{"path":"{a}","narHash":"sha1-x","narSize":8}}]"#), "the hash of"),
        (r#"[{"narHash":"x"}]"#.to_owned(), "is not what nix path-info --json prints"),
        (format!(r#"[{{"path":"{a}","narHash":"{hash}","narSize":-1}}]"#), "is not what nix"),
        (
            format!("[{},{}]", one(a, ""), one(b, "")).replace(":8,", &format!(":{},", u64::MAX / 2)),
            "add up to more",
        ),
        ("[".repeat(200), "nests deeper"),
        ("7".to_owned(), "is not what nix"),
    ];
    for (text, words) in cases {
        let error = Closure::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert_eq!(Closure::parse(b"[]").unwrap().paths().len(), 0);
}

#[test]
fn two_paths_with_one_nar_are_two_segments() {
    let hash = NarHash::from(Digest::of(b"nar"));
    let key = |path: &str| segment_key(&path.parse().unwrap(), &hash);
    let a = "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-a";
    let text = format!("mvm store path\n{a}\n{}\n", Digest::of(b"nar"));
    assert_eq!(key(a), Digest::of(text.as_bytes()));
    assert_ne!(key(a), key("/nix/store/qbbwzgr8mgxz8x78g4a6cbyvvdzzv4sy-a"));
}
