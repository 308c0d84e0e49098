//! The trace that a submitted task belongs to: W3C Trace Context, version 00.

use std::env;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// The caller's trace, from the variable `TRACEPARENT`, or the start of a new one, so that every task has one.
///
/// # Errors
/// The system has no random bytes.
pub(crate) fn current() -> io::Result<String> {
    match env::var("TRACEPARENT") {
        Ok(parent) if is_valid(&parent) => Ok(parent),
        _ => fresh(),
    }
}

/// A new trace, sampled.
fn fresh() -> io::Result<String> {
    let mut bytes = [0; 24];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    // An id of zeroes would not be valid.
    bytes[0] |= 1;
    bytes[16] |= 1;
    let (trace, span) = bytes.split_at(16);
    Ok(format!(
        "00-{}-{}-01",
        hex::encode(trace),
        hex::encode(span)
    ))
}

fn is_valid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_id = |part: &str, len: usize| {
        part.len() == len
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            && part.bytes().any(|byte| byte != b'0')
    };
    let is_flags =
        |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(parts[..], ["00", trace, span, flags] if is_id(trace, 32) && is_id(span, 16) && is_flags(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_traces_are_valid_and_differ() {
        let (one, two) = (
            fresh().expect("there is randomness"),
            fresh().expect("there is randomness"),
        );
        assert!(is_valid(&one), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn what_is_no_traceparent_is_not_passed_on() {
        assert!(is_valid(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
        ));
        for text in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }
}
