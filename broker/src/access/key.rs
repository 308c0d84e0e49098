//! Keys as they are written: `tq_`, the id, `_`, the secret and a checksum, all but the first in hexadecimal digits.
//!
//! The secret has 256 bits from the system's random number generator, so that a fast hash of it is as good as a slow one: nobody
//! guesses it. The checksum tells a key that was copied badly from one that is wrong, and lets scanners for secrets be sure.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "tq_";
const ID_LEN: usize = 8;
const SECRET_LEN: usize = 32;
const CHECK_LEN: usize = 4;

/// Which key it is. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A text that is no id of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id of a key: it has 16 hexadecimal digits, as `tq key list` shows them")]
pub struct NoKeyId(String);

impl FromStr for KeyId {
    type Err = NoKeyId;

    fn from_str(text: &str) -> Result<Self, NoKeyId> {
        let mut id = [0; ID_LEN];
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) => Ok(Self(id)),
            Err(_) => {
                let shown: String = text.chars().take(40).collect();
                Err(NoKeyId(shown.escape_debug().to_string()))
            }
        }
    }
}

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to get random bytes")]
pub struct NoRandom;

/// A key with its secret: what a caller holds. It is shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText {
    /// Which key it is.
    pub id: KeyId,
    secret: [u8; SECRET_LEN],
}

/// What is kept of a secret. Two of them are compared in constant time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextHash(blake3::Hash);

impl TextHash {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// With these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }
}

impl KeyText {
    /// A new key.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn draw() -> Result<Self, NoRandom> {
        let mut id = [0; ID_LEN];
        SystemRandom::new().fill(&mut id).map_err(|_| NoRandom)?;
        Self::for_key(KeyId(id))
    }

    /// Another text for a key.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn for_key(id: KeyId) -> Result<Self, NoRandom> {
        let mut secret = [0; SECRET_LEN];
        let drawn = SystemRandom::new().fill(&mut secret);
        drawn.map_err(|_| NoRandom)?;
        Ok(Self { id, secret })
    }

    /// The key that is written here, if that is one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = id.parse().ok()?;
        let mut bytes = [0; SECRET_LEN + CHECK_LEN];
        hex::decode_to_slice(rest, &mut bytes).ok()?;
        let (secret, check) = bytes.split_first_chunk()?;
        let key = Self {
            id,
            secret: *secret,
        };
        (key.check() == *check).then_some(key)
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TextHash {
        let hash = blake3::derive_key("tq 2026-11 secret of an access key", &self.secret);
        TextHash(blake3::Hash::from_bytes(hash))
    }

    fn check(&self) -> [u8; CHECK_LEN] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.id.0).update(&self.secret);
        let mut check = [0; CHECK_LEN];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secret, check) = (hex::encode(self.secret), hex::encode(self.check()));
        write!(f, "{PREFIX}{}_{secret}{check}", self.id)
    }
}

/// Without the secret.
impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyText")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written_and_no_other_way() {
        let key = KeyText::draw().unwrap();
        let text = key.to_string();
        assert_eq!(text.len(), 3 + 16 + 1 + 72);
        let read = KeyText::read(&text).unwrap();
        assert_eq!((read.id, read.hash()), (key.id, key.hash()));
        assert!(!format!("{key:?}").contains(&hex::encode(key.secret)));
        for (at, _) in text.char_indices() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(KeyText::read(&other), None, "{at}");
            assert_eq!(KeyText::read(&text[..at]), None, "{at}");
        }
        assert_eq!(KeyText::read(&format!("{text}0")), None);
    }

    #[test]
    fn no_two_are_alike() {
        let (one, other) = (KeyText::draw().unwrap(), KeyText::draw().unwrap());
        assert_ne!(one.id, other.id);
        let again = KeyText::for_key(one.id).unwrap();
        assert_ne!(one.hash(), again.hash());
    }
}
