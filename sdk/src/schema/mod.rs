//! What the JSON of a type looks like, for whoever calls a function that takes or gives it.
//!
//! `#[derive(tq_sdk::Schema)]` beside serde's derives is all that most types need:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tq_sdk::{Json, Result, Schema};
//!
//! #[derive(Deserialize, Schema)]
//! #[serde(rename_all = "camelCase")]
//! struct Order {
//!     /// What is ordered, by its number in the catalogue.
//!     item: String,
//!     #[serde(default)]
//!     is_gift: bool,
//! }
//!
//! #[derive(Serialize, Schema)]
//! struct Receipt {
//!     order: u32,
//! }
//!
//! #[tq_sdk::task]
//! fn order(Json(order): Json<Order>) -> Result<Json<Receipt>> {
//!     # let _ = (order.item, order.is_gift);
//!     Ok(Json(Receipt { order: 1 }))
//! }
//!
//! assert_eq!(
//!     Order::SCHEMA.to_json(),
//!     concat!(
//!         r#"{"title":"Order","type":"object","properties":{"#,
//!         r#""item":{"description":"What is ordered, by its number in the catalogue.","type":"string"},"#,
//!         r#""isGift":{"type":"boolean"}},"required":["item"]}"#,
//!     ),
//! );
//! ```
//!
//! The attribute `#[task]` finds out by itself whether the `T` of a `Json<T>` has a schema. The module carries the schemas of
//! its functions, and `tq describe` shows them. A schema tells a caller what to write, and decides nothing: a payload is
//! read by serde, which takes a few other forms too, such as an array of a struct's fields.
//!
//! # What derives
//! Structs and enums (in serde's own form, where a variant with data is `{"name": …}`), generic ones too. Doc comments become
//! descriptions. Serde's attributes count where they change the form: `rename`, `rename_all`, `rename_all_fields`, `default`,
//! `skip` and its kin, `deny_unknown_fields`, `transparent`. A field that is left out of one direction only
//! (`skip_serializing_if`, for one) is there as one that may be missing.
//!
//! What an attribute turns into a form that the types do not tell (`with`, `flatten`, `tag` …) is an error when the crate is
//! built. `#[schema(any)]` on a field says that it may be anything, or missing. That is for `with`, for types of
//! other crates, and for a type that holds itself: a constant that refers to itself has no value, and so the compiler ends
//! with "cycle detected" where two types hold each other.
//!
//! # By hand
//! ```
//! use tq_sdk::{Schema, schema::Object};
//!
//! /// A colour as `#rrggbb`.
//! struct Colour(u32);
//!
//! impl Schema for Colour {
//!     const SCHEMA: Object = Object::new(r##"{"type":"string","pattern":"^#[0-9a-f]{6}$"}"##);
//! }
//! ```

mod types;
mod write;

#[doc(hidden)]
pub use write::{line, line_bytes};

/// A type whose JSON has a known form; see [the module](self).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no JSON Schema",
    label = "no schema is known for this type",
    note = "derive `tq_sdk::Schema` for it, or write `#[schema(any)]` on the field that holds it"
)]
pub trait Schema {
    /// The JSON Schema (2020-12) of what serde_json reads and writes.
    const SCHEMA: Object;

    /// Whether a field of this type may be left out where it is read, as one of an `Option`.
    const OPTIONAL: bool = false;
}

/// A JSON Schema, as a constant. It is kept in pieces, since a constant of a generic type cannot be a text of computed length.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    #[doc(hidden)]
    pub title: &'static str,
    #[doc(hidden)]
    pub description: &'static str,
    /// The members of the object, without its braces; the title and the description come before them.
    #[doc(hidden)]
    pub members: &'static [Piece],
    /// The same as one text.
    #[doc(hidden)]
    pub text: &'static str,
}

/// A part of a schema's text.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    Text(&'static str),
    Integer(i128),
    Schema(Object),
    /// The text, and the schema behind it, if there is one.
    Optional(&'static str, Option<Object>),
    /// Those of the names that are there, with commas between them.
    Names(&'static [Option<&'static str>]),
}

impl Object {
    /// A schema as written: one JSON object on one line, without `title` and `description`, which doc comments give.
    ///
    /// # Panics
    /// If the text does not begin with `{` and end with `}`.
    #[must_use]
    pub const fn new(json: &'static str) -> Self {
        let [b'{', .., b'}'] = json.as_bytes() else {
            panic!("a JSON Schema is an object: it begins with `{{` and ends with `}}`");
        };
        Self {
            title: "",
            description: "",
            members: &[],
            text: json.split_at(json.len() - 1).0.split_at(1).1,
        }
    }

    /// With this JSON string for its title.
    #[doc(hidden)]
    #[must_use]
    pub const fn titled(self, title: &'static str) -> Self {
        Self { title, ..self }
    }

    /// With this JSON string for its description; with its own if this is empty.
    #[doc(hidden)]
    #[must_use]
    pub const fn described(self, description: &'static str) -> Self {
        match description.is_empty() {
            true => self,
            false => Self {
                description,
                ..self
            },
        }
    }
}
