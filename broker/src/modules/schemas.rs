//! What functions that were written with an SDK say of their payloads and results.

use serde_json::{Map, Value, json};
use tq_typed::with_dialect;

/// JSON Schemas of a function's payload and result, as its module has them: a hint for people and tools, which nothing
/// enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// Of its payload, as JSON text.
    pub input: Option<String>,
    /// Of its result, as JSON text.
    pub output: Option<String>,
}

/// Values in an example. One that has more is no help to anybody.
const EXAMPLE_VALUES_MAX: usize = 1_000;

impl Schemas {
    /// Whether both describe the same JSON, in whatever words.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        // The ledger asks, and most functions are as they were: nothing is read for those.
        if self == other {
            return true;
        }
        let shape = |schema: &Option<String>| schema.as_deref().and_then(read).map(shape);
        shape(&self.input) == shape(&other.input) && shape(&self.output) == shape(&other.output)
    }

    /// Both as documents of their own, each empty if there is none.
    pub fn documents(&self) -> [String; 2] {
        [&self.input, &self.output].map(|schema| {
            let schema = schema.as_deref().and_then(read).map(with_dialect);
            schema.map_or_else(String::new, |schema| schema.to_string())
        })
    }

    /// A payload that fits, if it is said what fits.
    pub fn example(&self) -> Option<String> {
        let schema = self.input.as_deref().and_then(read)?;
        let mut left = EXAMPLE_VALUES_MAX;
        example(&schema, &mut left).map(|example| example.to_string())
    }
}

fn read(schema: &str) -> Option<Value> {
    serde_json::from_str(schema).ok()
}

/// A schema without what is for people.
fn shape(schema: Value) -> Value {
    match schema {
        Value::Object(members) => {
            // A member of this name that is no text is a property, or something else than a note.
            let is_note = |key: &str, value: &Value| {
                matches!(key, "title" | "description" | "$schema") && value.is_string()
            };
            let members = members.into_iter();
            let kept = members.filter(|(key, value)| !is_note(key, value));
            kept.map(|(key, value)| (key, shape(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(shape).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema,
    }
}

/// A value that fits; none if there is no small one, or the schema says it in a way that is not read here.
fn example(schema: &Value, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    let Value::Object(schema) = schema else {
        return (*schema == Value::Bool(true)).then(|| json!({}));
    };
    if let Some(value) = schema.get("const") {
        return Some(value.clone());
    }
    for key in ["enum", "examples"] {
        if let Some(first) = schema.get(key).and_then(|values| values.get(0)) {
            return Some(first.clone());
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(first) = schema.get(key).and_then(|values| values.get(0)) {
            return example(first, left);
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first(),
        kind => kind,
    };
    match kind.and_then(Value::as_str)? {
        "null" => Some(Value::Null),
        "boolean" => Some(json!(true)),
        "integer" => Some(integer(schema)),
        "number" => Some(json!(1.5)),
        "string" if schema.contains_key("contentEncoding") => Some(json!("Ynl0ZXM=")),
        "string" if schema.get("maxLength") == Some(&json!(1)) => Some(json!("a")),
        "string" => Some(json!("text")),
        "array" => array(schema, left),
        "object" => object(schema, left),
        _ => None,
    }
}

fn integer(schema: &Map<String, Value>) -> Value {
    let bound = |key: &str| schema.get(key).filter(|bound| bound.is_number());
    let number = |bound: &Value| bound.as_f64().unwrap_or_default();
    match (bound("minimum"), bound("maximum")) {
        (Some(minimum), _) if number(minimum) > 1.0 => minimum.clone(),
        (_, Some(maximum)) if number(maximum) < 1.0 => maximum.clone(),
        (_, _) => json!(1),
    }
}

fn array(schema: &Map<String, Value>, left: &mut usize) -> Option<Value> {
    if let Some(Value::Array(items)) = schema.get("prefixItems") {
        let items = items.iter().map(|item| example(item, left));
        return items.collect::<Option<Vec<_>>>().map(Value::Array);
    }
    let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1);
    let any = Value::Bool(true);
    let of = schema.get("items").unwrap_or(&any);
    let items = (0..count).map(|_| example(of, left));
    items.collect::<Option<Vec<_>>>().map(Value::Array)
}

fn object(schema: &Map<String, Value>, left: &mut usize) -> Option<Value> {
    let mut members = Map::new();
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, schema) in properties {
            members.insert(name.clone(), example(schema, left)?);
        }
    } else if let Some(of @ Value::Object(_)) = schema.get("additionalProperties") {
        members.insert("key".to_owned(), example(of, left)?);
    }
    Some(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(input: Value) -> Schemas {
        Schemas {
            input: Some(input.to_string()),
            output: None,
        }
    }

    #[track_caller]
    fn check(schema: Value, expected: Value) {
        let example = of(schema).example().expect("there is one");
        let example: Value = serde_json::from_str(&example).expect("it is JSON");
        assert_eq!(example, expected);
    }

    #[test]
    fn example_fits_the_schema() {
        check(
            json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string" },
                    "age": { "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 255 }, { "type": "null" }] },
                    "size": { "type": "integer", "minimum": 8 },
                    "depth": { "type": "integer", "maximum": -3 },
                    "tags": { "type": "array", "items": { "enum": ["new", "old"] } },
                    "place": { "type": "array", "prefixItems": [{ "type": "number" }, { "type": "boolean" }] },
                    "pair": { "type": "array", "items": { "type": "null" }, "minItems": 2 },
                    "letter": { "type": "string", "maxLength": 1 },
                    "bytes": { "type": "string", "contentEncoding": "base64" },
                    "labels": { "type": "object", "additionalProperties": { "const": "on" } },
                    "any": true,
                },
            }),
            json!({
                "name": "text", "age": 1, "size": 8, "depth": -3, "tags": ["new"], "place": [1.5, true],
                "pair": [null, null], "letter": "a", "bytes": "Ynl0ZXM=", "labels": { "key": "on" }, "any": {},
            }),
        );
    }

    #[test]
    fn documents_say_of_which_draft_they_are() {
        let [input, output] = of(json!({ "type": "null" })).documents();
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        let expected = json!({ "$schema": dialect, "type": "null" });
        assert_eq!((input, output), (expected.to_string(), String::new()));
    }

    #[test]
    fn there_is_no_example_of_what_is_too_much_or_not_read() {
        let mut nested = json!({ "type": "boolean" });
        for _ in 0..40 {
            nested = json!({ "type": "array", "items": nested, "minItems": 9 });
        }
        let endless = json!({ "type": "array", "items": true, "minItems": u64::MAX });
        for schema in [
            nested,
            endless,
            json!({ "$ref": "#" }),
            json!(false),
            json!(3),
        ] {
            assert_eq!(of(schema.clone()).example(), None, "{schema}");
        }
        assert_eq!(Schemas::default().example(), None);
    }

    #[test]
    fn words_for_people_make_no_difference() {
        let one = |about: &str, kind: &str| {
            of(
                json!({ "title": about, "type": "object", "properties": { "title": { "type": kind, "description": about } } }),
            )
        };
        assert!(one("a", "string").is_like(&one("b", "string")));
        assert!(!one("a", "string").is_like(&one("a", "null")));
        assert!(!one("a", "string").is_like(&Schemas::default()));
    }
}
