//! Every shape that a task may have, under the strictest lints that an author may set.
#![deny(warnings)]
#![forbid(unsafe_code)]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tq_sdk::{Context, Error, Json, Schema};

#[tq_sdk::task]
fn nothing() {}

#[tq_sdk::task]
fn only_context(cx: tq_sdk::Context) -> String {
    tq_sdk::info!("attempt {} of {}", cx.attempt(), cx.max_attempts());
    cx.task_id()
}

#[tq_sdk::task]
fn bytes(mut payload: Vec<u8>) -> Vec<u8> {
    payload.reverse();
    payload
}

#[tq_sdk::task]
fn lent_bytes(payload: &[u8]) -> String {
    payload.len().to_string()
}

/// With a context, and `quotes "in" its` doc.
#[tq_sdk::task]
fn lent_text(_: Context, payload: &str) -> &'static str {
    if payload.is_empty() { "empty" } else { "full" }
}

/// Two values, of generic types: the attribute has to find the comma that ends the argument.
#[derive(Deserialize, Serialize, Clone, PartialEq, Debug)]
struct Pair<A, B> {
    left: A,
    right: B,
}

#[tq_sdk::task]
fn json(
    _cx: Context,
    tq_sdk::Json(pair): tq_sdk::Json<Pair<u8, Vec<String>>>,
) -> tq_sdk::Result<Json<Pair<Vec<String>, u8>>> {
    Ok(Json(Pair {
        left: pair.right,
        right: pair.left,
    }))
}

/// Types with a schema, and without one.
#[derive(Deserialize, Serialize, Schema, PartialEq, Debug)]
struct Described {
    /// A number.
    number: u8,
}

#[tq_sdk::task]
fn described(Json(Described { number }): Json<Described>) -> Result<Json<Described>, Busy> {
    Ok(Json(Described { number: number / 2 }))
}

#[tq_sdk::task]
fn half_described(pair: Json<Pair<u8, u8>>) -> Json<Option<Described>> {
    Json(Some(Described {
        number: pair.0.left,
    }))
}

#[tq_sdk::task]
#[inline]
pub(crate) fn own_error(number: String) -> Result<Json<u64>, std::num::ParseIntError> {
    number.parse().map(Json)
}

#[derive(Debug)]
struct Busy;

impl From<Busy> for Error {
    fn from(_: Busy) -> Self {
        Self::retryable("busy").after(Duration::from_secs(1))
    }
}

#[tq_sdk::task]
fn error_of_the_crate(busy: String) -> Result<(), Busy> {
    if busy == "yes" { Err(Busy) } else { Ok(()) }
}

/// Names that what the attribute adds could use for itself.
mod names {
    #[tq_sdk::task]
    pub(crate) fn call(payload: String) -> String {
        payload
    }

    #[tq_sdk::task]
    pub(crate) fn register(context: String) -> String {
        context
    }

    #[tq_sdk::task]
    pub(crate) fn r#type(payload: Vec<u8>) -> Vec<u8> {
        payload
    }
}

#[test]
fn tasks_stay_functions_that_a_test_can_call() {
    nothing();
    assert_eq!(only_context(Context::current()), "local");
    assert_eq!(bytes(vec![1, 2]), [2, 1]);
    assert_eq!(lent_bytes(&[1, 2]), "2");
    assert_eq!(lent_text(Context::current(), ""), "empty");
    let words = vec!["a".to_owned()];
    let swapped = json(
        Context::current(),
        Json(Pair {
            left: 7,
            right: words.clone(),
        }),
    );
    assert_eq!(
        swapped,
        Ok(Json(Pair {
            left: words,
            right: 7
        }))
    );
    assert_eq!(
        described(Json(Described { number: 4 })).ok(),
        half_described(Json(Pair { left: 2, right: 0 })).0.map(Json)
    );
    assert_eq!(own_error("12".to_owned()), Ok(Json(12)));
    assert!(error_of_the_crate("yes".to_owned()).is_err());
    assert_eq!(
        names::call("a".to_owned()) + &names::register("b".to_owned()),
        "ab"
    );
    assert_eq!(names::r#type(vec![1]), [1]);
}
