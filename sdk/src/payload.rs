use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A payload that is read, or a result that is written, as JSON.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tq_sdk::Json;
/// # #[derive(Deserialize)] struct Person { name: String }
/// # #[derive(Serialize)] struct Greeting { greeting: String }
/// #[tq_sdk::task]
/// fn greet(Json(person): Json<Person>) -> Json<Greeting> {
///     Json(Greeting { greeting: format!("Hello, {}!", person.name) })
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

/// A type that a task takes as its payload.
#[diagnostic::on_unimplemented(
    message = "a task cannot take `{Self}` as its payload",
    label = "not a payload",
    note = "a payload is `Json<T>` (with `T: serde::Deserialize`), `String`, `&str`, `Vec<u8>` or `&[u8]`"
)]
pub trait FromPayload: Sized {
    /// Reads the payload.
    ///
    /// # Errors
    /// [`Error::invalid_input`] if the payload is not of this type.
    fn from_payload(payload: Vec<u8>) -> Result<Self>;
}

impl FromPayload for Vec<u8> {
    fn from_payload(payload: Vec<u8>) -> Result<Self> {
        Ok(payload)
    }
}

impl FromPayload for String {
    fn from_payload(payload: Vec<u8>) -> Result<Self> {
        String::from_utf8(payload)
            .map_err(|error| Error::invalid_input(format!("payload is not UTF-8 text: {error}")))
    }
}

impl<T: DeserializeOwned> FromPayload for Json<T> {
    fn from_payload(payload: Vec<u8>) -> Result<Self> {
        // serde_json's text ends in the line and the column.
        serde_json::from_slice(&payload).map(Json).map_err(|error| {
            Error::invalid_input(format!("payload is not the expected JSON: {error}"))
        })
    }
}

/// A type that a task returns.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "not a result",
    note = "a result is `Json<T>` (with `T: serde::Serialize`), `String`, `Vec<u8>` or `()`, or a `Result` of one of these"
)]
pub trait IntoOutput {
    /// Encodes the result.
    ///
    /// # Errors
    /// What the function failed with, or [`Error::fatal`] if its value cannot be encoded.
    fn into_output(self) -> Result<Vec<u8>>;
}

impl IntoOutput for Vec<u8> {
    fn into_output(self) -> Result<Vec<u8>> {
        Ok(self)
    }
}

impl IntoOutput for String {
    fn into_output(self) -> Result<Vec<u8>> {
        Ok(self.into_bytes())
    }
}

impl IntoOutput for &str {
    fn into_output(self) -> Result<Vec<u8>> {
        Ok(self.into())
    }
}

impl IntoOutput for () {
    fn into_output(self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

impl<T: Serialize> IntoOutput for Json<T> {
    fn into_output(self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.0)
            .map_err(|error| Error::fatal(format!("result cannot be written as JSON: {error}")))
    }
}

impl<R: IntoOutput, E: Into<Error>> IntoOutput for Result<R, E> {
    fn into_output(self) -> Result<Vec<u8>> {
        self.map_err(Into::into)?.into_output()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fmt::Debug;

    use super::{FromPayload, IntoOutput, Json};
    use crate::error::Kind;
    use crate::{Error, Result};

    #[track_caller]
    fn refuses<P: FromPayload + Debug>(payload: &[u8], message: &str) {
        let error = P::from_payload(payload.to_vec()).expect_err("the payload does not fit");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::InvalidInput, message)
        );
    }

    #[test]
    fn payload_that_does_not_fit_is_invalid_input_and_says_where() {
        refuses::<Json<u8>>(
            b"{\n  \"a\": 1}",
            "payload is not the expected JSON: invalid type: map, expected u8 at line 1 column 0",
        );
        refuses::<Json<Vec<u8>>>(
            b"[1,\n 256]",
            "payload is not the expected JSON: invalid value: integer `256`, expected u8 at line 2 column 4",
        );
        refuses::<Json<u8>>(
            b"",
            "payload is not the expected JSON: EOF while parsing a value at line 1 column 0",
        );
        refuses::<Json<u8>>(
            b"1 2",
            "payload is not the expected JSON: trailing characters at line 1 column 3",
        );
        refuses::<String>(
            b"ab\xff",
            "payload is not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 2",
        );
    }

    #[test]
    fn results_are_encoded_by_their_type() {
        assert_eq!(Json([1, 2]).into_output(), Ok(b"[1,2]".to_vec()));
        assert_eq!("text".into_output(), Ok(b"text".to_vec()));
        assert_eq!(().into_output(), Ok(Vec::new()));
        assert_eq!(
            Ok::<_, std::fmt::Error>(vec![0xff]).into_output(),
            Ok(vec![0xff])
        );
    }

    #[test]
    fn failures_keep_their_kind() {
        let failed: Result<String> = Err(Error::invalid_input("too short"));
        assert_eq!(failed.into_output(), Err(Error::invalid_input("too short")));
        let unwritable = Json(HashMap::from([((1, 2), 3)])).into_output();
        assert_eq!(
            unwritable,
            Err(Error::fatal(
                "result cannot be written as JSON: key must be a string"
            ))
        );
    }
}
