//! Secret keys under a passphrase: PBES2 in PKCS#8.
//!
//! Source: RFC 8018 (PBES2), RFC 7914 section 7 (scrypt in it), RFC 5958 (`EncryptedPrivateKeyInfo`).

use super::{ALGORITHM_ID, KeyError, SigningKey, seed_of};
use pkcs8::der::pem::{self, LineEnding};
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use pkcs8::pkcs5::{self, EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfo, PrivateKeyInfo, SecretDocument};
use zeroize::Zeroizing;

/// PEM label of an encrypted PKCS#8 key (RFC 7468 section 11).
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// The cost of a passphrase: scrypt with N = 2^14, r = 8, p = 5, which takes 16 MiB.
///
/// OpenSSL refuses what takes 32 MiB or more, so time is bought with p instead of memory.
const LOG_N: u8 = 14;
const BLOCK_SIZE: u32 = 8;
const PARALLELISM: u32 = 5;

/// Most memory and work that a key from elsewhere may ask for.
const MAX_MEMORY: u64 = 256 << 20;
const MAX_WORK: u64 = 1 << 24;
const MAX_ITERATIONS: u64 = 10_000_000;

/// Randomness that an encrypted key is written with; every writing needs its own.
#[derive(Debug)]
pub struct EncryptionSeed {
    /// The salt of scrypt.
    pub salt: [u8; 16],
    /// The initialisation vector of AES.
    pub iv: [u8; 16],
}

impl SigningKey {
    /// Says whether a text is a private key under a passphrase, whatever kind of key it is.
    pub fn is_encrypted(text: &str) -> bool {
        pem::decode_label(text.as_bytes()).is_ok_and(|label| label == LABEL)
    }

    /// Reads a key from encrypted PKCS#8 PEM text (`-----BEGIN ENCRYPTED PRIVATE KEY-----`).
    ///
    /// PBES2 with scrypt or PBKDF2-SHA-256 and AES-CBC is read, up to a cost of 256 MiB and some seconds.
    pub fn from_encrypted_pem(text: &str, passphrase: &str) -> Result<Self, KeyError> {
        let (label, document) =
            SecretDocument::from_pem(text).map_err(|error| KeyError::ReadPrivate(error.into()))?;
        if label != LABEL {
            return Err(KeyError::ReadPrivate(pkcs8::Error::KeyMalformed));
        }
        let sealed: EncryptedPrivateKeyInfo<'_> =
            document.decode_msg().map_err(|error| KeyError::Encryption(error.into()))?;
        check_cost(&sealed.encryption_algorithm)?;
        let opened = sealed.decrypt(passphrase).map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(
                pkcs5::Error::DecryptFailed | pkcs5::Error::EncryptFailed,
            )
            // Padding that happens to fit says nothing yet.
            | pkcs8::Error::Asn1(_) => KeyError::Passphrase,
            error => KeyError::Encryption(error),
        })?;
        seed_of(&opened).map(Self).map_err(|error| match error {
            pkcs8::Error::Asn1(_) => KeyError::Passphrase,
            error => KeyError::ReadPrivate(error),
        })
    }

    /// Returns the key as PKCS#8 PEM text under a passphrase, in a form that OpenSSL reads.
    pub fn to_encrypted_pem(
        &self,
        passphrase: &str,
        seed: &EncryptionSeed,
    ) -> Result<Zeroizing<String>, KeyError> {
        let invalid = |_| KeyError::Encryption(pkcs8::Error::ParametersMalformed);
        let cost = scrypt::Params::new(LOG_N, BLOCK_SIZE, PARALLELISM, 32).map_err(invalid)?;
        let octets = self.octets();
        Parameters::scrypt_aes256cbc(cost, &seed.salt, &seed.iv)
            .map_err(pkcs8::Error::EncryptedPrivateKey)
            .and_then(|parameters| {
                PrivateKeyInfo::new(ALGORITHM_ID, &*octets).encrypt_with_params(parameters, passphrase)
            })
            .and_then(|document| Ok(document.to_pem(LABEL, LineEnding::LF)?))
            .map_err(KeyError::WritePrivate)
    }
}

/// Refuses what would take memory or time out of proportion.
fn check_cost(scheme: &EncryptionScheme<'_>) -> Result<(), KeyError> {
    let within =
        |what, got: u64, max| if got <= max { Ok(()) } else { Err(KeyError::Cost { what, got, max }) };
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Scrypt(scrypt)) => {
            // The implementation counts on it; RFC 7914 section 6 has it so.
            let sound = scrypt.cost_parameter.is_power_of_two() && scrypt.cost_parameter > 1;
            if !sound || scrypt.block_size == 0 || scrypt.parallelization == 0 {
                return Err(KeyError::Encryption(pkcs8::Error::ParametersMalformed));
            }
            let block = scrypt.cost_parameter.saturating_mul(u64::from(scrypt.block_size));
            within("bytes of memory", block.saturating_mul(128), MAX_MEMORY)?;
            within("steps of scrypt", block.saturating_mul(u64::from(scrypt.parallelization)), MAX_WORK)
        }
        Some(Kdf::Pbkdf2(pbkdf2)) if pbkdf2.iteration_count == 0 => {
            Err(KeyError::Encryption(pkcs8::Error::ParametersMalformed))
        }
        Some(Kdf::Pbkdf2(pbkdf2)) => within("iterations", u64::from(pbkdf2.iteration_count), MAX_ITERATIONS),
        // What is not PBES2 is refused when it is used.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
