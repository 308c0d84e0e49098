//! The mapping, from types and payloads to values and back.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json as literal;
use tq_core::limits::{TYPED_DEPTH_MAX, TYPED_TYPES_MAX, TYPED_VALUES_MAX};

use super::*;

fn list(element: Type) -> Type {
    Type::List(Box::new(element))
}

fn option(some: Type) -> Type {
    Type::Option(Box::new(some))
}

fn result(ok: Option<Type>, err: Option<Type>) -> Type {
    Type::Result {
        ok: ok.map(Box::new),
        err: err.map(Box::new),
    }
}

fn fields(fields: Vec<(&str, Type)>) -> Vec<Field> {
    let fields = fields.into_iter().map(|(name, ty)| Field {
        name: name.to_owned(),
        ty,
    });
    fields.collect()
}

fn record(of: Vec<(&str, Type)>) -> Type {
    Type::Record {
        name: "order".to_owned(),
        fields: fields(of),
    }
}

fn variant(cases: Vec<(&str, Option<Type>)>) -> Type {
    let cases = cases.into_iter().map(|(name, ty)| Case {
        name: name.to_owned(),
        ty,
    });
    Type::Variant {
        name: "shape".to_owned(),
        cases: cases.collect(),
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn colours() -> Type {
    Type::Enum {
        name: "colour".to_owned(),
        cases: names(&["red", "dark-blue"]),
    }
}

fn rights() -> Type {
    Type::Flags {
        name: "rights".to_owned(),
        flags: names(&["read", "write", "run"]),
    }
}

/// JSON goes in, and the same or its plain form comes out.
#[track_caller]
fn check(ty: &Type, given: &str, back: &str) {
    let value = value(ty, given.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let json = json(ty, &value, usize::MAX).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), back);
}

#[track_caller]
fn check_refused(ty: &Type, given: &str, expected: &str) {
    let error = value(ty, given.as_bytes()).expect_err("it does not fit");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn each_type_has_its_json() {
    let same = |ty: &Type, given: &str| check(ty, given, given);
    same(&Type::Bool, "true");
    same(&Type::S8, "-128");
    same(&Type::U8, "255");
    same(&Type::S16, "-32768");
    same(&Type::U16, "65535");
    same(&Type::S32, "-2147483648");
    same(&Type::U32, "4294967295");
    same(&Type::F64, "0.1");
    same(&Type::F64, "-0.0");
    same(&Type::F32, "0.1");
    check(&Type::F64, "3", "3.0");
    same(&Type::Char, "\"é\"");
    check(&Type::Char, "\"\\ud83d\\ude00\"", "\"😀\"");
    same(&Type::String, "\"a\\\"b\\u0000\"");
    same(&list(Type::U16), "[1,2]");
    same(&list(Type::U8), "\"AQL/\"");
    same(&list(list(Type::U8)), "[\"\",\"AQ==\"]");
    same(&Type::Tuple(vec![Type::Bool, Type::U8]), "[true,1]");
    same(&colours(), "\"dark-blue\"");
    same(&rights(), "[]");
    check(&rights(), "[\"run\",\"read\"]", "[\"read\",\"run\"]");
    same(&result(Some(Type::U8), Some(Type::String)), "{\"ok\":1}");
    same(&result(None, None), "{\"err\":null}");
    let shape = variant(vec![("none", None), ("circle", Some(Type::F32))]);
    same(&shape, "\"none\"");
    same(&shape, "{\"circle\":1.5}");
    let order = record(vec![("item-id", Type::U8), ("note", option(Type::String))]);
    check(
        &order,
        "{\"note\":\"x\",\"item-id\":1}",
        "{\"item-id\":1,\"note\":\"x\"}",
    );
    check(&order, "{\"item-id\":1}", "{\"item-id\":1,\"note\":null}");
}

#[test]
fn numbers_of_64_bits_are_strings_where_javascript_would_round_them() {
    for (ty, given, back) in [
        (Type::U64, "9007199254740992", "9007199254740992"),
        (Type::U64, "9007199254740993", "\"9007199254740993\""),
        (Type::U64, "\"5\"", "5"),
        (
            Type::U64,
            "18446744073709551615",
            "\"18446744073709551615\"",
        ),
        (Type::S64, "-9007199254740992", "-9007199254740992"),
        (
            Type::S64,
            "\"-9223372036854775808\"",
            "\"-9223372036854775808\"",
        ),
    ] {
        check(&ty, given, back);
    }
    let digits = "u64 (a whole number of 64 bits without a sign, or its digits as a string)";
    for (given, shown) in [
        ("-1", "-1"),
        ("\"-1\"", "\"-1\""),
        ("\"+1\"", "\"+1\""),
        ("\"\"", "\"\""),
        ("1.0", "1.0"),
        ("18446744073709551616", "1.8446744073709552e19"),
    ] {
        check_refused(
            &Type::U64,
            given,
            &format!("at `$`: expected {digits}, got {shown}"),
        );
    }
}

#[test]
fn what_is_no_number_is_a_string() {
    for ty in [Type::F32, Type::F64] {
        for word in ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""] {
            check(&ty, word, word);
        }
    }
    check_refused(
        &Type::F32,
        "1e39",
        "at `$`: expected f32 (a number, \"NaN\", \"Infinity\" or \"-Infinity\"), got 1e39",
    );
}

#[test]
fn options_of_options_can_be_told_apart() {
    let twice = option(option(Type::U8));
    for given in ["null", "{\"some\":null}", "{\"some\":1}"] {
        check(&twice, given, given);
    }
    let thrice = option(twice.clone());
    for given in [
        "null",
        "{\"some\":null}",
        "{\"some\":{\"some\":null}}",
        "{\"some\":{\"some\":7}}",
    ] {
        check(&thrice, given, given);
    }
    check_refused(&twice, "1", "at `$`: expected null or {\"some\": …}, got 1");
    // An option of something that is never null has no need of it.
    check(
        &option(result(None, None)),
        "{\"ok\":null}",
        "{\"ok\":null}",
    );
}

#[test]
fn errors_name_the_place() {
    let item = record(vec![("price", Type::F64), ("colour", option(colours()))]);
    let order = record(vec![("items", list(item)), ("rights", rights())]);
    let cases = [
        (
            r#"{"items":[{"price":1},{"price":"2"}]}"#,
            r#"at `$.items[1].price`: expected f64 (a number, "NaN", "Infinity" or "-Infinity"), got "2""#,
        ),
        (
            r#"{"items":[{"price":1,"colour":"green"}]}"#,
            r#"at `$.items[0].colour`: expected one of "red", "dark-blue" or null, got "green""#,
        ),
        (
            r#"{"items":[{"colour":"red"}]}"#,
            r#"at `$.items[0].price`: expected f64 (a number, "NaN", "Infinity" or "-Infinity"), got nothing"#,
        ),
        (
            r#"{"items":[{"price":1,"prize":2}]}"#,
            "at `$.items[0].prize`: there is no such field; there are `price`, `colour`",
        ),
        (
            r#"{"a b\n":1}"#,
            "at `$[\"a b\\n\"]`: there is no such field; there are `items`, `rights`",
        ),
        (
            r#"{"items":[],"items":[]}"#,
            "at `$.items`: it is given twice",
        ),
        (
            r#"{"rights":["read","read"]}"#,
            "at `$.rights[1]`: it is given twice",
        ),
        (
            r#"{"rights":["fly"]}"#,
            r#"at `$.rights[0]`: expected one of "read", "write", "run", got "fly""#,
        ),
        (
            r#"{"rights":[3]}"#,
            r#"at `$.rights[0]`: expected one of "read", "write", "run", got 3"#,
        ),
        (
            r#"{"rights":7}"#,
            r#"at `$.rights`: expected an array of "read", "write", "run", got 7"#,
        ),
        (
            r#"{"items":[1]}"#,
            "at `$.items[0]`: expected an object with the fields `price`, `colour`, got 1",
        ),
        (
            r#"{"items":null}"#,
            "at `$.items`: expected an array, got null",
        ),
        (
            r#"{"items":[}"#,
            "it is not JSON: expected value at line 1 column 11",
        ),
        (
            r#"{"items":[]"#,
            "it is not JSON: EOF while parsing an object at line 1 column 11",
        ),
        (
            r#"{"items":[],"rights":[]} x"#,
            "it is not JSON: trailing characters at line 1 column 26",
        ),
    ];
    for (given, expected) in cases {
        check_refused(&order, given, expected);
    }
}

#[test]
fn forms_that_are_near_are_refused() {
    check_refused(
        &list(Type::U8),
        "[1,2]",
        "at `$`: expected a string in base64, with padding, got an array",
    );
    check_refused(
        &list(Type::U8),
        "\"AQ\"",
        "at `$`: expected a string in base64, with padding, got \"AQ\"",
    );
    check_refused(
        &Type::U8,
        "256",
        "at `$`: expected u8 (a whole number from 0 to 255), got 256",
    );
    check_refused(
        &Type::U8,
        "1.0",
        "at `$`: expected u8 (a whole number from 0 to 255), got 1.0",
    );
    check_refused(
        &Type::Char,
        "\"ab\"",
        "at `$`: expected a string of one character, got \"ab\"",
    );
    let pair = Type::Tuple(vec![Type::U8, Type::U8]);
    check_refused(
        &pair,
        "[1]",
        "at `$`: expected an array of 2, got an array of 1",
    );
    check_refused(
        &pair,
        "[1,2,3]",
        "at `$`: expected an array of 2, got an array of more than 2",
    );
    let shape = variant(vec![("none", None), ("circle", Some(Type::U8))]);
    for (given, shown) in [
        ("\"circle\"", "\"circle\""),
        ("{\"none\":null}", "an object with \"none\""),
        (
            "{\"circle\":1,\"none\":1}",
            "an object with several members",
        ),
        ("{}", "an empty object"),
    ] {
        let expected = format!("at `$`: expected one of \"none\", {{\"circle\": …}}, got {shown}");
        check_refused(&shape, given, &expected);
    }
    let outcome = result(None, Some(Type::U8));
    check_refused(
        &outcome,
        "{\"ok\":1}",
        "at `$.ok`: expected null, got something",
    );
    check_refused(
        &outcome,
        "{\"good\":1}",
        "at `$`: expected {\"ok\": …} or {\"err\": …}, got an object with \"good\"",
    );
    check_refused(
        &outcome,
        "{\"err\":-1}",
        "at `$.err`: expected u8 (a whole number from 0 to 255), got -1",
    );
    // Quoted texts are cut.
    let long = format!("\"{}\"", "x".repeat(1_000));
    let expected = format!(
        "at `$`: expected true or false, got \"{}…\"",
        "x".repeat(40)
    );
    check_refused(&Type::Bool, &long, &expected);
}

#[test]
fn arguments_are_one_object() {
    let function = Function {
        params: fields(vec![("a", Type::U8), ("b", option(Type::String))]),
        result: None,
    };
    let none = Function::default();
    assert_eq!(
        arguments(&function, b"{\"a\":1}"),
        Ok(vec![Value::U8(1), Value::Option(None)])
    );
    assert_eq!(arguments(&none, b" \n"), Ok(Vec::new()));
    assert_eq!(arguments(&none, b"{}"), Ok(Vec::new()));
    let refused = |function: &Function, payload: &str| {
        arguments(function, payload.as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&function, "1"),
        "at `$`: expected an object with the arguments `a`, `b`, got 1"
    );
    assert_eq!(
        refused(&function, ""),
        "at `$.a`: expected u8 (a whole number from 0 to 255), got nothing"
    );
    assert_eq!(
        refused(&function, "{\"a\":1,\"c\":1}"),
        "at `$.c`: there is no such argument; there are `a`, `b`"
    );
    assert_eq!(
        refused(&none, "[]"),
        "at `$`: expected an empty object, since it takes no arguments, got an array"
    );
    assert_eq!(
        refused(&none, "{\"a\":1}"),
        "at `$.a`: there is no such argument; there are none"
    );
}

#[test]
fn values_are_bounded() {
    let items = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
    let ty = list(Type::U32);
    assert!(value(&ty, items(TYPED_VALUES_MAX - 1).as_bytes()).is_ok());
    assert_eq!(
        value(&ty, items(TYPED_VALUES_MAX).as_bytes()),
        Err(Error::TooMany)
    );
    let bytes = |groups: usize| format!("\"{}\"", "AAAA".repeat(groups));
    let ty = list(Type::U8);
    assert!(value(&ty, bytes(TYPED_VALUES_MAX / 3 - 1).as_bytes()).is_ok());
    assert_eq!(
        value(&ty, bytes(TYPED_VALUES_MAX / 3 + 1).as_bytes()),
        Err(Error::TooMany)
    );
}

#[test]
fn what_is_not_written_is_counted_too() {
    let of = |name: &str, count: usize| {
        let ty = list(record(vec![(name, option(Type::U8))]));
        value(&ty, format!("[{}{{}}]", "{},".repeat(count - 1)).as_bytes()).map(drop)
    };
    // A record and its field.
    assert_eq!(of("a", TYPED_VALUES_MAX / 2 - 1), Ok(()));
    assert_eq!(of("a", TYPED_VALUES_MAX / 2), Err(Error::TooMany));
    // And one more for each 64 bytes of a name.
    let long = "a".repeat(640);
    assert_eq!(of(&long, TYPED_VALUES_MAX / 12 - 1), Ok(()));
    assert_eq!(of(&long, TYPED_VALUES_MAX / 12 + 1), Err(Error::TooMany));
}

#[test]
fn json_is_bounded_while_it_is_made() {
    let text = Value::String("\0".repeat(10));
    assert_eq!(json(&Type::String, &text, 61), Err(TooLong(61)));
    assert_eq!(json(&Type::String, &text, 62).unwrap().len(), 62);
    let bytes = Value::Bytes(vec![0; 30]);
    assert_eq!(json(&list(Type::U8), &bytes, 41), Err(TooLong(41)));
    assert_eq!(json(&list(Type::U8), &bytes, 42).unwrap().len(), 42);
}

#[test]
fn deepest_type_is_read() {
    // The worst for the parser: two levels of JSON for each of the type.
    let mut ty = Type::U8;
    let mut given = "1".to_owned();
    for _ in 1..TYPED_DEPTH_MAX {
        ty = variant(vec![("some-case", Some(ty))]);
        given = format!("{{\"some-case\":{given}}}");
    }
    check(&ty, &given, &given);
}

#[test]
fn types_are_counted() {
    let mut measure = Measure::default();
    assert_eq!(measure.count(TYPED_DEPTH_MAX + 1), Err(Uncallable::TooDeep));
    for _ in 0..TYPED_TYPES_MAX {
        assert_eq!(measure.count(1), Ok(()));
    }
    assert_eq!(measure.count(1), Err(Uncallable::TooManyTypes));
    assert_eq!(measure.name(&"n".repeat(16 * 1024)).map(drop), Ok(()));
    assert_eq!(measure.name("n"), Err(Uncallable::TooLongNames));
}

fn resize() -> Function {
    let size = Type::Record {
        name: "size".to_owned(),
        fields: fields(vec![("width", Type::U32), ("height", option(Type::U32))]),
    };
    Function {
        params: fields(vec![("image", list(Type::U8)), ("to", size)]),
        result: Some(result(
            Some(Type::Tuple(vec![list(Type::U8), rights()])),
            Some(variant(vec![
                ("too-large", Some(Type::U64)),
                ("broken", None),
            ])),
        )),
    }
}

#[test]
fn signature_is_written_as_wit() {
    assert_eq!(
        resize().signature("resize"),
        "resize: func(image: list<u8>, to: size) -> result<tuple<list<u8>, rights>, shape>"
    );
    assert_eq!(
        resize().definitions(),
        [
            "record size { width: u32, height: option<u32> }",
            "flags rights { read, write, run }",
            "variant shape { too-large(u64), broken }",
        ]
    );
    assert_eq!(Function::default().signature("now"), "now: func()");
    let unnamed = Function {
        params: Vec::new(),
        result: Some(resize().unnamed_for_tests()),
    };
    assert_eq!(
        unnamed.signature("f"),
        "f: func() -> record { width: u32, height: option<u32> }"
    );
    assert!(unnamed.definitions().is_empty());
}

impl Function {
    fn unnamed_for_tests(&self) -> Type {
        self.params[1].ty.unnamed()
    }
}

#[test]
fn names_of_types_make_no_difference() {
    let mut other = resize();
    other.params[1].ty = other.params[1].ty.unnamed();
    assert_ne!(resize(), other);
    assert!(resize().is_like(&other));
    other.params[1].name.push('s');
    assert!(!resize().is_like(&other));
}

#[test]
fn schema_says_what_fits() {
    let function = resize();
    assert_eq!(
        function.input_schema(),
        literal!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "image": { "type": "string", "contentEncoding": "base64" },
                "to": {
                    "title": "size",
                    "type": "object",
                    "properties": {
                        "width": { "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32 },
                        "height": { "anyOf": [
                            { "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32 },
                            { "type": "null" },
                        ] },
                    },
                    "required": ["width"],
                    "additionalProperties": false,
                },
            },
            "required": ["image", "to"],
            "additionalProperties": false,
        })
    );
    assert_eq!(function.output_schema()["minItems"], 2);
    assert_eq!(function.error_schema().unwrap()["title"], "shape");
    assert_eq!(Function::default().error_schema(), None);
    assert_eq!(Function::default().output_schema()["type"], "null");
}

/// Whether a document is valid under a schema, as far as ours go. What only describes is not looked at.
fn is_valid(schema: &serde_json::Value, document: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    let Json::Object(rules) = schema else {
        return schema == &Json::Bool(true);
    };
    let of = |rule: &Json, document: &Json| {
        let schemas = rule.as_array().unwrap().iter();
        schemas.filter(|schema| is_valid(schema, document)).count()
    };
    rules
        .iter()
        .all(|(name, rule)| match (name.as_str(), document) {
            ("type", _) => match rule.as_str().unwrap() {
                "boolean" => document.is_boolean(),
                "integer" => document.is_i64() || document.is_u64(),
                "number" => document.is_number(),
                "string" => document.is_string(),
                "array" => document.is_array(),
                "object" => document.is_object(),
                "null" => document.is_null(),
                other => panic!("{other}"),
            },
            ("minimum", Json::Number(number)) => {
                as_i128(number) >= as_i128(rule.as_number().unwrap())
            }
            ("maximum", Json::Number(number)) => {
                as_i128(number) <= as_i128(rule.as_number().unwrap())
            }
            ("pattern", Json::String(text)) => {
                let digits = match rule.as_str().unwrap() {
                    "^-?[0-9]+$" => text.strip_prefix('-').unwrap_or(text),
                    "^[0-9]+$" => text,
                    other => panic!("{other}"),
                };
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            }
            ("minLength", Json::String(text)) => text.chars().count() >= 1,
            ("maxLength", Json::String(text)) => text.chars().count() <= 1,
            ("enum", _) => rule.as_array().unwrap().contains(document),
            ("const", _) => rule == document,
            ("anyOf", _) => of(rule, document) >= 1,
            ("oneOf", _) => of(rule, document) == 1,
            ("prefixItems", Json::Array(items)) => {
                let schemas = rule.as_array().unwrap();
                schemas
                    .iter()
                    .zip(items)
                    .all(|(schema, item)| is_valid(schema, item))
            }
            ("items", Json::Array(items)) => {
                let before = rules
                    .get("prefixItems")
                    .map_or(0, |of| of.as_array().unwrap().len());
                items.iter().skip(before).all(|item| is_valid(rule, item))
            }
            ("minItems", Json::Array(items)) => items.len() as u64 >= rule.as_u64().unwrap(),
            ("uniqueItems", Json::Array(items)) => items
                .iter()
                .enumerate()
                .all(|(index, item)| !items[..index].contains(item)),
            ("properties", Json::Object(members)) => members
                .iter()
                .all(|(name, member)| rule.get(name).is_none_or(|schema| is_valid(schema, member))),
            ("required", Json::Object(members)) => {
                let names = rule.as_array().unwrap().iter();
                names
                    .map(|name| name.as_str().unwrap())
                    .all(|name| members.contains_key(name))
            }
            ("additionalProperties", Json::Object(members)) => members
                .keys()
                .all(|name| rules["properties"].get(name).is_some()),
            ("$schema" | "title" | "contentEncoding", _) => true,
            // Rules for another kind of document.
            (
                "minimum"
                | "maximum"
                | "pattern"
                | "minLength"
                | "maxLength"
                | "prefixItems"
                | "items"
                | "minItems"
                | "uniqueItems"
                | "properties"
                | "required"
                | "additionalProperties",
                _,
            ) => true,
            (other, _) => panic!("{other}"),
        })
}

fn as_i128(number: &serde_json::Number) -> i128 {
    let signed = number.as_i64().map(i128::from);
    // Fractions do not come this far: their type is wrong already.
    signed.or(number.as_u64().map(i128::from)).unwrap_or(0)
}

/// Types with a value of each.
fn typed() -> impl Strategy<Value = (Type, Value)> {
    types().prop_flat_map(|ty| (Just(ty.clone()), of(&ty)))
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        proptest::sample::select(Vec::from(Type::PRIMITIVES)),
        Just(colours()),
        Just(rights()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(list),
            inner.clone().prop_map(option),
            inner.clone().prop_map(|ty| option(option(ty))),
            (
                proptest::option::of(inner.clone()),
                proptest::option::of(inner.clone())
            )
                .prop_map(|(ok, err)| result(ok, err)),
            vec(inner.clone(), 1..4).prop_map(Type::Tuple),
            vec(inner.clone(), 1..4)
                .prop_map(|types| { record(["a", "b-c", "d"].into_iter().zip(types).collect()) }),
            vec(proptest::option::of(inner), 1..4)
                .prop_map(|types| { variant(["a", "b-c", "d"].into_iter().zip(types).collect()) }),
        ]
    })
}

fn of(ty: &Type) -> BoxedStrategy<Value> {
    let boxed = |ty: &Type| of(ty).prop_map(|value| Some(Box::new(value))).boxed();
    let side = |ty: &Option<Box<Type>>| match ty {
        Some(ty) => boxed(ty),
        None => Just(None).boxed(),
    };
    let all = |types: Vec<&Type>| types.into_iter().map(of).collect::<Vec<_>>();
    match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::S8 => any::<i8>().prop_map(Value::S8).boxed(),
        Type::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        Type::S16 => any::<i16>().prop_map(Value::S16).boxed(),
        Type::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        Type::S32 => any::<i32>().prop_map(Value::S32).boxed(),
        Type::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        Type::S64 => any::<i64>().prop_map(Value::S64).boxed(),
        Type::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        // Of every kind: the bits are drawn, so that there are NaN, infinities, zeros of both signs and the smallest.
        Type::F32 => any::<u32>()
            .prop_map(|bits| Value::F32(f32::from_bits(bits)))
            .boxed(),
        Type::F64 => any::<u64>()
            .prop_map(|bits| Value::F64(f64::from_bits(bits)))
            .boxed(),
        Type::Char => any::<char>().prop_map(Value::Char).boxed(),
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::List(_) if ty.is_bytes() => vec(any::<u8>(), 0..20).prop_map(Value::Bytes).boxed(),
        Type::List(element) => vec(of(element), 0..4).prop_map(Value::List).boxed(),
        Type::Option(some) => prop_oneof![Just(None), boxed(some)]
            .prop_map(Value::Option)
            .boxed(),
        Type::Result { ok, err } => prop_oneof![
            side(ok).prop_map(|value| Value::Result(Ok(value))),
            side(err).prop_map(|value| Value::Result(Err(value))),
        ]
        .boxed(),
        Type::Tuple(types) => all(types.iter().collect()).prop_map(Value::Tuple).boxed(),
        Type::Record { name: _, fields } => {
            let types = fields.iter().map(|field| &field.ty).collect();
            all(types).prop_map(Value::Record).boxed()
        }
        Type::Variant { name: _, cases } => {
            let cases = cases.iter().map(|case| case.ty.clone().map(Box::new));
            let cases = cases.enumerate().map(|(case, ty)| {
                side(&ty)
                    .prop_map(move |value| Value::Variant(case, value))
                    .boxed()
            });
            proptest::strategy::Union::new(cases).boxed()
        }
        Type::Enum { name: _, cases } => (0..cases.len()).prop_map(Value::Enum).boxed(),
        Type::Flags { name: _, flags } => {
            let all: Vec<usize> = (0..flags.len()).collect();
            let len = all.len();
            proptest::sample::subsequence(all, 0..=len)
                .prop_map(Value::Flags)
                .boxed()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_value_comes_back((ty, value) in typed()) {
        let json = json(&ty, &value, usize::MAX).unwrap();
        let back = crate::value(&ty, &json);
        // By their text, since NaN is not equal to itself, and zero to its negative.
        prop_assert_eq!(format!("{back:?}"), format!("{:?}", Ok::<_, Error>(value)));
        prop_assert!(json.len() < 1 << 20);
        prop_assert_eq!(super::json(&ty, &back.unwrap(), json.len()), Ok(json.clone()));
        if let Some(less) = json.len().checked_sub(1) {
            prop_assert_eq!(super::json(&ty, &crate::value(&ty, &json).unwrap(), less), Err(TooLong(less)));
        }
    }

    #[test]
    fn schema_holds_for_every_value((ty, value) in typed()) {
        let function = Function { params: Vec::new(), result: Some(Type::Tuple(vec![ty.clone()])) };
        let json = json(&ty, &value, usize::MAX).unwrap();
        let document = serde_json::Value::Array(vec![serde_json::from_slice(&json).unwrap()]);
        prop_assert!(is_valid(&function.output_schema(), &document), "{} {document}", function.output_schema());
    }

    #[test]
    fn example_fits(ty in types()) {
        let function = Function { params: fields(vec![("value", ty)]), result: None };
        let example = function.example();
        prop_assert!(arguments(&function, example.as_bytes()).is_ok(), "{example}");
        let document = serde_json::from_str(&example).unwrap();
        prop_assert!(is_valid(&function.input_schema(), &document), "{} {document}", function.input_schema());
    }

    #[test]
    fn what_fits_no_type_is_refused_without_a_panic(ty in types(), text in "[\\[\\]{}\",:0-9a-e. -]{0,40}") {
        if let Ok(value) = crate::value(&ty, text.as_bytes()) {
            // What is taken is valid under the schema too, as long as a member is not given twice, which it cannot say.
            let function = Function { params: Vec::new(), result: Some(Type::Tuple(vec![ty.clone()])) };
            let document = serde_json::Value::Array(vec![serde_json::from_str(&text).unwrap()]);
            prop_assert!(is_valid(&function.output_schema(), &document), "{document}");
            prop_assert!(json(&ty, &value, usize::MAX).is_ok());
        }
    }
}

#[test]
fn flags_in_a_list_that_comes_back_are_not_bounded() {
    let flags = || Type::Flags {
        name: String::new(),
        flags: vec!["a".to_owned()],
    };
    let gives = |ty| Function {
        params: vec![Field {
            name: "these".to_owned(),
            ty: Type::List(Box::new(flags())),
        }],
        result: Some(ty),
    };
    let record = |ty| Type::Record {
        name: String::new(),
        fields: vec![Field {
            name: "in".to_owned(),
            ty,
        }],
    };
    assert!(gives(record(flags())).bounded().is_ok());
    let listed = Type::Option(Box::new(Type::List(Box::new(record(flags())))));
    assert_eq!(gives(listed).bounded(), Err(Uncallable::FlagsInList));
}
