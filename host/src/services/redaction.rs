//! Keeping values that are known out of what is shown.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// What stands in place of a secret.
const REDACTED: &[u8] = b"[redacted]";

/// The text without the values, or nothing if none of them is in it. Where one contains another, the longer one counts. A value
/// that was encoded or taken apart is not found.
pub(super) fn redacted(text: &[u8], values: &[Bytes]) -> Option<Bytes> {
    let first_in = |text: &[u8]| {
        let places = values.iter().filter_map(|value| {
            let at = memmem::find(text, value)?;
            Some((at, value.len()))
        });
        places.min_by_key(|(at, len)| (*at, std::cmp::Reverse(*len)))
    };
    let mut next = first_in(text)?;
    let (mut rest, mut kept) = (text, BytesMut::with_capacity(text.len()));
    loop {
        let (at, len) = next;
        kept.extend_from_slice(&rest[..at]);
        kept.extend_from_slice(REDACTED);
        rest = &rest[at + len..];
        match first_in(rest) {
            Some(found) => next = found,
            None => {
                kept.extend_from_slice(rest);
                return Some(kept.freeze());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, values: &[&'static str], expected: Option<&str>) {
        let values: Vec<Bytes> = values
            .iter()
            .map(|value| Bytes::from_static(value.as_bytes()))
            .collect();
        let redacted = redacted(text.as_bytes(), &values);
        assert_eq!(redacted.as_deref(), expected.map(str::as_bytes));
    }

    #[test]
    fn every_value_is_taken_out_wherever_it_is() {
        check("nothing here", &["s3cret-1"], None);
        check("s3cret-1", &["s3cret-1"], Some("[redacted]"));
        check(
            "a s3cret-1s3cret-1 b other-22 c",
            &["s3cret-1", "other-22"],
            Some("a [redacted][redacted] b [redacted] c"),
        );
    }

    #[test]
    fn the_longer_of_two_values_is_taken_out_whole() {
        let values = ["s3cret-1", "s3cret-1-and-more"];
        check("x s3cret-1-and-more y", &values, Some("x [redacted] y"));
        check("x s3cret-1-and y", &values, Some("x [redacted]-and y"));
    }
}
