//! What the author of a tq task imports.
//!
//! A task is a function with an attribute on it. Any number of them, in any module of the crate, make up one
//! WebAssembly component:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tq_sdk::{Context, Error, Json, Result};
//!
//! #[derive(Deserialize)]
//! struct Division {
//!     dividend: i64,
//!     divisor: i64,
//! }
//!
//! #[derive(Serialize)]
//! struct Quotient {
//!     quotient: i64,
//! }
//!
//! /// Divides one number by another.
//! #[tq_sdk::task]
//! fn divide(cx: Context, Json(request): Json<Division>) -> Result<Json<Quotient>> {
//!     cx.progress(0.5, "dividing");
//!     match request.dividend.checked_div(request.divisor) {
//!         Some(quotient) => Ok(Json(Quotient { quotient })),
//!         None => Err(Error::invalid_input("field `divisor` is 0")),
//!     }
//! }
//!
//! #[tq_sdk::task]
//! fn hello(name: String) -> String {
//!     format!("Hello, {name}!")
//! }
//!
//! fn main() {}
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` builds it; the empty `main` is there because this is a binary crate
//! (a library with `crate-type = ["cdylib"]` needs none). Tasks stand in the crate that is built: the linker does not
//! look for them in its dependencies.
//!
//! # Shapes
//! `f()`, `f(P)`, `f(Context)` or `f(Context, P)`, with a result of `R` or `Result<R, E>`.
//!
//! | | on the wire |
//! |---|---|
//! | `P`: `Vec<u8>`, `&[u8]`; `R`: `Vec<u8>` | the bytes as they are |
//! | `P`, `R`: `String`, `&str` | UTF-8 text |
//! | `P`, `R`: [`Json<T>`](Json) | JSON, by way of serde |
//! | no `P`; `R`: `()` | nothing |
//!
//! A payload that does not fit ends as [`Error::invalid_input`] before the function is entered.
//!
//! # Errors
//! A function fails with an [`Error`], which says whether the task is tried again; `?` makes one of any
//! [`std::error::Error`], by the rule that stands there. A panic is a failed attempt, and retried.
//!
//! # Trying it out
//! Off WebAssembly tasks are plain functions: a `#[test]` calls them with [`Context::current`], which answers as the first
//! attempt of a task would.

mod context;
mod error;
pub mod keyvalue;
mod payload;
mod registry;

#[cfg(target_family = "wasm")]
#[rustfmt::skip]
#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
mod bindings;
#[cfg(target_family = "wasm")]
#[path = "host_wasm.rs"]
mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "host_native.rs"]
mod host;

pub use context::{CheckpointError, Context, Level, Secret, SecretError};
pub use error::{Error, Result};
pub use payload::{FromPayload, IntoOutput, Json};
pub use tq_sdk_macros::task;

/// What the code that the macros write refers to. Not for people: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::registry::{Call, Function, register};

    use crate::{FromPayload, IntoOutput, Result};

    /// Makes an argument; a function of its own so that an unfit type is reported where it is written.
    ///
    /// # Errors
    /// As [`FromPayload::from_payload`].
    pub fn payload<P: FromPayload>(payload: Vec<u8>) -> Result<P> {
        P::from_payload(payload)
    }

    /// Encodes a result.
    ///
    /// # Errors
    /// As [`IntoOutput::into_output`].
    pub fn output<R: IntoOutput>(result: R) -> Result<Vec<u8>> {
        result.into_output()
    }
}

/// What `#[task]` adds below a function.
#[doc(hidden)]
#[macro_export]
macro_rules! __task {
    ($function:ident $name:literal $described:literal ($($argument:tt)*) ($output:ty)) => {
        // The names are unlike an author's: a task of the same name would be hidden by them.
        const _: () = {
            fn __tq_call(_context: $crate::Context, _payload: ::std::vec::Vec<u8>) -> $crate::Result<::std::vec::Vec<u8>> {
                $crate::__private::output::<$output>($function($($crate::__argument!(_context _payload $argument)),*))
            }
            // The types are checked, and the function counts as used, on every target.
            const _: $crate::__private::Call = __tq_call;

            #[cfg(target_family = "wasm")]
            const _: () = {
                // Such a section of a module is the sum of its object files' sections, and stays in the component.
                #[used]
                #[unsafe(link_section = "tq:functions")]
                static __TQ_DESCRIBED: [u8; $described.len()] = *$described;

                extern "C" fn __tq_register() {
                    $crate::__private::register($crate::__private::Function::new(
                        $name,
                        ::core::module_path!(),
                        __tq_call,
                    ));
                }
                // The C library calls what stands here once, before the first call into the instance.
                #[used]
                #[unsafe(link_section = ".init_array")]
                static __TQ_REGISTER: extern "C" fn() = __tq_register;
            };
        };
    };
}

/// One argument of the call in `__task!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __argument {
    ($context:ident $payload:ident (context)) => {
        $context
    };
    ($context:ident $payload:ident (str)) => {
        $crate::__private::payload::<::std::string::String>($payload)?.as_str()
    };
    ($context:ident $payload:ident (bytes)) => {
        $payload.as_slice()
    };
    ($context:ident $payload:ident (payload $type:ty)) => {
        $crate::__private::payload::<$type>($payload)?
    };
}

/// Writes a formatted line at [`Level::Trace`] to the task's log.
#[macro_export]
macro_rules! trace {
    ($($format:tt)+) => { $crate::Context::current().log($crate::Level::Trace, ::std::format!($($format)+)) };
}

/// Writes a formatted line at [`Level::Debug`] to the task's log.
#[macro_export]
macro_rules! debug {
    ($($format:tt)+) => { $crate::Context::current().log($crate::Level::Debug, ::std::format!($($format)+)) };
}

/// Writes a formatted line at [`Level::Info`] to the task's log.
#[macro_export]
macro_rules! info {
    ($($format:tt)+) => { $crate::Context::current().log($crate::Level::Info, ::std::format!($($format)+)) };
}

/// Writes a formatted line at [`Level::Warn`] to the task's log.
#[macro_export]
macro_rules! warn {
    ($($format:tt)+) => { $crate::Context::current().log($crate::Level::Warn, ::std::format!($($format)+)) };
}

/// Writes a formatted line at [`Level::Error`] to the task's log.
#[macro_export]
macro_rules! error {
    ($($format:tt)+) => { $crate::Context::current().log($crate::Level::Error, ::std::format!($($format)+)) };
}
