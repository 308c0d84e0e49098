//! Where the tasks of a function may run, as its module is deployed, and what that makes of one call.

use tq_core::label::Labels;
use tq_core::limits::CONCURRENCY_KEY_BYTES_MAX;
use tq_core::placement::{Concurrency, Placement};

/// Where the tasks of a function may run, and beside what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionPlacement {
    /// Its queue; empty is the default one.
    pub queue: String,
    /// Labels that a host has to have.
    pub required: Labels,
    /// Labels of hosts that are taken first.
    pub preferred: Labels,
    /// How many of its tasks run at once.
    pub concurrency: Option<ConcurrencyRule>,
}

/// How many tasks of a function run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcurrencyRule {
    /// A pointer into the payload (RFC 6901): tasks that have the same there are alike. Empty: all are.
    pub payload_pointer: String,
    /// How many of those that are alike.
    pub limit: u32,
}

/// Why a payload has no concurrency key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not JSON.
    #[error(
        "payload is not JSON, and `{function}` limits concurrency by its `{pointer}`: {reason}"
    )]
    NotJson {
        /// MODULE/FUNCTION.
        function: String,
        /// The pointer.
        pointer: String,
        /// What the parser says.
        reason: String,
    },
    /// It has nothing there.
    #[error(
        "payload has no text, number or boolean at `{pointer}`, by which `{function}` limits concurrency"
    )]
    Missing {
        /// MODULE/FUNCTION.
        function: String,
        /// The pointer.
        pointer: String,
    },
    /// What it has there is too long.
    #[error(
        "payload has {len} bytes at `{pointer}`, by which `{function}` limits concurrency; it may have {CONCURRENCY_KEY_BYTES_MAX}"
    )]
    TooLong {
        /// MODULE/FUNCTION.
        function: String,
        /// The pointer.
        pointer: String,
        /// The length of what is there.
        len: usize,
    },
}

impl FunctionPlacement {
    /// Where a call without wishes of its own may run. `function` is MODULE/FUNCTION; its concurrency keys begin with it,
    /// so that those of two functions never meet.
    ///
    /// # Errors
    /// [`KeyError`] if the payload has nothing where the function's concurrency key is.
    pub fn of_call(&self, function: &str, payload: &[u8]) -> Result<Placement, KeyError> {
        let key = |rule: &ConcurrencyRule| {
            Ok(Concurrency {
                key: format!("{function}:{}", value(function, rule, payload)?),
                limit: rule.limit,
            })
        };
        Ok(Placement {
            queue: self.queue.clone(),
            required: self.required.clone(),
            preferred: self.preferred.clone(),
            concurrency: self.concurrency.as_ref().map(key).transpose()?,
        })
    }
}

fn value(function: &str, rule: &ConcurrencyRule, payload: &[u8]) -> Result<String, KeyError> {
    let (function, pointer) = (|| function.to_owned(), || rule.payload_pointer.clone());
    if rule.payload_pointer.is_empty() {
        return Ok(String::new());
    }
    let parsed: serde_json::Value =
        serde_json::from_slice(payload).map_err(|error| KeyError::NotJson {
            function: function(),
            pointer: pointer(),
            reason: error.to_string(),
        })?;
    let value = match parsed.pointer(&rule.payload_pointer) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(number @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
            number.to_string()
        }
        Some(
            serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_),
        )
        | None => {
            return Err(KeyError::Missing {
                function: function(),
                pointer: pointer(),
            });
        }
    };
    if value.len() > CONCURRENCY_KEY_BYTES_MAX {
        return Err(KeyError::TooLong {
            function: function(),
            pointer: pointer(),
            len: value.len(),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pointer: &str, payload: &str, expected: Result<&str, &str>) {
        let placement = FunctionPlacement {
            concurrency: Some(ConcurrencyRule {
                payload_pointer: pointer.into(),
                limit: 2,
            }),
            ..FunctionPlacement::default()
        };
        let got = placement.of_call("shop/charge", payload.as_bytes());
        let got = got
            .map(|placement| placement.concurrency.expect("it has a rule").key)
            .map_err(|error| error.to_string());
        assert_eq!(
            got.as_deref().map_err(String::as_str),
            expected,
            "{pointer} in {payload}"
        );
    }

    #[test]
    fn keys_come_from_the_payload() {
        check(
            "/customer/id",
            r#"{"customer":{"id":42}}"#,
            Ok("shop/charge:42"),
        );
        check("/0", r#"["a"]"#, Ok("shop/charge:a"));
        check("", "anything", Ok("shop/charge:"));
        check(
            "/id",
            r#"{"id":null}"#,
            Err(
                "payload has no text, number or boolean at `/id`, by which `shop/charge` limits concurrency",
            ),
        );
        check(
            "/id",
            "x",
            Err(
                "payload is not JSON, and `shop/charge` limits concurrency by its `/id`: expected value at line 1 column 1",
            ),
        );
        let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(257));
        check(
            "/id",
            &long,
            Err(
                "payload has 257 bytes at `/id`, by which `shop/charge` limits concurrency; it may have 256",
            ),
        );
    }
}
