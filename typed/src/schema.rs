//! JSON Schema (2020-12) of what a function takes and gives.

use serde_json::{Map, Value as Json, json};

use crate::{Field, Function, Type};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

impl Function {
    /// What a payload has to be.
    #[must_use]
    pub fn input_schema(&self) -> Json {
        with_dialect(object("", &self.params))
    }

    /// What its result is: `null` if it gives nothing.
    #[must_use]
    pub fn output_schema(&self) -> Json {
        with_dialect(match &self.result {
            None => null(),
            Some(Type::Result { ok, err: _ }) => side(ok),
            Some(ty) => schema(ty),
        })
    }

    /// What it fails with, if it can: then its failure's message is this.
    #[must_use]
    pub fn error_schema(&self) -> Option<Json> {
        match &self.result {
            Some(Type::Result { ok: _, err }) => Some(with_dialect(side(err))),
            Some(_) | None => None,
        }
    }
}

/// A schema that says of which draft it is.
#[must_use]
pub fn with_dialect(mut schema: Json) -> Json {
    if let Json::Object(members) = &mut schema {
        members.insert("$schema".to_owned(), json!(DIALECT));
    }
    schema
}

fn null() -> Json {
    json!({ "type": "null" })
}

fn side(ty: &Option<Box<Type>>) -> Json {
    ty.as_ref().map_or_else(null, |ty| schema(ty))
}

fn schema(ty: &Type) -> Json {
    fn within<T: serde::Serialize>(min: T, max: T) -> Json {
        json!({ "type": "integer", "minimum": min, "maximum": max })
    }
    fn or_digits(number: Json, pattern: &str) -> Json {
        json!({ "anyOf": [number, { "type": "string", "pattern": pattern }] })
    }
    match ty {
        Type::Bool => json!({ "type": "boolean" }),
        Type::S8 => within(i8::MIN, i8::MAX),
        Type::U8 => within(u8::MIN, u8::MAX),
        Type::S16 => within(i16::MIN, i16::MAX),
        Type::U16 => within(u16::MIN, u16::MAX),
        Type::S32 => within(i32::MIN, i32::MAX),
        Type::U32 => within(u32::MIN, u32::MAX),
        Type::S64 => or_digits(within(i64::MIN, i64::MAX), "^-?[0-9]+$"),
        Type::U64 => or_digits(within(u64::MIN, u64::MAX), "^[0-9]+$"),
        Type::F32 | Type::F64 => json!({
            "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }]
        }),
        Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Type::String => json!({ "type": "string" }),
        Type::List(_) if ty.is_bytes() => {
            json!({ "type": "string", "contentEncoding": "base64" })
        }
        Type::List(element) => json!({ "type": "array", "items": schema(element) }),
        Type::Option(some) => {
            let some = match **some {
                Type::Option(_) => member("some", schema(some)),
                _ => schema(some),
            };
            json!({ "anyOf": [some, { "type": "null" }] })
        }
        Type::Result { ok, err } => json!({
            "oneOf": [member("ok", side(ok)), member("err", side(err))]
        }),
        Type::Tuple(types) => json!({
            "type": "array",
            "prefixItems": types.iter().map(schema).collect::<Vec<_>>(),
            "items": false,
            "minItems": types.len(),
        }),
        Type::Record { name, fields } => object(name, fields),
        Type::Variant { name, cases } => {
            let cases = cases.iter().map(|case| match &case.ty {
                None => json!({ "const": case.name }),
                Some(ty) => member(&case.name, schema(ty)),
            });
            titled(name, json!({ "oneOf": cases.collect::<Vec<_>>() }))
        }
        Type::Enum { name, cases } => titled(name, json!({ "enum": cases })),
        Type::Flags { name, flags } => titled(
            name,
            json!({ "type": "array", "items": { "enum": flags }, "uniqueItems": true }),
        ),
    }
}

/// An object of exactly one member.
fn member(name: &str, schema: Json) -> Json {
    json!({
        "type": "object",
        "properties": { name: schema },
        "required": [name],
        "additionalProperties": false,
    })
}

fn object(name: &str, fields: &[Field]) -> Json {
    let properties = fields
        .iter()
        .map(|field| (field.name.clone(), schema(&field.ty)));
    let required = fields
        .iter()
        .filter(|field| !matches!(field.ty, Type::Option(_)))
        .map(|field| &field.name);
    titled(
        name,
        json!({
            "type": "object",
            "properties": properties.collect::<Map<_, _>>(),
            "required": required.collect::<Vec<_>>(),
            "additionalProperties": false,
        }),
    )
}

/// With the name that the component gives the type.
fn titled(name: &str, mut schema: Json) -> Json {
    if let Json::Object(members) = &mut schema
        && !name.is_empty()
    {
        members.insert("title".to_owned(), json!(name));
    }
    schema
}
