//! Messages as JSON and as parts of an address, by their descriptors.
//!
//! Fields have the names that they have in `proto/tq/v1`. Enumerations are texts, without what all of their values begin with. Bytes are a
//! text if they are UTF-8, and `{"base64": …}` otherwise; what is sent may also be `{"json": …}`, which stands for that value's text.
//! What is absent is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value as Field,
};
use serde_json::{Map, Number, Value};

/// What is wrong with what was sent, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{at}` {wrong}")]
pub(super) struct Invalid {
    at: String,
    wrong: String,
}

impl Invalid {
    pub(super) fn new(at: impl Into<String>, wrong: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            wrong: wrong.into(),
        }
    }
}

/// A message as JSON.
pub(super) fn of_message(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    let fields = descriptor.fields().filter_map(|field| {
        let is_absent = field.supports_presence() && !message.has_field(&field);
        (!is_absent).then(|| {
            (
                field.name().to_owned(),
                of_field(&field, &message.get_field(&field)),
            )
        })
    });
    Value::Object(fields.collect())
}

fn of_field(field: &FieldDescriptor, value: &Field) -> Value {
    match value {
        Field::List(values) => values
            .iter()
            .map(|value| of_one(&field.kind(), value))
            .collect(),
        Field::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return Value::Null;
            };
            let kind = entry.map_entry_value_field().kind();
            let mut object: Vec<_> = entries
                .iter()
                .map(|(key, value)| (text_of(key), of_one(&kind, value)))
                .collect();
            object.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(object.into_iter().collect())
        }
        value => of_one(&field.kind(), value),
    }
}

fn text_of(key: &MapKey) -> String {
    match key {
        MapKey::String(key) => key.clone(),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}

fn of_one(kind: &Kind, value: &Field) -> Value {
    match value {
        Field::Bool(value) => Value::Bool(*value),
        Field::I32(value) => (*value).into(),
        Field::I64(value) => (*value).into(),
        Field::U32(value) => (*value).into(),
        Field::U64(value) => (*value).into(),
        Field::F32(value) => f64::from(*value).into(),
        Field::F64(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Field::String(value) => Value::String(value.clone()),
        Field::Bytes(value) => match std::str::from_utf8(value) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => {
                let text = Value::String(STANDARD.encode(value));
                Value::Object(Map::from_iter([(BASE64.to_owned(), text)]))
            }
        },
        Field::EnumNumber(number) => match kind {
            Kind::Enum(of) => Value::String(name_of(of, *number)),
            _ => Value::Null,
        },
        Field::Message(message) => of_message(message),
        Field::List(_) | Field::Map(_) => Value::Null,
    }
}

const BASE64: &str = "base64";
const JSON: &str = "json";

/// What all values of an enumeration begin with: its own name.
fn prefix(of: &EnumDescriptor) -> String {
    let mut prefix = String::new();
    for letter in of.name().chars() {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix + "_"
}

/// The texts that stand for the values of an enumeration, and their numbers.
pub(super) fn names(of: &EnumDescriptor) -> Vec<(String, i32)> {
    let prefix = prefix(of);
    let values = of
        .values()
        .map(|value| (bare(value.name(), &prefix), value.number()));
    values.collect()
}

fn name_of(of: &EnumDescriptor, number: i32) -> String {
    let Some(value) = of.get_value(number) else {
        return number.to_string();
    };
    bare(value.name(), &prefix(of))
}

fn bare(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

/// Sets what an object says of a message. `at` is where the object is; empty is the whole.
pub(super) fn fill(message: &mut DynamicMessage, value: &Value, at: &str) -> Result<(), Invalid> {
    let Value::Object(object) = value else {
        return Err(is_other(at, value, "an object"));
    };
    let descriptor = message.descriptor();
    for (name, value) in object {
        let at = below(at, name);
        let field = descriptor.get_field_by_name(name);
        let field = field.ok_or_else(|| unknown(&descriptor, &at))?;
        let value = to_field(&field, value, &at)?;
        message.set_field(&field, value);
    }
    Ok(())
}

fn below(at: &str, name: &str) -> String {
    let shown: String = name.chars().take(80).collect();
    match at {
        "" => shown,
        at => format!("{at}.{shown}"),
    }
}

fn unknown(of: &MessageDescriptor, at: &str) -> Invalid {
    let names: Vec<_> = of.fields().map(|field| field.name().to_owned()).collect();
    Invalid::new(
        at,
        format!("is not known here; there are {}", names.join(", ")),
    )
}

fn is_other(at: &str, value: &Value, expected: &str) -> Invalid {
    let what = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let at = if at.is_empty() { "the body" } else { at };
    Invalid::new(at, format!("is {what}, and has to be {expected}"))
}

fn to_field(field: &FieldDescriptor, value: &Value, at: &str) -> Result<Field, Invalid> {
    if let Kind::Message(entry) = field.kind()
        && field.is_map()
    {
        let Value::Object(object) = value else {
            return Err(is_other(at, value, "an object"));
        };
        let kind = entry.map_entry_value_field().kind();
        let entries = object.iter().map(|(key, value)| {
            let value = to_one(&kind, value, &below(at, key))?;
            Ok((MapKey::String(key.clone()), value))
        });
        return Ok(Field::Map(entries.collect::<Result<_, _>>()?));
    }
    if field.is_list() {
        let Value::Array(values) = value else {
            return Err(is_other(at, value, "a list"));
        };
        let values = values.iter().enumerate();
        let values =
            values.map(|(index, value)| to_one(&field.kind(), value, &format!("{at}[{index}]")));
        return Ok(Field::List(values.collect::<Result<_, _>>()?));
    }
    to_one(&field.kind(), value, at)
}

fn to_one(kind: &Kind, value: &Value, at: &str) -> Result<Field, Invalid> {
    let is_not = |expected: &str| is_other(at, value, expected);
    Ok(match kind {
        Kind::Bool => Field::Bool(value.as_bool().ok_or_else(|| is_not("a boolean"))?),
        Kind::String => {
            let text = value.as_str().ok_or_else(|| is_not("a text"))?;
            Field::String(text.to_owned())
        }
        Kind::Bytes => Field::Bytes(to_bytes(value, at)?.into()),
        Kind::Double => Field::F64(value.as_f64().ok_or_else(|| is_not("a number"))?),
        Kind::Float => Field::F32(value.as_f64().ok_or_else(|| is_not("a number"))? as f32),
        Kind::Enum(of) => {
            let name = value.as_str().ok_or_else(|| is_not("a text"))?;
            enumerated(of, name, at)?
        }
        Kind::Message(of) => {
            let mut message = DynamicMessage::new(of.clone());
            fill(&mut message, value, at)?;
            Field::Message(message)
        }
        number => {
            let (least, most) = range(number);
            let expected = || format!("a whole number from {least} to {most}");
            let Value::Number(given) = value else {
                return Err(is_not(&expected()));
            };
            whole(number, given.as_i128(), given, at)?
        }
    })
}

fn enumerated(of: &EnumDescriptor, name: &str, at: &str) -> Result<Field, Invalid> {
    let names = names(of);
    let known = names.iter().find(|(known, _)| known == name);
    let Some((_, number)) = known else {
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        return Err(Invalid::new(
            at,
            format!("has to be one of {}", names.join(", ")),
        ));
    };
    Ok(Field::EnumNumber(*number))
}

fn to_bytes(value: &Value, at: &str) -> Result<Vec<u8>, Invalid> {
    const EXPECTED: &str = "a text, {\"base64\": …} or {\"json\": …}";
    match value {
        Value::String(text) => Ok(text.clone().into_bytes()),
        Value::Object(object) if object.len() == 1 => {
            if let Some(json) = object.get(JSON) {
                return Ok(json.to_string().into_bytes());
            }
            let encoded = object.get(BASE64).and_then(Value::as_str);
            let encoded = encoded.ok_or_else(|| is_other(at, value, EXPECTED))?;
            STANDARD
                .decode(encoded)
                .map_err(|error| Invalid::new(at, format!("is no base64: {error}")))
        }
        other => Err(is_other(at, other, EXPECTED)),
    }
}

/// The numbers that a kind of number has.
pub(super) fn range(kind: &Kind) -> (i128, i128) {
    match kind {
        Kind::Uint32 | Kind::Fixed32 => (0, u32::MAX.into()),
        Kind::Uint64 | Kind::Fixed64 => (0, u64::MAX.into()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

fn whole(
    kind: &Kind,
    number: Option<i128>,
    given: &dyn std::fmt::Display,
    at: &str,
) -> Result<Field, Invalid> {
    let (least, most) = range(kind);
    let refused = || {
        Invalid::new(
            at,
            format!("is {given}, and has to be a whole number from {least} to {most}"),
        )
    };
    let number = number.ok_or_else(refused)?;
    let fits = match kind {
        Kind::Uint32 | Kind::Fixed32 => u32::try_from(number).ok().map(Field::U32),
        Kind::Uint64 | Kind::Fixed64 => u64::try_from(number).ok().map(Field::U64),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::try_from(number).ok().map(Field::I32),
        _ => i64::try_from(number).ok().map(Field::I64),
    };
    fits.ok_or_else(refused)
}

/// Sets a field of a message to what an address says: `name`, or `name.of_a_message_in_it`. A name that comes again adds to a list.
pub(super) fn set(message: &mut DynamicMessage, name: &str, text: &str) -> Result<(), Invalid> {
    let descriptor = message.descriptor();
    let shown: String = name.chars().take(80).collect();
    let unknown = || unknown(&descriptor, &shown);
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let field = descriptor.get_field_by_name(first).ok_or_else(unknown)?;
    if let (Kind::Message(_), Some(rest), false) = (field.kind(), rest, field.is_list()) {
        let inner = message.get_field_mut(&field);
        let inner = inner.as_message_mut().ok_or_else(unknown)?;
        return set(inner, rest, text);
    }
    if rest.is_some() {
        return Err(unknown());
    }
    let value = of_text(&field.kind(), text, &shown)?;
    if field.is_list() {
        let list = message.get_field_mut(&field);
        list.as_list_mut().ok_or_else(unknown)?.push(value);
    } else if message.has_field(&field) {
        return Err(Invalid::new(shown, "is given twice"));
    } else {
        message.set_field(&field, value);
    }
    Ok(())
}

fn of_text(kind: &Kind, text: &str, at: &str) -> Result<Field, Invalid> {
    let shown: String = text.chars().take(80).collect();
    Ok(match kind {
        Kind::String => Field::String(text.to_owned()),
        Kind::Bytes => {
            let bytes = STANDARD.decode(text);
            let bytes = bytes.map_err(|error| {
                let wrong = format!("is no base64: {error}; a `+` of it is written `%2B` here");
                Invalid::new(at, wrong)
            })?;
            Field::Bytes(bytes.into())
        }
        Kind::Bool => match text {
            "true" => Field::Bool(true),
            "false" => Field::Bool(false),
            _ => return Err(Invalid::new(at, "has to be `true` or `false`")),
        },
        Kind::Enum(of) => enumerated(of, text, at)?,
        Kind::Double | Kind::Float | Kind::Message(_) => {
            return Err(Invalid::new(at, "cannot be given here"));
        }
        number => whole(number, text.parse().ok(), &shown, at)?,
    })
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    use super::*;

    fn message(name: &str) -> DynamicMessage {
        let pool = DescriptorPool::decode(tq_proto::DESCRIPTORS).unwrap();
        DynamicMessage::new(pool.get_message_by_name(&format!("tq.v1.{name}")).unwrap())
    }

    #[test]
    fn messages_come_back_as_they_went() {
        let task = json!({
            "tasks": [{
                "function": "mail/send", "payload": "{\"to\": 1}", "priority": 200, "delay_ms": u64::MAX,
                "limits": {"fuel": 5}, "required_labels": {"zone": "eu", "gpu": "a100"}, "arguments": ["a", "b"],
            }],
        });
        let mut submit = message("SubmitRequest");
        fill(&mut submit, &task, "").unwrap();
        let back = of_message(&submit);
        for (name, value) in task["tasks"][0].as_object().unwrap() {
            assert_eq!(&back["tasks"][0][name], value, "{name}");
        }
        assert_eq!(back["tasks"][0]["content_type"], "");
        assert_eq!(back["tasks"][0].get("deadline_ms"), None, "it is absent");
        let mut read = message("SubmitRequest");
        fill(&mut read, &back, "").unwrap();
        assert_eq!(of_message(&read), back);
    }

    #[test]
    fn bytes_have_three_spellings() {
        for (given, expected) in [
            (json!("text"), json!("text")),
            (json!({"base64": "dGV4dA=="}), json!("text")),
            (json!({"json": {"a": [1, "x"]}}), json!("{\"a\":[1,\"x\"]}")),
            (json!({"json": "x"}), json!("\"x\"")),
            (json!({"base64": "/w=="}), json!({"base64": "/w=="})),
        ] {
            let mut task = message("NewTask");
            fill(&mut task, &json!({"payload": given}), "").unwrap();
            assert_eq!(of_message(&task)["payload"], expected);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (given, expected) in [
            (json!([]), "`the body` is a list, and has to be an object"),
            (
                json!({"tasks": {}}),
                "`tasks` is an object, and has to be a list",
            ),
            (
                json!({"tasks": [{"function": null}]}),
                "`tasks[0].function` is null, and has to be a text",
            ),
            (
                json!({"tasks": [{"functoin": "x"}]}),
                "`tasks[0].functoin` is not known here; there are function, payload, ",
            ),
            (
                json!({"tasks": [{"priority": -1}]}),
                "`tasks[0].priority` is -1, and has to be a whole number from 0 to 4294967295",
            ),
            (
                json!({"tasks": [{"priority": 1.5}]}),
                "`tasks[0].priority` is 1.5, and has to be a whole number",
            ),
            (
                json!({"tasks": [{"priority": "1"}]}),
                "`tasks[0].priority` is a text, and has to be a whole number",
            ),
            (
                json!({"tasks": [{"payload": 1}]}),
                "`tasks[0].payload` is a number, and has to be a text, {\"base64\"",
            ),
            (
                json!({"tasks": [{"payload": {"base64": "?"}}]}),
                "`tasks[0].payload` is no base64: ",
            ),
            (
                json!({"tasks": [{"limits": {"fuel": []}}]}),
                "`tasks[0].limits.fuel` is a list, and has to be",
            ),
            (
                json!({"tasks": [{"required_labels": {"a": 1}}]}),
                "`tasks[0].required_labels.a` is a number, and has to be a text",
            ),
        ] {
            let refused = fill(&mut message("SubmitRequest"), &given, "").unwrap_err();
            let refused = refused.to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[test]
    fn addresses_set_fields() {
        let mut list = message("ListDeadLettersRequest");
        for (name, text) in [
            ("namespace", "acme"),
            ("limit", "7"),
            ("filter.function", "mail/send"),
            ("filter.since_ms", "5"),
        ] {
            set(&mut list, name, text).unwrap();
        }
        let expected = json!({"namespace": "acme", "limit": 7, "cursor": "",
            "filter": {"function": "mail/send", "outcome": "", "signature": "", "since_ms": 5}});
        assert_eq!(of_message(&list), expected);
        let mut watch = message("WatchTasksRequest");
        set(&mut watch, "ids", "a").unwrap();
        set(&mut watch, "ids", "b").unwrap();
        set(&mut watch, "view", "end").unwrap();
        assert_eq!(of_message(&watch)["ids"], json!(["a", "b"]));
        let mut tasks = message("ListTasksRequest");
        for (name, text, expected) in [
            (
                "limit",
                "x",
                "`limit` is x, and has to be a whole number from 0 to 4294967295",
            ),
            (
                "state",
                "gone",
                "`state` has to be one of unspecified, blocked, ",
            ),
            ("limit.x", "1", "`limit.x` is not known here"),
            ("nothing", "1", "`nothing` is not known here"),
        ] {
            let refused = set(&mut tasks, name, text).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
        set(&mut tasks, "limit", "3").unwrap();
        let twice = set(&mut tasks, "limit", "3").unwrap_err();
        assert_eq!(twice.to_string(), "`limit` is given twice");
    }
}
