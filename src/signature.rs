//! Signatures (ed25519) on the messages of the shared topics.
//!
//! A message carries its signature in a header. It covers topic, key, value and the headers of a
//! part of a bundle, so that none of them can be exchanged. It does not say when: whoever may write
//! the topic can send a signed message once more.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, de};

use crate::failure::{Failure, FailureClass};

/// What precedes the 32 bytes of a public key in DER: the algorithm (RFC 8410).
const PUBLIC_PREFIX: &[u8] = &[48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];
/// The same of the 32 bytes of a private key in PKCS #8.
const PRIVATE_PREFIX: &[u8] = &[48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

/// The header of a signature.
pub const SIGNATURE_HEADER: &str = "outlierd-signature";

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(
        "share.signing_key = {path:?} cannot be read: {source}; correct the path, or allow outlierd to read the file"
    )]
    Read {
        /// `share.signing_key`.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It has no such key.
    #[error(
        "share.signing_key = {0:?} has no ed25519 private key in PEM; make one with: openssl genpkey -algorithm ed25519 -out FILE"
    )]
    Format(PathBuf),
    /// Its own messages would be refused.
    #[error(
        "share.trusted_keys does not have the public key of share.signing_key, which is {public:?}: every instance would refuse what this one publishes; add it"
    )]
    NotTrusted {
        /// The public key, as `share.trusted_keys` has it.
        public: String,
    },
}

impl Failure for KeyError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Read { source, .. } => source.class(),
            Self::Format(_) | Self::NotTrusted { .. } => FailureClass::USER,
        }
    }
}

/// A message of a shared topic is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// It has no signature.
    Unsigned,
    /// Its signature is not one of a trusted key, or of other content.
    InvalidSignature,
}

impl_as_str!(Refusal);

/// The content of a message, as far as a signature covers it.
#[derive(Clone, Copy)]
pub struct SignedContent<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The key.
    pub key: &'a str,
    /// The value; `None` removes the message of the key.
    pub value: Option<&'a [u8]>,
    /// Values of the headers that say which bundle a part belongs to.
    pub headers: [&'a str; 2],
}

impl SignedContent<'_> {
    /// Its hash. Each part is preceded by its length: bytes cannot move from one to the next.
    fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("outlierd 2026 shared message");
        let headers = self.headers.map(str::as_bytes);
        let parts = [self.topic.as_bytes(), self.key.as_bytes()];
        for part in parts.into_iter().chain(headers).chain(self.value) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

/// A public key, as `openssl pkey -pubout` prints it between its two lines.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key.
    ///
    /// # Errors
    /// What it must be, in words that follow the key.
    pub fn read(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text.trim()).unwrap_or_default();
        let key = bytes.strip_prefix(PUBLIC_PREFIX).and_then(|key| {
            let key: &[u8; 32] = key.try_into().ok()?;
            VerifyingKey::from_bytes(key).ok()
        });
        key.map(Self).ok_or_else(|| {
            "must be an ed25519 public key: the line that `openssl pkey -in FILE -pubout` prints between BEGIN and END".to_owned()
        })
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let der = [PUBLIC_PREFIX, self.0.as_bytes()].concat();
        f.write_str(&STANDARD.encode(der))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys of an instance: what it signs with, and whose messages it accepts.
#[derive(Default)]
pub struct SharingKeys {
    signing: Option<SigningKey>,
    /// Empty: every message is accepted.
    trusted: Vec<PublicKey>,
}

impl SharingKeys {
    /// Reads the private key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(signing: Option<&Path>, trusted: &[PublicKey]) -> Result<Self, KeyError> {
        let signing = signing.map(private_key).transpose()?;
        let public = signing.as_ref().map(|key| PublicKey(key.verifying_key()));
        match public.filter(|public| !trusted.is_empty() && !trusted.contains(public)) {
            Some(public) => Err(KeyError::NotTrusted {
                public: public.to_string(),
            }),
            None => Ok(Self {
                signing,
                trusted: trusted.to_vec(),
            }),
        }
    }

    /// The signature of a message in Base64, the value of its header; `None` without a private key.
    pub fn sign(&self, content: &SignedContent<'_>) -> Option<String> {
        let key = self.signing.as_ref()?;
        Some(STANDARD.encode(key.sign(&content.hash()).to_bytes()))
    }

    /// Whether a message is accepted.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(
        &self,
        content: &SignedContent<'_>,
        signature: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        if self.trusted.is_empty() {
            return Ok(());
        }
        let signature = signature.ok_or(Refusal::Unsigned)?;
        let bytes = STANDARD.decode(signature).unwrap_or_default();
        let signature = Signature::from_slice(&bytes).map_err(|_| Refusal::InvalidSignature)?;
        let hash = content.hash();
        let is_of = |key: &PublicKey| key.0.verify_strict(&hash, &signature).is_ok();
        match self.trusted.iter().any(is_of) {
            true => Ok(()),
            false => Err(Refusal::InvalidSignature),
        }
    }
}

fn private_key(path: &Path) -> Result<SigningKey, KeyError> {
    let text = fs::read_to_string(path).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })?;
    let lines = text.lines().map(str::trim);
    let body: String = lines.filter(|line| !line.starts_with("-----")).collect();
    let bytes = STANDARD.decode(body).unwrap_or_default();
    let key = bytes.strip_prefix(PRIVATE_PREFIX);
    let key: Option<[u8; 32]> = key.and_then(|key| key.try_into().ok());
    key.map(|key| SigningKey::from_bytes(&key))
        .ok_or_else(|| KeyError::Format(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEIFNsc1vkxnCQw0g4c7Yzncl1HmLAlZ6/qdPEVh2kFLxu";
    const PUBLIC: &str = "MCowBQYDK2VwAyEAzQNbSpya/EnvwqlKBr/7UKwlCoS5oXyEYOqM4v0u4is=";

    const CONTENT: SignedContent<'_> = SignedContent {
        topic: "outlierd.control",
        key: "live/pumps",
        value: Some(b"{}"),
        headers: ["", ""],
    };

    fn keys(trusted: &[PublicKey]) -> Result<SharingKeys, KeyError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(
            &path,
            format!("-----BEGIN PRIVATE KEY-----\n{PRIVATE}\n-----END PRIVATE KEY-----\n"),
        )
        .unwrap();
        SharingKeys::load(Some(&path), trusted)
    }

    #[test]
    fn the_keys_of_openssl_sign_and_verify() {
        let public = PublicKey::read(PUBLIC).unwrap();
        assert_eq!(public.to_string(), PUBLIC);
        let keys = keys(&[public]).unwrap();
        let signature = keys.sign(&CONTENT).unwrap();
        assert_eq!(keys.verify(&CONTENT, Some(signature.as_bytes())), Ok(()));
        assert_eq!(keys.verify(&CONTENT, None), Err(Refusal::Unsigned));
        let refused = Err(Refusal::InvalidSignature);
        assert_eq!(keys.verify(&CONTENT, Some(b"short")), refused);
        let damaged = signature.replacen(|c: char| c.is_ascii_lowercase(), "A", 1);
        assert_ne!(damaged, signature);
        assert_eq!(keys.verify(&CONTENT, Some(damaged.as_bytes())), refused);
    }

    #[test]
    fn a_signature_covers_every_part_of_a_message() {
        let keys = keys(&[PublicKey::read(PUBLIC).unwrap()]).unwrap();
        let signature = keys.sign(&CONTENT).unwrap();
        for other in [
            SignedContent {
                topic: "outlierd.bundles",
                ..CONTENT
            },
            SignedContent {
                key: "live/pump",
                ..CONTENT
            },
            SignedContent {
                value: Some(b"{ }"),
                ..CONTENT
            },
            SignedContent {
                value: None,
                ..CONTENT
            },
            SignedContent {
                value: Some(b""),
                ..CONTENT
            },
            SignedContent {
                headers: ["a", ""],
                ..CONTENT
            },
            SignedContent {
                headers: ["", "a"],
                ..CONTENT
            },
        ] {
            let verified = keys.verify(&other, Some(signature.as_bytes()));
            assert_eq!(verified, Err(Refusal::InvalidSignature));
        }
    }

    #[test]
    fn without_trusted_keys_every_message_is_accepted() {
        let keys = keys(&[]).unwrap();
        assert!(keys.sign(&CONTENT).is_some());
        assert_eq!(keys.verify(&CONTENT, None), Ok(()));
    }

    #[test]
    fn a_key_that_no_one_trusts_is_refused_with_its_public_key() {
        let other = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let error = keys(&[PublicKey(other)]).err().unwrap();
        assert!(error.to_string().contains(PUBLIC), "{error}");
        let missing = SharingKeys::load(Some(Path::new("/none")), &[]);
        assert!(matches!(missing, Err(KeyError::Read { .. })));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "no key").unwrap();
        let malformed = SharingKeys::load(Some(&path), &[]);
        assert!(matches!(malformed, Err(KeyError::Format(_))));
        assert!(PublicKey::read("AAAA").is_err());
    }
}
