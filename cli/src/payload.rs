//! What a task is given: payload bytes and what kind they are.

use std::fs;
use std::io::{self, Read as _};

use anyhow::Context as _;
use bytes::Bytes;
use tq_core::limits::PAYLOAD_BYTES_MAX;

use crate::exit::Failure;

/// A payload and its media type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The bytes as they are sent.
    pub(crate) bytes: Bytes,
    /// Such as `application/json`; empty for an empty payload.
    pub(crate) content_type: String,
}

impl Payload {
    /// Reads a payload as it was named on the command line: `@FILE`, `-` for standard input, or the text itself. Its media
    /// type is guessed where none is given.
    pub(crate) fn read(
        argument: Option<&str>,
        content_type: Option<String>,
    ) -> anyhow::Result<Self> {
        let bytes: Bytes = match argument {
            None => Bytes::new(),
            Some("-") => {
                let mut bytes = Vec::new();
                // One byte over the limit is enough to know that it is over.
                io::stdin()
                    .lock()
                    .take(PAYLOAD_BYTES_MAX as u64 + 1)
                    .read_to_end(&mut bytes)
                    .context("failed to read the payload from standard input")?;
                check_size("standard input", bytes.len() as u64, true)?;
                bytes.into()
            }
            Some(text) => match text.strip_prefix('@') {
                Some(path) => read_file(path)?.into(),
                None => {
                    check_size("payload", text.len() as u64, false)?;
                    text.as_bytes().to_vec().into()
                }
            },
        };
        Ok(Self::given(bytes, content_type))
    }

    /// These bytes; their media type is guessed where none is given.
    pub(crate) fn given(bytes: Bytes, content_type: Option<String>) -> Self {
        let content_type = content_type.unwrap_or_else(|| guess(&bytes).to_owned());
        Self {
            bytes,
            content_type,
        }
    }
}

fn read_file(path: &str) -> anyhow::Result<Vec<u8>> {
    let described = |error: io::Error| {
        let failed = format!("failed to read the payload from `{path}`: {error}");
        match error.kind() {
            io::ErrorKind::NotFound => Failure::not_found(failed)
                .hint("`@FILE` is below the current folder; text that begins with `@` goes by standard input, as `-`"),
            _ => Failure::usage(failed),
        }
    };
    let len = fs::metadata(path).map_err(described)?.len();
    check_size(path, len, false)?;
    Ok(fs::read(path).map_err(described)?)
}

fn check_size(what: &str, len: u64, is_cut: bool) -> Result<(), Failure> {
    if len <= PAYLOAD_BYTES_MAX as u64 {
        return Ok(());
    }
    let has = if is_cut {
        "more than".to_owned()
    } else {
        format!("{len} bytes, over")
    };
    Err(Failure::usage(format!(
        "`{what}` has {has} the limit of {PAYLOAD_BYTES_MAX} bytes for a payload"
    ))
    .hint("put the data where the task can fetch it, and send a reference"))
}

/// Valid JSON, other UTF-8 text, or just bytes.
fn guess(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        ""
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        "application/json"
    } else if std::str::from_utf8(bytes).is_ok() {
        "text/plain"
    } else {
        "application/octet-stream"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argument: Option<&str>, expected_bytes: &[u8], expected_type: &str) {
        let payload = Payload::read(argument, None).expect("it can be read");
        assert_eq!(
            (&payload.bytes[..], payload.content_type.as_str()),
            (expected_bytes, expected_type)
        );
    }

    #[test]
    fn kind_of_a_payload_is_guessed_from_its_bytes() {
        check(None, b"", "");
        check(Some("{\"a\":1}"), b"{\"a\":1}", "application/json");
        check(Some("hello"), b"hello", "text/plain");
        check(Some("{\"a\":"), b"{\"a\":", "text/plain");
        assert_eq!(guess(&[0xff, 0xfe]), "application/octet-stream");
    }

    #[test]
    fn file_is_read_and_a_named_type_wins() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("in.json");
        fs::write(&path, b"[1]").expect("the folder can be written");
        let argument = format!("@{}", path.display());
        check(Some(&argument), b"[1]", "application/json");
        let named =
            Payload::read(Some(&argument), Some("text/csv".into())).expect("it can be read");
        assert_eq!(named.content_type, "text/csv");
    }

    #[test]
    fn too_large_and_missing_files_are_refused_with_the_limit() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("large");
        let file = fs::File::create(&path).expect("the folder can be written");
        file.set_len(PAYLOAD_BYTES_MAX as u64 + 1)
            .expect("the file can grow");
        let refused = Payload::read(Some(&format!("@{}", path.display())), None);
        let message = refused.expect_err("it is too large").to_string();
        assert!(
            message.ends_with("has 8388609 bytes, over the limit of 8388608 bytes for a payload"),
            "{message}"
        );
        let missing = Payload::read(Some("@no/such/file"), None).expect_err("it is not there");
        assert_eq!(crate::exit::code(&missing), crate::exit::Exit::NotFound);
        let printed = crate::exit::text(&missing);
        assert!(
            printed.contains("`no/such/file`: No such file"),
            "{printed}"
        );
        assert!(
            printed.contains("\nhint: `@FILE` is below the current folder"),
            "{printed}"
        );
    }
}
