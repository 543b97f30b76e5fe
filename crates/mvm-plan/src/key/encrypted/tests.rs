use super::*;
use crate::key::tests::{has_openssl, openssl, signing_key};

const SEED: EncryptionSeed = EncryptionSeed { salt: [3; 16], iv: [4; 16] };

fn opened(text: &str, passphrase: &str) -> Result<[u8; 32], String> {
    SigningKey::from_encrypted_pem(text, passphrase)
        .map(|key| *key.public_key().as_bytes())
        .map_err(|error| error.to_string())
}

#[test]
fn a_key_reads_back_under_its_passphrase_only() {
    let key = signing_key(5);
    let text = key.to_encrypted_pem("correct horse", &SEED).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert!(SigningKey::is_encrypted(&text) && !SigningKey::is_encrypted(&key.to_pem().unwrap()));
    assert_eq!(key.to_encrypted_pem("correct horse", &SEED).unwrap(), text, "the same seed, the same text");
    assert_eq!(opened(&text, "correct horse"), Ok(*key.public_key().as_bytes()));
    let wrong = Err("the passphrase is wrong, or the encrypted private key is damaged".to_owned());
    for passphrase in ["", "correct horse ", "Correct horse"] {
        assert_eq!(opened(&text, passphrase), wrong, "{passphrase:?}");
    }
    assert!(matches!(SigningKey::from_pem(&text), Err(KeyError::NeedsPassphrase)));
    let plain = key.to_pem().unwrap();
    assert!(matches!(SigningKey::from_encrypted_pem(&plain, "x"), Err(KeyError::ReadPrivate(_))));
    assert!(matches!(SigningKey::from_encrypted_pem("", "x"), Err(KeyError::ReadPrivate(_))));
}

/// The text of an encrypted key with other parameters of scrypt.
fn asking(cost: u64, block_size: u16, parallelization: u16) -> String {
    use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, ScryptParams};
    let kdf =
        ScryptParams { salt: &[1; 16], cost_parameter: cost, block_size, parallelization, key_length: None };
    let parameters = Parameters { kdf: kdf.into(), encryption: Cipher::Aes256Cbc { iv: &[2; 16] } };
    let sealed =
        EncryptedPrivateKeyInfo { encryption_algorithm: parameters.into(), encrypted_data: &[0; 48] };
    let document = SecretDocument::try_from(sealed).unwrap();
    document.to_pem(LABEL, LineEnding::LF).unwrap().to_string()
}

#[test]
fn what_costs_too_much_is_refused_before_it_is_tried() {
    let table = [
        (asking(1 << 40, 8, 1), "bytes of memory", 1 << 50, MAX_MEMORY),
        (asking(1 << 63, 65_535, 65_535), "bytes of memory", u64::MAX, MAX_MEMORY),
        (asking(1 << 14, 8, 65_535), "steps of scrypt", (1 << 17) * 65_535, MAX_WORK),
    ];
    for (text, expected, asked, most) in table {
        match SigningKey::from_encrypted_pem(&text, "x") {
            Err(KeyError::Cost { what, got, max }) => assert_eq!((what, got, max), (expected, asked, most)),
            other => panic!("{other:?}"),
        }
    }
    // Nonsense that costs nothing is refused too.
    for text in [asking(0, 8, 1), asking(3, 8, 1), asking(2, 0, 0)] {
        assert!(SigningKey::from_encrypted_pem(&text, "x").is_err());
    }
}

#[test]
fn openssl_reads_ours_and_we_read_its() {
    if !has_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let key = signing_key(6);
    std::fs::write(path.join("ours.pem"), &*key.to_encrypted_pem("pass", &SEED).unwrap()).unwrap();
    let public = openssl(path, &["pkey", "-in", "ours.pem", "-passin", "pass:pass", "-pubout"]);
    assert_eq!(String::from_utf8(public).unwrap(), key.public_key().to_pem().unwrap());

    std::fs::write(path.join("plain.pem"), &*key.to_pem().unwrap()).unwrap();
    let topk8 = ["pkcs8", "-topk8", "-in", "plain.pem", "-passout", "pass:pass"];
    let table: [(&[&str], bool); 5] = [
        (&[], true),
        (&["-scrypt"], true),
        (&["-v2", "aes-128-cbc", "-iter", "1000"], true),
        (&["-v2", "des3"], false),
        (&["-v1", "PBE-SHA1-3DES"], false),
    ];
    for (options, read) in table {
        let text = String::from_utf8(openssl(path, &[&topk8[..], options].concat())).unwrap();
        let got = SigningKey::from_encrypted_pem(&text, "pass");
        match got {
            Ok(got) => assert!(read && got.public_key() == key.public_key(), "{options:?}"),
            Err(KeyError::Encryption(_)) => assert!(!read, "{options:?}"),
            Err(error) => panic!("{options:?}: {error}"),
        }
    }
    // Another kind of key under a passphrase is told as such.
    let rsa = [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-aes256",
        "-pass",
        "pass:pass",
    ];
    let text = String::from_utf8(openssl(path, &rsa)).unwrap();
    assert!(matches!(SigningKey::from_encrypted_pem(&text, "pass"), Err(KeyError::ReadPrivate(_))));
}
