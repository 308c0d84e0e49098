//! What the author of a tq task imports.
//!
//! A task is a function with an attribute on it. Any number of them, in any module of the crate, make up one
//! WebAssembly component:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tq_sdk::{Context, Error, Json, Result, Schema};
//!
//! #[derive(Deserialize, Schema)]
//! struct Division {
//!     dividend: i64,
//!     divisor: i64,
//! }
//!
//! #[derive(Serialize, Schema)]
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
//! A payload that does not fit ends as [`Error::invalid_input`] before the function is entered. Where `T` derives [`Schema`],
//! callers are told what it looks like: `tq describe` shows the JSON Schema. No function needs it.
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
pub mod schema;

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
pub use schema::Schema;
pub use tq_sdk_macros::{Schema, task};

/// What the code that the macros write refers to. Not for people: it changes without notice.
#[doc(hidden)]
pub mod __private {
    use std::marker::PhantomData;

    use crate::schema::{Object, Schema};
    use crate::{FromPayload, IntoOutput, Json, Result};

    pub use crate::registry::{Call, Function, register};
    pub use crate::schema::{Piece, line, line_bytes};

    /// Asks for the schema of a payload or result `T`, which it need not have: `Probe::<T>::SCHEMA` is one of the constants
    /// below where `T` has a schema, since they come before a trait's, and [`NoSchema`]'s otherwise.
    #[derive(Debug)]
    pub struct Probe<T>(PhantomData<T>);

    impl<T: Schema> Probe<Json<T>> {
        /// The schema of the JSON.
        pub const SCHEMA: Option<Object> = Some(T::SCHEMA);
    }

    impl<T: Schema, E> Probe<Result<Json<T>, E>> {
        /// The schema of the JSON, if there is no error.
        pub const SCHEMA: Option<Object> = Some(T::SCHEMA);
    }

    /// What [`Probe`] says of any other type.
    pub trait NoSchema {
        /// None is known.
        const SCHEMA: Option<Object> = None;
    }

    impl<T> NoSchema for Probe<T> {}

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
            const __TQ_LINE: &[$crate::__private::Piece] = {
                use $crate::__private::NoSchema as _;
                &[
                    $crate::__private::Piece::Text($described),
                    $($crate::__input_schema!($argument),)*
                    $crate::__private::Piece::Optional(",\"output_schema\":", <$crate::__private::Probe<$output>>::SCHEMA),
                    $crate::__private::Piece::Text("}\n"),
                ]
            };
            const __TQ_LINE_BYTES: usize = $crate::__private::line_bytes(__TQ_LINE);
            const _: usize = __TQ_LINE_BYTES;

            #[cfg(target_family = "wasm")]
            const _: () = {
                // Such a section of a module is the sum of its object files' sections, and stays in the component.
                #[used]
                #[unsafe(link_section = "tq:functions")]
                static __TQ_DESCRIBED: [u8; __TQ_LINE_BYTES] = $crate::__private::line(__TQ_LINE);

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

/// The member of a function's line that one argument makes, in `__task!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __input_schema {
    ((payload $type:ty)) => {
        $crate::__private::Piece::Optional(
            ",\"input_schema\":",
            <$crate::__private::Probe<$type>>::SCHEMA,
        )
    };
    // No JSON.
    (($other:ident)) => {
        $crate::__private::Piece::Text("")
    };
}

/// What `#[derive(Schema)]` adds.
#[doc(hidden)]
#[macro_export]
macro_rules! __schema {
    (($($generics:tt)*) ($type:ty) ($($bounds:tt)*) $title:literal $description:literal object $($piece:tt)*) => {
        #[automatically_derived]
        impl<$($generics)*> $crate::Schema for $type $($bounds)* {
            const SCHEMA: $crate::schema::Object = $crate::schema::Object {
                title: $title,
                description: $description,
                members: &[$($crate::__piece!($piece)),*],
                text: "",
            };
        }
    };
    (($($generics:tt)*) ($type:ty) ($($bounds:tt)*) $title:literal $description:literal like $optional:ident ($inner:ty)) => {
        #[automatically_derived]
        impl<$($generics)*> $crate::Schema for $type $($bounds)* {
            const SCHEMA: $crate::schema::Object =
                <$inner as $crate::Schema>::SCHEMA.titled($title).described($description);
            const OPTIONAL: bool = $crate::__optional!($optional $inner);
        }
    };
}

/// Whether what is like another type may be left out as that may.
#[doc(hidden)]
#[macro_export]
macro_rules! __optional {
    (transparent $type:ty) => {
        <$type as $crate::Schema>::OPTIONAL
    };
    (newtype $type:ty) => {
        false
    };
}

/// One piece of a schema in `__schema!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __piece {
    ((text $text:literal)) => {
        $crate::__private::Piece::Text($text)
    };
    ((schema $description:literal ($type:ty))) => {
        $crate::__private::Piece::schema(<$type as $crate::Schema>::SCHEMA.described($description))
    };
    ((required $($name:literal ($type:ty))*)) => {
        $crate::__private::Piece::Names(&[$(match <$type as $crate::Schema>::OPTIONAL {
            true => ::core::option::Option::None,
            false => ::core::option::Option::Some($name),
        }),*])
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
