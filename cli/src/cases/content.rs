//! What goes into a function and comes out of it.

use bytes::Bytes;
use serde_json::Value;

use super::differences;

/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 120;

/// Bytes, or what stands for the same as others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// JSON, however it is written.
    Json(Value),
    /// Exactly these bytes.
    Bytes(Bytes),
}

impl Content {
    /// As it is sent.
    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            Self::Json(value) => value.to_string().into(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// How `found` differs from this, a line for each place; nothing if it does not. `what` is what both are.
    pub(crate) fn differences(&self, what: &str, found: &[u8]) -> Vec<String> {
        match self {
            Self::Json(expected) => match serde_json::from_slice(found) {
                Ok(found) => differences::of(what, expected, &found),
                Err(error) => vec![format!("{what} is not JSON ({error}): {}", shown(found))],
            },
            Self::Bytes(expected) if expected[..] == *found => Vec::new(),
            Self::Bytes(expected) => {
                let same = expected.iter().zip(found).take_while(|(a, b)| a == b);
                vec![format!(
                    "{what} is {}, expected {}; they differ from byte {} on",
                    shown(found),
                    shown(expected),
                    same.count()
                )]
            }
        }
    }
}

/// Bytes for people: the beginning of a text, or how many there are.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("{} bytes that are no text", bytes.len());
    };
    // Control characters are escaped by it.
    cut(&format!("{text:?}"))
}

/// Its beginning, if it is long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_compared_as_they_are_and_json_by_what_it_means() {
        let json = Content::Json(json!({"a": 1, "b": 2}));
        assert!(
            json.differences("output", b"{ \"b\": 2.0, \"a\": 1 }")
                .is_empty()
        );
        let not_json = json.differences("output", b"a\"\x1b");
        assert_eq!(
            not_json,
            ["output is not JSON (expected value at line 1 column 1): \"a\\\"\\u{1b}\""]
        );
        let bytes = Content::Bytes("abc".into());
        assert!(bytes.differences("output", b"abc").is_empty());
        let expected = ["output is \"abd\", expected \"abc\"; they differ from byte 2 on"];
        assert_eq!(bytes.differences("output", b"abd"), expected);
        let expected =
            ["output is 1 bytes that are no text, expected \"abc\"; they differ from byte 0 on"];
        assert_eq!(bytes.differences("output", &[0xff]), expected);
    }
}
