//! The schemas of types: what they say, and that serde agrees.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::marker::PhantomData;
use std::num::NonZeroU8;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tq_sdk::Schema;
use tq_sdk::schema::Object;

fn schema<T: Schema + ?Sized>() -> Value {
    serde_json::from_str(&T::SCHEMA.to_json()).expect("a schema is JSON")
}

#[track_caller]
fn check<T: Schema + ?Sized>(expected: Value) {
    assert_eq!(schema::<T>(), expected);
}

#[test]
fn numbers_have_their_bounds() {
    fn within(min: impl Into<Value>, max: impl Into<Value>) -> Value {
        json!({ "type": "integer", "minimum": min.into(), "maximum": max.into() })
    }
    check::<u8>(within(0, 255));
    check::<i8>(within(-128, 127));
    check::<u16>(within(u16::MIN, u16::MAX));
    check::<i16>(within(i16::MIN, i16::MAX));
    check::<u32>(within(u32::MIN, u32::MAX));
    check::<i32>(within(i32::MIN, i32::MAX));
    check::<u64>(within(u64::MIN, u64::MAX));
    check::<i64>(within(i64::MIN, i64::MAX));
    check::<usize>(within(usize::MIN, usize::MAX));
    check::<NonZeroU8>(within(1, 255));
    assert_eq!(
        i128::SCHEMA.to_json(),
        format!(
            r#"{{"type":"integer","minimum":{},"maximum":{}}}"#,
            i128::MIN,
            i128::MAX
        )
    );
    check::<f32>(json!({ "type": "number" }));
    check::<f64>(json!({ "type": "number" }));
}

#[test]
fn types_of_the_standard_library_have_serdes_form() {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    check::<bool>(json!({ "type": "boolean" }));
    check::<()>(json!({ "type": "null" }));
    check::<char>(json!({ "type": "string", "minLength": 1, "maxLength": 1 }));
    check::<String>(text.clone());
    check::<&str>(text.clone());
    check::<Cow<'static, str>>(text.clone());
    check::<Box<str>>(text.clone());
    check::<Arc<String>>(text.clone());
    check::<Value>(json!({}));
    check::<Option<String>>(json!({ "anyOf": [text, { "type": "null" }] }));
    check::<Vec<String>>(texts.clone());
    check::<&[String]>(texts.clone());
    check::<VecDeque<String>>(texts.clone());
    check::<HashSet<String>>(texts.clone());
    check::<BTreeSet<String>>(texts);
    check::<[bool; 3]>(json!({
        "type": "array", "items": { "type": "boolean" }, "minItems": 3, "maxItems": 3
    }));
    let map = json!({ "type": "object", "additionalProperties": { "type": "boolean" } });
    check::<BTreeMap<String, bool>>(map.clone());
    check::<HashMap<String, bool>>(map);
    check::<(bool, String)>(json!({
        "type": "array",
        "prefixItems": [{ "type": "boolean" }, text],
        "items": false,
        "minItems": 2,
    }));
}

/// Where `a "thing"` lies.
#[derive(Serialize, Deserialize, Schema, Debug, Clone, PartialEq)]
struct Point {
    /// To the right.
    x: i8,
    y: Option<i8>,
    #[serde(default)]
    label: String,
}

fn point() -> Value {
    json!({
        "title": "Point",
        "description": "Where `a \"thing\"` lies.",
        "type": "object",
        "properties": {
            "x": { "description": "To the right.", "type": "integer", "minimum": -128, "maximum": 127 },
            "y": { "anyOf": [{ "type": "integer", "minimum": -128, "maximum": 127 }, { "type": "null" }] },
            "label": { "type": "string" },
        },
        "required": ["x"],
    })
}

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Renamed {
    unit_price: u8,
    #[serde(rename = "of \"all\"")]
    sum: u8,
    r#type: bool,
    #[serde(skip)]
    cache: PhantomData<fn()>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    tags: Vec<String>,
    /// Where from, which says more than what a point is.
    origin: Point,
    target: Point,
}

#[derive(Serialize, Deserialize, Schema, Debug, Clone, Default)]
#[serde(default)]
struct Defaults {
    a: u8,
    b: String,
}

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Metres(u8);

/// A newtype is not left out, whatever it holds.
#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Maybe(Option<u8>);

/// Größe und Form – of another crate.
#[derive(Schema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Foreign(#[schema(any)] std::thread::Thread);

/// A way.
#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
#[serde(transparent)]
struct Way {
    steps: Option<Metres>,
    #[serde(skip)]
    _unit: PhantomData<u8>,
}

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Pair(bool, pub (u8, Way));

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Nothing;

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Empty {}

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Ways {
    first: Way,
    metres: Metres,
    nothing: Nothing,
    empty: Empty,
    boxed: Box<Option<u8>>,
    maybe: Maybe,
}

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
#[repr(u8)]
enum Level {
    NotYet = 3,
    #[serde(rename = "done")]
    Finished = 5,
    #[serde(skip)]
    #[expect(dead_code, reason = "it is neither written nor read")]
    Unknown,
}

#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
#[serde(
    rename_all = "snake_case",
    rename_all_fields = "UPPERCASE",
    deny_unknown_fields
)]
enum Shape {
    /// No extent at all.
    JustADot,
    Circle(/** Its half. */ u8),
    Line(i8, i8),
    Rectangle {
        /// Sideways.
        width: u8,
        height: Option<u8>,
    },
    #[serde(rename_all = "kebab-case")]
    Other {
        corner_points: Vec<Point>,
    },
}

/// A part of a list.
#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Page<'a, T: Clone>
where
    T: 'a,
{
    items: Vec<T>,
    next: Option<Cow<'a, str>>,
    and_then: HashMap<String, T>,
}

/// A tree, which cannot say what it holds.
#[derive(Serialize, Deserialize, Schema, Debug, Clone)]
struct Tree {
    /// More of them.
    #[schema(any)]
    branches: Vec<Tree>,
    #[schema(any)]
    #[serde(with = "as_text")]
    leaves: u32,
}

mod as_text {
    use super::*;

    pub(crate) fn serialize<S: serde::Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        value.to_string().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Eight bits.
struct Mask;

impl Schema for Mask {
    const SCHEMA: Object = Object::new(r#"{"type":"string","pattern":"^[01]{8}$"}"#);
}

#[derive(Schema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Masked {
    /// What passes.
    mask: Mask,
}

#[test]
fn structs_have_the_form_that_their_attributes_make() {
    check::<Point>(point());
    let mut origin = point();
    origin["description"] = json!("Where from, which says more than what a point is.");
    check::<Renamed>(json!({
        "title": "Renamed",
        "type": "object",
        "properties": {
            "unitPrice": schema::<u8>(),
            "of \"all\"": schema::<u8>(),
            "type": { "type": "boolean" },
            "tags": { "type": "array", "items": { "type": "string" } },
            "origin": origin,
            "target": point(),
        },
        "required": ["unitPrice", "of \"all\"", "type", "origin", "target"],
        "additionalProperties": false,
    }));
    check::<Defaults>(json!({
        "title": "Defaults",
        "type": "object",
        "properties": { "a": schema::<u8>(), "b": { "type": "string" } },
        "required": [],
    }));
    check::<Metres>(json!({ "title": "Metres", "type": "integer", "minimum": 0, "maximum": 255 }));
    let way = json!({
        "title": "Way",
        "description": "A way.",
        "anyOf": [schema::<Metres>(), { "type": "null" }],
    });
    check::<Way>(way.clone());
    check::<Pair>(json!({
        "title": "Pair",
        "type": "array",
        "prefixItems": [
            { "type": "boolean" },
            { "type": "array", "prefixItems": [schema::<u8>(), way], "items": false, "minItems": 2 },
        ],
        "items": false,
        "minItems": 2,
    }));
    check::<Foreign>(
        json!({ "title": "Foreign", "description": "Größe und Form – of another crate." }),
    );
    check::<Nothing>(json!({ "title": "Nothing", "type": "null" }));
    // A field may be missing if its type says so, whatever it is called.
    assert_eq!(
        schema::<Ways>()["required"],
        json!(["metres", "nothing", "empty", "maybe"])
    );
    check::<Tree>(json!({
        "title": "Tree",
        "description": "A tree, which cannot say what it holds.",
        "type": "object",
        "properties": { "branches": { "description": "More of them." }, "leaves": {} },
        "required": [],
    }));
    check::<Masked>(json!({
        "title": "Masked",
        "type": "object",
        "properties": {
            "mask": { "description": "What passes.", "type": "string", "pattern": "^[01]{8}$" },
        },
        "required": ["mask"],
    }));
}

#[test]
fn enums_are_names_or_objects_of_one_member() {
    fn case(description: Option<&str>, name: &str, value: Value) -> Value {
        let mut case = json!({
            "type": "object",
            "properties": { name: value },
            "required": [name],
            "additionalProperties": false,
        });
        if let Some(description) = description {
            case["description"] = json!(description);
        }
        case
    }
    check::<Level>(json!({ "title": "Level", "enum": ["NOT-YET", "done"] }));
    let mut radius = schema::<u8>();
    radius["description"] = json!("Its half.");
    let mut width = schema::<u8>();
    width["description"] = json!("Sideways.");
    check::<Shape>(json!({
        "title": "Shape",
        "oneOf": [
            { "description": "No extent at all.", "const": "just_a_dot" },
            case(None, "circle", radius),
            case(None, "line", schema::<(i8, i8)>()),
            case(None, "rectangle", json!({
                "type": "object",
                "properties": { "WIDTH": width, "HEIGHT": schema::<Option<u8>>() },
                "required": ["WIDTH"],
                "additionalProperties": false,
            })),
            case(None, "other", json!({
                "type": "object",
                "properties": { "corner-points": { "type": "array", "items": point() } },
                "required": ["corner-points"],
                "additionalProperties": false,
            })),
        ],
    }));
}

#[test]
fn generic_types_have_the_schema_of_their_arguments() {
    check::<Page<'_, Metres>>(json!({
        "title": "Page",
        "description": "A part of a list.",
        "type": "object",
        "properties": {
            "items": { "type": "array", "items": schema::<Metres>() },
            "next": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
            "and_then": { "type": "object", "additionalProperties": schema::<Metres>() },
        },
        "required": ["items", "and_then"],
    }));
    #[derive(Serialize, Deserialize, Schema)]
    struct Holds<T> {
        held: T,
    }
    assert_eq!(schema::<Holds<u8>>()["required"], json!(["held"]));
    assert_eq!(schema::<Holds<Option<u8>>>()["required"], json!([]));
    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Ends<const N: usize = 2>([u8; N], [u8; 1]);
    assert_eq!(schema::<Ends>()["prefixItems"][0], schema::<[u8; 2]>());
}

/// Whether a value is one of a schema's: as much of JSON Schema as the SDK writes, and not a word more.
fn fits(schema: &Value, value: &Value) -> bool {
    let schema = match schema {
        Value::Bool(all) => return *all,
        other => other.as_object().expect("a schema is an object"),
    };
    let all = |of: &Value| of.as_array().expect("it is a list").clone();
    schema.iter().all(|(keyword, rule)| match keyword.as_str() {
        "title" | "description" => rule.is_string(),
        "type" => match rule.as_str().expect("there is one type") {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("there is no type `{other}`"),
        },
        "enum" => all(rule).contains(value),
        "const" => value == rule,
        "anyOf" => all(rule).iter().any(|schema| fits(schema, value)),
        "oneOf" => {
            all(rule)
                .iter()
                .filter(|schema| fits(schema, value))
                .count()
                == 1
        }
        // Small numbers are all that the tests have, and so are exact.
        "minimum" => value
            .as_f64()
            .is_none_or(|number| number >= rule.as_f64().expect("it is a number")),
        "maximum" => value
            .as_f64()
            .is_none_or(|number| number <= rule.as_f64().expect("it is a number")),
        "minLength" => value.as_str().is_none_or(|text| {
            text.chars().count() as u64 >= rule.as_u64().expect("it is a number")
        }),
        "maxLength" => value.as_str().is_none_or(|text| {
            text.chars().count() as u64 <= rule.as_u64().expect("it is a number")
        }),
        "minItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("it is a number")),
        "maxItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 <= rule.as_u64().expect("it is a number")),
        "prefixItems" => value.as_array().is_none_or(|items| {
            items
                .iter()
                .zip(&all(rule))
                .all(|(item, schema)| fits(schema, item))
        }),
        "items" => {
            let behind = schema
                .get("prefixItems")
                .map_or(0, |prefix| all(prefix).len());
            value
                .as_array()
                .is_none_or(|items| items.iter().skip(behind).all(|item| fits(rule, item)))
        }
        "properties" => value.as_object().is_none_or(|members| {
            members
                .iter()
                .all(|(name, member)| rule.get(name).is_none_or(|schema| fits(schema, member)))
        }),
        "required" => value.as_object().is_none_or(|members| {
            all(rule)
                .iter()
                .all(|name| members.contains_key(name.as_str().expect("it is a name")))
        }),
        "additionalProperties" => value.as_object().is_none_or(|members| {
            members.iter().all(|(name, member)| {
                schema
                    .get("properties")
                    .is_some_and(|known| known.get(name).is_some())
                    || fits(rule, member)
            })
        }),
        other => panic!("the SDK does not write `{other}`"),
    })
}

/// The value with another in each place in turn, without each member, and with one more item or member.
fn broken(value: &Value) -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(true),
        json!(-129),
        json!(0),
        json!(256),
        json!(1.5),
        json!(""),
        json!("é"),
        json!("circle"),
        json!([]),
        json!({}),
        json!({ "circle": 3, "line": [1, 2] }),
    ];
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                for other in broken(item) {
                    let mut items = items.clone();
                    items[index] = other;
                    all.push(items.into());
                }
                let mut items = items.clone();
                items.remove(index);
                all.push(items.into());
            }
            all.push(items.iter().cloned().chain([json!(1)]).collect());
        }
        Value::Object(members) => {
            for (name, member) in members {
                for other in broken(member) {
                    let mut members = members.clone();
                    members.insert(name.clone(), other);
                    all.push(members.into());
                }
                let mut members = members.clone();
                members.remove(name);
                all.push(members.into());
            }
            let mut members = members.clone();
            members.insert("nosuch".to_owned(), json!(1));
            all.push(members.into());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

/// What serde writes fits, and what fits is read; of what serde does not read, nothing fits.
#[track_caller]
fn agrees<T: Schema + Serialize + DeserializeOwned>(values: &[T]) {
    let schema = schema::<T>();
    let (mut read, mut refused) = (0, 0);
    for value in values {
        let value = serde_json::to_value(value).expect("it can be written");
        assert!(fits(&schema, &value), "{value} does not fit {schema}");
        for other in broken(&value) {
            match serde_json::from_value::<T>(other.clone()) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert!(!fits(&schema, &other), "{other} fits {schema}, but {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(read + refused > 0 && refused > 0, "{read} {refused}");
}

#[test]
fn serde_reads_and_writes_what_the_schemas_say() {
    let point = Point {
        x: -128,
        y: Some(3),
        label: "a".to_owned(),
    };
    let bare = Point {
        y: None,
        ..point.clone()
    };
    let way = |steps| Way {
        steps,
        _unit: PhantomData,
    };
    agrees(&[0_u8, 255]);
    agrees(&[f64::MIN, 0.0]);
    agrees(&['a', '\u{10ffff}']);
    agrees(&[Some(String::new()), None]);
    agrees(&[(1_i8, vec![Some(true), None])]);
    agrees(&[[1_u8, 2]]);
    agrees(&[BTreeMap::from([("a".to_owned(), point.clone())])]);
    agrees(&[NonZeroU8::MIN]);
    agrees(&[point.clone(), bare.clone()]);
    agrees(&[Renamed {
        unit_price: 1,
        sum: 2,
        r#type: true,
        cache: PhantomData,
        tags: vec!["x".to_owned()],
        origin: point.clone(),
        target: bare.clone(),
    }]);
    agrees(&[Defaults::default()]);
    agrees(&[Metres(7)]);
    agrees(&[way(Some(Metres(1))), way(None)]);
    agrees(&[Pair(true, (1, way(None)))]);
    agrees(&[Nothing]);
    agrees(&[Ways {
        first: way(None),
        metres: Metres(1),
        nothing: Nothing,
        empty: Empty {},
        boxed: Box::new(None),
        maybe: Maybe(None),
    }]);
    agrees(&[Level::NotYet, Level::Finished]);
    agrees(&[
        Shape::JustADot,
        Shape::Circle(3),
        Shape::Line(-1, 1),
        Shape::Rectangle {
            width: 1,
            height: None,
        },
        Shape::Other {
            corner_points: vec![point.clone(), bare],
        },
    ]);
    agrees(&[Page::<Point> {
        items: vec![point.clone()],
        next: Some("b".into()),
        and_then: HashMap::from([("c".to_owned(), point)]),
    }]);
}

/// Serde's word for every case is the derive's too.
#[test]
fn every_case_is_serdes() {
    macro_rules! cases {
        ($($case:literal)+) => {
            $({
                #[derive(Serialize, Deserialize, Schema)]
                #[serde(rename_all = $case)]
                struct Names { one: u8, two_words: u8, _odd_name: u8, with_2_digits: u8 }
                #[derive(Serialize, Deserialize, Schema)]
                #[serde(rename_all = $case)]
                enum Kinds { One, TwoWords, HTTPServer, With2Digits }
                agrees(&[Names { one: 1, two_words: 2, _odd_name: 3, with_2_digits: 4 }]);
                agrees(&[Kinds::One, Kinds::TwoWords, Kinds::HTTPServer, Kinds::With2Digits]);
            })+
        };
    }
    cases! {
        "lowercase" "UPPERCASE" "PascalCase" "camelCase" "snake_case" "SCREAMING_SNAKE_CASE" "kebab-case" "SCREAMING-KEBAB-CASE"
    }
}
