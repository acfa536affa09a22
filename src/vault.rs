//! Encryption of secrets at rest: XChaCha20-Poly1305 under a master key that lives outside the database.
//! Every ciphertext is bound to the row it belongs to; moved elsewhere it does not open.

use crate::domain::second_factor::TotpSecret;
use crate::domain::secret::{KeyDigest, KeySecret};
use crate::error::Error;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const MASTER_KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The opened master key.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
    cookie_key: [u8; 64],
    subjects: Hkdf<Sha256>,
}

impl Vault {
    /// Reads the master key file, or makes it (readable by its owner alone) when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or does not hold 64 hexadecimal digits.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        match create_key_file(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "master key made; keep a copy apart from the database")
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::Internal(format!(
                    "cannot make the master key {}: {error}",
                    path.display()
                )));
            }
        }
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |reason: &dyn std::fmt::Display| {
            Error::Internal(format!("cannot read the master key {}: {reason}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        let key = from_hex(text.trim()).ok_or_else(|| failed(&"it is not 64 hexadecimal digits"))?;
        Ok(Self::from_master_key(&key))
    }

    /// From the key itself. Each use gets a key of its own, derived by HKDF-SHA-256.
    pub fn from_master_key(master_key: &[u8; MASTER_KEY_BYTES]) -> Self {
        let derive = Hkdf::<Sha256>::new(None, master_key);
        let (mut secrets_key, mut cookie_key, mut subjects_key) = ([0; 32], [0; 64], [0; 32]);
        derive.expand(b"keyhouse secrets at rest", &mut secrets_key).expect("32 bytes is a valid length");
        derive.expand(b"keyhouse session cookie", &mut cookie_key).expect("64 bytes is a valid length");
        derive.expand(b"keyhouse subjects", &mut subjects_key).expect("32 bytes is a valid length");
        let subjects = Hkdf::from_prk(&subjects_key).expect("32 bytes is a valid length");
        Self { cipher: XChaCha20Poly1305::new(&secrets_key.into()), cookie_key, subjects }
    }

    /// The key that signs session cookies: the same on every instance that shares the master key.
    pub fn cookie_key(&self) -> &[u8; 64] {
        &self.cookie_key
    }

    /// A keyed hash of a name or an address, for tables that count what they must not tell: the same on every instance
    /// that shares the master key, and nothing to who does not have it.
    pub fn subject(&self, text: &str) -> [u8; 32] {
        let mut hash = [0; 32];
        // HKDF's expansion to one block is HMAC of the text.
        self.subjects.expand(text.as_bytes(), &mut hash).expect("32 bytes is a valid length");
        hash
    }

    /// Tells this master key from others, and nothing about it.
    pub fn fingerprint(&self) -> String {
        to_hex(&self.subject("master key")[..16])
    }

    /// The token of the link that makes the first admin: the same on every instance that shares the master key, and
    /// not to be guessed by who does not have it.
    pub fn setup_token(&self) -> String {
        to_hex(&self.subject("setup")[..16])
    }

    /// Encrypts the secret of a key of `user_id`.
    ///
    /// # Errors
    /// Never in practice; encryption fails only for texts of many gigabytes.
    pub fn seal_key(&self, user_id: i64, secret: &KeySecret) -> Result<Vec<u8>, Error> {
        self.seal(&key_row(user_id, &secret.digest()), secret.expose().as_bytes())
    }

    /// Decrypts the secret of a key of `user_id`, checking that it is the one with `digest`.
    ///
    /// # Errors
    /// When it was sealed for another row or under another master key, or was altered.
    pub fn open_key(&self, user_id: i64, digest: &KeyDigest, sealed: &[u8]) -> Result<KeySecret, Error> {
        let text = self.unseal(&key_row(user_id, digest), sealed)?;
        KeySecret::parse(&text).ok_or_else(|| Error::Internal("a stored key is not a key".into()))
    }

    /// Encrypts the secret of an upstream.
    ///
    /// # Errors
    /// As [`Vault::seal_key`].
    pub fn seal_upstream(&self, upstream_id: i64, secret: &str) -> Result<Vec<u8>, Error> {
        self.seal(&format!("upstreams/{upstream_id}"), secret.as_bytes())
    }

    /// Decrypts the secret of an upstream.
    ///
    /// # Errors
    /// As [`Vault::open_key`].
    pub fn open_upstream(&self, upstream_id: i64, sealed: &[u8]) -> Result<String, Error> {
        self.unseal(&format!("upstreams/{upstream_id}"), sealed)
    }

    /// Encrypts the secret that a user's authenticator app shares.
    ///
    /// # Errors
    /// As [`Vault::seal_key`].
    pub fn seal_second_factor(&self, user_id: i64, secret: &TotpSecret) -> Result<Vec<u8>, Error> {
        self.seal(&format!("second_factors/{user_id}"), secret.expose().as_bytes())
    }

    /// Decrypts the secret that a user's authenticator app shares.
    ///
    /// # Errors
    /// As [`Vault::open_key`].
    pub fn open_second_factor(&self, user_id: i64, sealed: &[u8]) -> Result<TotpSecret, Error> {
        let text = self.unseal(&format!("second_factors/{user_id}"), sealed)?;
        TotpSecret::parse(&text).ok_or_else(|| Error::Internal("a stored second factor is damaged".into()))
    }

    fn seal(&self, row: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: row.as_bytes() };
        let ciphertext = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Error::Internal("encryption failed".into()))?;
        Ok([&nonce[..], &ciphertext].concat())
    }

    fn unseal(&self, row: &str, sealed: &[u8]) -> Result<String, Error> {
        let broken =
            || Error::Internal("a stored secret does not open; is this the right master key?".into());
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(broken)?;
        let payload = Payload { msg: ciphertext, aad: row.as_bytes() };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| broken())?;
        String::from_utf8(plain).map_err(|_| broken())
    }
}

fn key_row(user_id: i64, digest: &KeyDigest) -> String {
    format!("api_keys/{user_id}/{}", to_hex(&digest.0))
}

/// Makes the file whole or not at all: written beside, then linked to its name unless that is taken.
fn create_key_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let key: [u8; MASTER_KEY_BYTES] = rand::random();
    let mut file = tempfile::NamedTempFile::new_in(folder)?; // mode 0600
    writeln!(file, "{}", to_hex(&key))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; MASTER_KEY_BYTES]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (digits.len() == MASTER_KEY_BYTES * 2).then(|| bytes.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_for_its_own_row_and_key() {
        let vault = Vault::from_master_key(&[7; 32]);
        let secret = KeySecret::generate();
        let sealed = vault.seal_key(1, &secret).expect("sealed");
        assert_eq!(vault.open_key(1, &secret.digest(), &sealed).ok(), Some(secret.clone()));
        assert!(vault.open_key(2, &secret.digest(), &sealed).is_err());
        assert!(Vault::from_master_key(&[8; 32]).open_key(1, &secret.digest(), &sealed).is_err());
        for broken in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[broken] ^= 1;
            assert!(vault.open_key(1, &secret.digest(), &altered).is_err());
        }
        assert!(vault.open_upstream(1, &[]).is_err());
        let secret = TotpSecret::generate();
        let sealed = vault.seal_second_factor(1, &secret).expect("sealed");
        let opened = vault.open_second_factor(1, &sealed).expect("opened");
        assert_eq!(opened.expose(), secret.expose());
        assert!(vault.open_second_factor(2, &sealed).is_err() && vault.open_upstream(1, &sealed).is_err());
    }

    #[test]
    fn a_subject_is_the_same_only_under_the_same_key() {
        let subject = |key: u8, text| Vault::from_master_key(&[key; 32]).subject(text);
        assert_eq!(subject(7, "account/ada"), subject(7, "account/ada"));
        assert_ne!(subject(7, "account/ada"), subject(8, "account/ada"));
        assert_ne!(subject(7, "account/ada"), subject(7, "account/bob"));
    }

    #[test]
    fn the_key_file_is_made_once_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        let first = Vault::open_or_create(&path).expect("made");
        let second = Vault::open_or_create(&path).expect("read");
        assert_eq!(first.cookie_key(), second.cookie_key());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "zz").expect("written");
        assert!(Vault::open_or_create(&path).is_err());
    }
}
