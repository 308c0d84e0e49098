//! Typed functions: the types of exported functions of components, and the JSON that stands for their values.
//!
//! The broker reads a [`Function`] from a component's bytes and checks payloads against it; a host reads the same from the
//! compiled form, makes [`Value`]s of the payload and a payload of what the function returns. So that both understand the
//! same by a payload, what JSON means stands here once, and knows neither the parser of the one nor the engine of the other.
//!
//! | type | JSON |
//! |---|---|
//! | `bool` | `true`, `false` |
//! | `s8` … `u32` | a whole number |
//! | `s64`, `u64` | a whole number, or its digits as a string; given back as a string beyond ±2⁵³ |
//! | `f32`, `f64` | a number, or `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `char` | a string of one character |
//! | `string` | a string |
//! | `list<u8>` | a string in base64, with padding |
//! | `list<T>` | an array |
//! | `option<T>` | `null`, or what stands for `T`; a field of this type may be left out |
//! | `option<option<T>>` | `null`, or `{"some": …}` with what stands for `option<T>` |
//! | `result<T, E>` | `{"ok": …}` or `{"err": …}`, with `null` where there is no type |
//! | `tuple<A, B>` | an array with an item for each |
//! | `record` | an object with a member for each field, and no others |
//! | `variant` | the name of a case, or `{"name": …}` if the case has a value |
//! | `enum` | the name of a case |
//! | `flags` | an array of the names that are set, each once |
//!
//! Resources, streams, futures and error contexts have no JSON: a function with one of them is [`Uncallable`].

mod decode;
mod encode;
mod example;
mod function;
mod names;
mod schema;
mod ty;
mod value;
mod wit;

pub use decode::{Error, arguments, value};
pub use encode::{TooLong, json};
pub use function::{Field, Function, Measure, Uncallable};
pub use names::{is_own, names};
pub use schema::with_dialect;
pub use ty::{Case, Type};
pub use value::Value;

#[cfg(test)]
mod tests;
