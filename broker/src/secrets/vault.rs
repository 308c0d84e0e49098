//! The key that secrets are sealed with, and sealing.
//!
//! Each value is sealed by AES-256-GCM (NIST SP 800-38D) under a nonce of its own, together with the names of its namespace and
//! of itself, so that no row can take the place of another.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::store::sync_directory;

const KEY_LEN: usize = 32;
/// The name of a key: enough to tell two of them apart, and nothing of the key.
const KEY_ID_LEN: usize = 8;

/// A value that nobody reads without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Which key it was sealed with.
    pub key_id: [u8; KEY_ID_LEN],
    /// What makes it differ from every other one, also of the same value.
    pub nonce: [u8; NONCE_LEN],
    /// The value and its tag.
    pub bytes: Bytes,
}

/// The key cannot be had, or is not the one.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file cannot be read or made.
    #[error("failed to use the key of secrets at `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has something else.
    #[error(
        "`{}` holds no key of secrets: it has to be 64 hexadecimal digits, as `openssl rand -hex 32` prints them", .0.display()
    )]
    NoKey(PathBuf),
    /// It was sealed with another key.
    #[error(
        "secret `{name}` was sealed with the key {sealed_with}, and `{}` holds the key {held}: put the key back, or set the secret again", .path.display()
    )]
    OtherKey {
        /// The secret.
        name: String,
        /// The name of the key that it needs.
        sealed_with: String,
        /// The name of the key that there is.
        held: String,
        /// Where that is.
        path: PathBuf,
    },
    /// What is on disk is not what was sealed, or not for there.
    #[error("secret `{name}` is damaged on disk: set it again")]
    Damaged {
        /// The secret.
        name: String,
    },
    /// The operating system gives no randomness.
    #[error("failed to get random bytes")]
    Random,
}

/// Seals and opens. The key is read when it is first needed, and made when there is none.
pub struct Vault {
    path: PathBuf,
    random: SystemRandom,
    key: Mutex<Option<Key>>,
}

struct Key {
    key: LessSafeKey,
    id: [u8; KEY_ID_LEN],
}

impl Vault {
    /// With the key in this file: 64 hexadecimal digits.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            random: SystemRandom::new(),
            key: Mutex::default(),
        }
    }

    /// Seals a value. The key is on disk when it returns. Blocks.
    ///
    /// # Errors
    /// [`VaultError`] if there is no key and none can be made.
    pub fn seal(&self, namespace: &str, name: &str, value: &[u8]) -> Result<Sealed, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| VaultError::Random)?;
        self.with_key(Self::read_or_make, |key| {
            let mut bytes = value.to_vec();
            key.key
                .seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    place(namespace, name),
                    &mut bytes,
                )
                // It fails for more than 64 GiB only.
                .map_err(|_| VaultError::Damaged { name: name.into() })?;
            Ok(Sealed {
                key_id: key.id,
                nonce,
                bytes: bytes.into(),
            })
        })
    }

    /// Opens what was sealed under these names. Blocks.
    ///
    /// # Errors
    /// [`VaultError`] if the key is another one, or what is sealed is not what it was.
    pub fn open(&self, namespace: &str, name: &str, sealed: &Sealed) -> Result<Bytes, VaultError> {
        let Sealed {
            key_id,
            nonce,
            bytes,
        } = sealed;
        self.with_key(Self::read, |key| {
            if key.id != *key_id {
                return Err(VaultError::OtherKey {
                    name: name.to_owned(),
                    sealed_with: hex::encode(key_id),
                    held: hex::encode(key.id),
                    path: self.path.clone(),
                });
            }
            let mut bytes = bytes.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key
                .key
                .open_in_place(nonce, place(namespace, name), &mut bytes);
            let len = opened
                .map_err(|_| VaultError::Damaged { name: name.into() })?
                .len();
            bytes.truncate(len);
            Ok(bytes.into())
        })
    }

    fn with_key<T>(
        &self,
        get: impl FnOnce(&Self) -> Result<Key, VaultError>,
        work: impl FnOnce(&Key) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let mut held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match held.take() {
            Some(key) => key,
            None => get(self)?,
        };
        work(held.insert(key))
    }

    fn read_or_make(&self) -> Result<Key, VaultError> {
        match self.read() {
            Err(VaultError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.make()?;
                self.read()
            }
            read => read,
        }
    }

    fn read(&self) -> Result<Key, VaultError> {
        let path = || self.path.clone();
        let text = fs::read_to_string(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => VaultError::NoKey(path()),
            _ => VaultError::Io {
                path: path(),
                source,
            },
        })?;
        if let Ok(metadata) = fs::metadata(&self.path) {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let mode = format!("{mode:o}");
                tracing::warn!(path = %self.path.display(), mode, "the key of secrets can be read by others");
            }
        }
        let mut key = [0; KEY_LEN];
        hex::decode_to_slice(text.trim_end(), &mut key).map_err(|_| VaultError::NoKey(path()))?;
        let id = blake3::derive_key("tq 2026-11 name of a key of secrets", &key);
        let id = *id.first_chunk().unwrap_or(&[0; KEY_ID_LEN]);
        let key = UnboundKey::new(&AES_256_GCM, &key);
        let key = key.map_err(|_| VaultError::NoKey(path()))?;
        Ok(Key {
            key: LessSafeKey::new(key),
            id,
        })
    }

    /// Makes a key, for nobody but the owner to read. It is on disk when this returns.
    fn make(&self) -> Result<(), VaultError> {
        let mut key = [0; KEY_LEN];
        self.random.fill(&mut key).map_err(|_| VaultError::Random)?;
        let text = hex::encode(key) + "\n";
        write_whole(&self.path, &text).map_err(|source| VaultError::Io {
            path: self.path.clone(),
            source,
        })?;
        tracing::info!(path = %self.path.display(), "made a key for secrets; back it up apart from the data");
        Ok(())
    }
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// What a sealed value is bound to. Names have no NUL.
fn place(namespace: &str, name: &str) -> Aad<Vec<u8>> {
    Aad::from([b"tq secret", namespace.as_bytes(), name.as_bytes()].join(&0))
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().expect("a directory");
        let vault = Vault::new(dir.path().join("secrets.key"));
        (dir, vault)
    }

    #[test]
    fn what_was_sealed_is_opened_also_after_a_restart() {
        let (dir, vault) = vault();
        let sealed = vault.seal("default", "key", b"s3cret value").unwrap();
        assert!(!sealed.bytes.windows(6).any(|part| part == b"s3cret"));
        let again = vault.seal("default", "key", b"s3cret value").unwrap();
        assert_ne!(sealed, again);
        let vault = Vault::new(dir.path().join("secrets.key"));
        let opened = vault.open("default", "key", &sealed).unwrap();
        assert_eq!(opened, b"s3cret value"[..]);
        let mode = fs::metadata(dir.path().join("secrets.key")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_row_cannot_take_the_place_of_another() {
        let (_dir, vault) = vault();
        let sealed = vault.seal("default", "key", b"s3cret value").unwrap();
        for (namespace, name) in [("other", "key"), ("default", "kez"), ("defaul", "t\0key")] {
            let opened = vault.open(namespace, name, &sealed);
            assert!(matches!(opened, Err(VaultError::Damaged { .. })));
        }
        let mut bytes = sealed.bytes.to_vec();
        bytes[0] ^= 1;
        let changed = Sealed {
            bytes: bytes.into(),
            ..sealed
        };
        let opened = vault.open("default", "key", &changed);
        assert!(matches!(opened, Err(VaultError::Damaged { .. })));
    }

    #[test]
    fn another_key_is_named() {
        let (dir, vault) = vault();
        let sealed = vault.seal("default", "key", b"s3cret value").unwrap();
        let path = dir.path().join("secrets.key");
        fs::write(&path, "ab".repeat(32)).unwrap();
        let opened = Vault::new(path.clone()).open("default", "key", &sealed);
        let text = opened.unwrap_err().to_string();
        assert!(text.contains(&hex::encode(sealed.key_id)), "{text}");
        fs::write(&path, "no key").unwrap();
        let opened = Vault::new(path.clone()).open("default", "key", &sealed);
        assert!(matches!(opened, Err(VaultError::NoKey(_))));
        // A new one would open nothing.
        fs::remove_file(&path).unwrap();
        let opened = Vault::new(path.clone()).open("default", "key", &sealed);
        assert!(matches!(opened, Err(VaultError::Io { .. })));
        assert!(!path.try_exists().unwrap());
    }
}
