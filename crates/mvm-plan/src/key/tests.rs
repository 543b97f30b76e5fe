use super::*;
use std::path::Path;
use std::process::Command;

pub(crate) fn signing_key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32])
}

/// Whether `openssl` runs; says so if not.
pub(crate) fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: openssl is missing; install it with: apt-get install openssl");
    }
    found
}

pub(crate) fn openssl(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    // Section 7.1, tests 1, 2, 3 and that of the SHA-512 of "abc".
    let abc = hex::decode::<64>(concat!(
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a",
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    ))
    .unwrap();
    let table = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            &b""[..],
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
             d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            &b"\x72"[..],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
             387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            &b"\xaf\x82"[..],
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a\
             7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            &abc[..],
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303d\
             ca179c138ac17ad9bef1177331a704",
        ),
    ];
    for (seed, public, message, signature) in table {
        let key = SigningKey::from_seed(&hex::decode(seed).unwrap());
        assert_eq!(hex::encode(key.public_key().as_bytes()), public);
        assert_eq!(hex::encode(&key.sign(message)), signature);
        assert!(key.public_key().verifies(message, &key.sign(message)));
    }
}

#[test]
fn pem_is_that_of_rfc_8410() {
    // Section 10: the private keys of 10.3 (without and with its public half), the public key of 10.1.
    let private = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\n\
                  MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                  -----END PUBLIC KEY-----\n";
    let key = SigningKey::from_pem(private).unwrap();
    assert_eq!(key.to_pem().unwrap().as_str(), private);
    assert_eq!(key.public_key().to_pem().unwrap(), public);
    assert_eq!(PublicKey::from_pem(public).unwrap(), key.public_key());
    assert!(matches!(SigningKey::from_pem(public), Err(KeyError::ReadPrivate(_))));
    assert!(matches!(PublicKey::from_pem(private), Err(KeyError::ReadPublic(_))));
    assert!(matches!(SigningKey::from_pem(""), Err(KeyError::ReadPrivate(_))));
}

/// PKCS#8 PEM of the seed of ones, in the given DER parts.
fn pem(version: u8, algorithm: &[u8], octets: &[u8], public: Option<&[u8; 32]>) -> String {
    let mut body = vec![0x02, 0x01, version];
    body.extend_from_slice(algorithm);
    body.extend_from_slice(octets);
    if let Some(public) = public {
        body.extend_from_slice(&[0x81, 0x21, 0x00]);
        body.extend_from_slice(public);
    }
    let der = [vec![0x30, body.len() as u8], body].concat();
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

#[test]
fn private_keys_are_read_with_and_without_their_public_half() {
    let ed25519 = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
    let ed448 = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71];
    let parameters = [0x30, 0x07, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x05, 0x00];
    let octets = [&[0x04, 0x22, 0x04, 0x20][..], &[1; 32]].concat();
    let short = [&[0x04, 0x21, 0x04, 0x1f][..], &[1; 31]].concat();
    let long = [&[0x04, 0x23, 0x04, 0x20][..], &[1; 33]].concat();
    let key = signing_key(1);
    let (own, other) = (*key.public_key().as_bytes(), *signing_key(2).public_key().as_bytes());
    let table = [
        (pem(0, &ed25519, &octets, None), true),
        (pem(1, &ed25519, &octets, Some(&own)), true),
        (pem(1, &ed25519, &octets, Some(&other)), false),
        (pem(0, &ed448, &octets, None), false),
        (pem(0, &parameters, &octets, None), false),
        (pem(0, &ed25519, &short, None), false),
        (pem(0, &ed25519, &long, None), false),
        (pem(0, &ed25519, &octets, None).replace("PRIVATE", "ENCRYPTED PRIVATE"), false),
    ];
    for (text, expected) in table {
        let read = SigningKey::from_pem(&text).map(|key| key.public_key());
        assert_eq!(read.as_ref().ok(), expected.then(|| key.public_key()).as_ref(), "{text}");
    }
}

#[test]
fn a_secret_is_wiped_and_not_shown() {
    fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    let key = signing_key(7);
    wiped(&key.0);
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public_key().id()));
    let text = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let error = SigningKey::from_pem(text).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("AAAA"));
}

#[test]
fn public_keys_read_back_from_their_text() {
    let key = signing_key(1).public_key();
    let text = key.to_string();
    assert_eq!(text, "ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=");
    assert_eq!(text.parse::<PublicKey>().unwrap(), key);
    assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{text}\""));
    // The key ID is what `sha256sum` says of the 32 bytes.
    assert_eq!(key.id().to_string(), Digest::of(key.as_bytes()).hex());
    assert_eq!(key.id().to_string().parse::<KeyId>().unwrap(), key.id());
}

#[test]
fn other_texts_are_no_public_keys() {
    let refused = |text: &str| match text.parse::<PublicKey>() {
        Err(KeyError::Form(_)) => "form",
        Err(KeyError::Point(_)) => "point",
        Err(KeyError::Weak(_)) => "weak",
        other => panic!("{text}: {other:?}"),
    };
    let encoded = |bytes: [u8; 32]| format!("ed25519:{}", STANDARD.encode(bytes));
    let mut one = [0; 32];
    one[0] = 1;
    let mut two = [0; 32];
    two[0] = 2;
    let table = [
        (String::new(), "form"),
        ("iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=".to_owned(), "form"),
        ("ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w".to_owned(), "form"),
        ("ed25519:AAAA".to_owned(), "form"),
        (encoded(two), "point"),
        (encoded(one), "weak"),
        (encoded([0; 32]), "weak"),
    ];
    for (text, expected) in table {
        assert_eq!(refused(&text), expected, "{text}");
    }
    for text in ["", "00", &"A".repeat(64), &"0".repeat(63), &"ü".repeat(32)] {
        assert!(matches!(text.parse::<KeyId>(), Err(KeyError::Id(_))), "{text}");
    }
}

#[test]
fn a_signature_is_of_one_key_and_one_message() {
    let key = signing_key(1);
    let signature = key.sign(b"message");
    assert!(key.public_key().verifies(b"message", &signature));
    assert!(!key.public_key().verifies(b"massage", &signature));
    assert!(!signing_key(2).public_key().verifies(b"message", &signature));
    assert!(!key.public_key().verifies(b"message", &signature[..63]));
    assert!(!key.public_key().verifies(b"message", &[&signature[..], b"\0"].concat()));
    for position in 0..64 {
        for bit in 0..8 {
            let mut changed = signature;
            changed[position] ^= 1 << bit;
            assert!(!key.public_key().verifies(b"message", &changed), "byte {position}, bit {bit}");
        }
    }
}

#[test]
fn openssl_reads_our_keys_and_we_read_its() {
    if !has_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let ours = signing_key(3);
    std::fs::write(path.join("ours.pem"), ours.to_pem().unwrap().as_bytes()).unwrap();
    let public = openssl(path, &["pkey", "-in", "ours.pem", "-pubout"]);
    assert_eq!(String::from_utf8(public).unwrap(), ours.public_key().to_pem().unwrap());

    let theirs = String::from_utf8(openssl(path, &["genpkey", "-algorithm", "ed25519"])).unwrap();
    let key = SigningKey::from_pem(&theirs).unwrap();
    assert_eq!(key.to_pem().unwrap().as_str(), theirs);
}
