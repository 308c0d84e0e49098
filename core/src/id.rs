//! Identities: tasks, module digests, attempts.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

/// A task's id: the 16 bytes of a UUIDv7 (RFC 9562), made at the broker's inbox so that ids rise.
///
/// Its bytes are the task's key in the store, so that the order of ids is the order of rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub [u8; 16]);

impl TaskId {
    /// When the id was made: the first 48 bits of a UUIDv7 are milliseconds.
    #[must_use]
    pub fn made_at(self) -> Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        Timestamp(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; 36];
        for (from, to, at) in [(0, 4, 0), (4, 6, 9), (6, 8, 14), (8, 10, 19), (10, 16, 24)] {
            to_hex(&self.0[from..to], &mut text[at..]);
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            what: "task id",
            form: "a UUID such as 0198c9a4-7f1e-7c3a-b1de-5a0e6f2d9c41",
            text: cut(text),
        };
        let dashes = |index| matches!(index, 8 | 13 | 18 | 23);
        if text.len() != 36
            || !text
                .bytes()
                .enumerate()
                .all(|(index, byte)| (byte == b'-') == dashes(index))
        {
            return Err(error());
        }
        let mut digits = [0; 32];
        let of_text = text.bytes().filter(|byte| *byte != b'-');
        digits
            .iter_mut()
            .zip(of_text)
            .for_each(|(digit, byte)| *digit = byte);
        from_hex(&digits).map(Self).ok_or_else(error)
    }
}

/// The SHA-256 digest of a module's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        to_hex(&self.0, &mut digits);
        f.write_str("sha256:")?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    /// Reads `sha256:` and 64 hexadecimal digits, or the digits alone.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        from_hex(digits.as_bytes())
            .map(Self)
            .ok_or_else(|| ParseError {
                what: "digest",
                form: "`sha256:` and 64 hexadecimal digits",
                text: cut(text),
            })
    }
}

/// The fencing number of an attempt, and its identity: never used twice, and rising for every task.
///
/// The upper 32 bits are the broker's generation, which is on disk before the first attempt of that generation; the
/// lower ones count the attempts that were started in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch number `counter` of a broker generation.
    #[must_use]
    pub fn new(generation: u32, counter: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(counter))
    }

    /// The broker generation that issued it.
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation(), self.0 as u32)
    }
}

/// A text that is not the identity it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; expected {form}")]
pub struct ParseError {
    what: &'static str,
    form: &'static str,
    text: String,
}

/// The beginning of a text of any length, for an error message.
fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let end = text
        .char_indices()
        .nth(CHARS_MAX)
        .map_or(text.len(), |(index, _)| index);
    text[..end].to_owned()
}

/// Writes two digits for each byte to the beginning of `text`.
fn to_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn from_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_survive_their_text(bytes: [u8; 16], digest: [u8; 32]) {
            prop_assert_eq!(TaskId(bytes).to_string().parse(), Ok(TaskId(bytes)));
            prop_assert_eq!(Digest(digest).to_string().parse(), Ok(Digest(digest)));
        }

        #[test]
        fn no_text_panics(text: String) {
            prop_assert!(text.parse::<TaskId>().is_err());
            prop_assert!(text.parse::<Digest>().is_err());
        }
    }

    #[test]
    fn epochs_of_a_later_generation_are_higher() {
        assert!(Epoch::new(2, 0) > Epoch::new(1, u32::MAX));
        assert_eq!(Epoch::new(7, 9).generation(), 7);
    }
}
