//! Why paths are believed.

use super::*;

/// A path that `builtins.toFile` of Nix 2.8 made, signed with a key of a test: path, hash, content address, signature.
const HELLO: [&str; 4] = [
    "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt",
    "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=",
    "text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq",
    "test-1:onjNyKoEOG1Bw1bdD3ViPgSLnV9CACXZDFYWMmFfk93Iyn+DiEBw9NbjCFRgDlyoJ9MvsFfkolB29faptkn6Dg==",
];
const KEY: &str = "test-1:kw2LRcXyMkYqWcP+Qm0kIakJwPcpVWtl5uRgAssOjxY=";

/// A guest whose package is what Nix made.
fn with_hello(change: fn(&mut PathInfo)) -> Built {
    let hello: StorePath = HELLO[0].parse().unwrap();
    let mut document = document(&hello);
    document["shell"] = Value::Null;
    document["services"] = json!({});
    document["healthChecks"] = json!({});
    let mut built = with_document(&document, &hello);
    built.add(&hello, nar_of_file(b"hello\n"), &[]);
    let info = built.infos.get_mut(&hello).unwrap();
    assert_eq!(info.nar_hash.to_string(), HELLO[1], "as Nix has it");
    info.ca = Some(HELLO[2].parse().unwrap());
    info.signatures = vec![HELLO[3].parse().unwrap()];
    change(info);
    built
}

fn trust(fixture: &Fixture, mut built: Built) -> PathTrust {
    built.import(fixture).unwrap();
    let build = fixture.engine.inspect_image("web:1").unwrap().build.unwrap();
    build.paths.into_iter().find(|path| path.path.to_string() == HELLO[0]).unwrap().trust
}

fn trusting(keys: &str) -> Fixture {
    let fixture = fixture();
    let text = format!("[nix]\ntrusted-public-keys = [{keys}]\n");
    std::fs::write(fixture.path("store/settings.toml"), text).unwrap();
    fixture
}

#[test]
fn each_path_has_a_reason() {
    let key = format!("\"{KEY}\"");
    assert_eq!(trust(&trusting(""), with_hello(|_| ())), PathTrust::ContentAddressed);
    let signed = PathTrust::Signed { key: "test-1".to_owned() };
    assert_eq!(trust(&trusting(&key), with_hello(|info| info.ca = None)), signed);
    assert_eq!(trust(&trusting(""), with_hello(|info| info.ca = None)), PathTrust::Builder);
    let other = |info: &mut PathInfo| {
        info.ca = None;
        info.nar_size = 120;
        info.signatures = vec![HELLO[3].replacen("onj", "onk", 1).parse().unwrap()];
    };
    assert_eq!(trust(&trusting(&key), with_hello(other)), PathTrust::Builder);
    // What is not recomputed proves nothing.
    let unknown = |info: &mut PathInfo| {
        info.ca = Some("fixed:r:sha1:00xyyr3fi8l6hb839bv3f7yb86yjv7xi".parse().unwrap());
    };
    assert_eq!(trust(&trusting(""), with_hello(unknown)), PathTrust::Builder);
}

#[test]
fn who_says_that_a_name_follows_from_a_content_that_it_does_not_follow_from_lies() {
    let lies: [fn(&mut PathInfo); 3] = [
        |info| {
            info.ca =
                Some("text:sha256:18gh8j233979r0blaz24aikbwrjgj32sxpdzsydrk89lmg8q5107".parse().unwrap())
        },
        |info| {
            info.ca =
                Some("fixed:r:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq".parse().unwrap())
        },
        |info| {
            info.ca =
                Some("fixed:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq".parse().unwrap())
        },
    ];
    for lie in lies {
        let fixture = fixture();
        let error = with_hello(lie).import(&fixture).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error:?}");
        assert!(crate::chain(&error).contains("is said to be content-addressed"), "{error:?}");
        assert!(fixture.engine.images().unwrap().is_empty());
    }
    // The address is right, and the content another one: the name is.
    let mut built = with_hello(|_| ());
    let path: StorePath = HELLO[0].parse().unwrap();
    let ca = built.infos[&path].ca.clone();
    built.add(&path, nar_of_file(b"other\n"), &[]);
    built.infos.get_mut(&path).unwrap().ca = ca;
    let error = built.import(&fixture()).unwrap_err();
    assert!(crate::chain(&error).contains("is said to be content-addressed"), "{error:?}");
}
