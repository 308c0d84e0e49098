//! From JSON to values.
//!
//! A payload is read once, as a stream, against its type: nothing is held of it but the values, of which there are
//! [`TYPED_VALUES_MAX`] at most.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tq_core::limits::TYPED_VALUES_MAX;

use crate::{Case, Field, Function, Type, Value};

/// Characters that an error quotes of a payload.
const QUOTED_CHARS_MAX: usize = 40;
/// Names that an error lists.
const LISTED_MAX: usize = 20;
/// Bytes of the path that an error names.
const PATH_BYTES_MAX: usize = 1_024;

/// Why a payload is not what a function takes. The texts are bounded and safe to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Syntax(
        /// What the parser says.
        String,
    ),
    /// It has something else than its type says.
    #[error("at `{path}`: expected {expected}, got {given}")]
    Mismatch {
        /// Where, from `$`, which is all of it: `$.items[3].price`.
        path: String,
        /// What there should be.
        expected: String,
        /// What there is.
        given: String,
    },
    /// It has a field that its type has not.
    #[error("at `{path}`: there is no such {what}; {known}")]
    Unknown {
        /// Where.
        path: String,
        /// What it should have been, such as `field`.
        what: &'static str,
        /// Which there are.
        known: String,
    },
    /// It has a field twice.
    #[error("at `{path}`: it is given twice")]
    Twice {
        /// Where.
        path: String,
    },
    /// It is more than the engine takes over.
    #[error(
        "it has more than {TYPED_VALUES_MAX} values, counting each byte of a `list<u8>`; a handler (`tq:task/handler`) takes larger data"
    )]
    TooMany,
}

/// The values of a function's parameters, in their order, from a payload: a JSON object with a member for each. No payload at
/// all is the same as `{}`.
///
/// # Errors
/// [`Error`] says what does not fit, and where.
pub fn arguments(function: &Function, payload: &[u8]) -> Result<Vec<Value>, Error> {
    let payload = match payload.trim_ascii() {
        [] => b"{}".as_slice(),
        _ => payload,
    };
    let context = Context::default();
    let seed = Arguments {
        params: &function.params,
        context: &context,
    };
    read(payload, seed, &context)
}

/// The value of a type that JSON stands for.
///
/// # Errors
/// [`Error`] says what does not fit, and where.
pub fn value(ty: &Type, json: &[u8]) -> Result<Value, Error> {
    let context = Context::default();
    let seed = Seed {
        ty,
        context: &context,
    };
    read(json, seed, &context)
}

fn read<'de, S: DeserializeSeed<'de>>(
    json: &'de [u8],
    seed: S,
    context: &Context,
) -> Result<S::Value, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = seed.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        // What was found here is told apart; the parser carries a text only.
        let found = context.error.borrow_mut().take();
        found.unwrap_or_else(|| Error::Syntax(error.to_string()))
    })
}

/// What a payload is read with: where the reader is, and what it has found wrong.
#[derive(Default)]
struct Context {
    path: RefCell<Vec<Step>>,
    values: Cell<usize>,
    error: RefCell<Option<Error>>,
}

enum Step {
    Member(String),
    Item(usize),
}

impl Context {
    /// Keeps an error, and makes the parser stop.
    fn fail<E: serde::de::Error>(&self, error: Error) -> E {
        self.error.borrow_mut().get_or_insert(error);
        E::custom("it does not fit")
    }

    fn mismatch<E: serde::de::Error>(&self, expected: String, given: String) -> E {
        let path = self.path();
        self.fail(Error::Mismatch {
            path,
            expected,
            given,
        })
    }

    fn path(&self) -> String {
        let mut path = "$".to_owned();
        for step in self.path.borrow().iter() {
            path.push_str(&match step {
                Step::Item(index) => format!("[{index}]"),
                Step::Member(name) if is_plain(name) => format!(".{name}"),
                Step::Member(name) => format!("[{}]", quoted(name)),
            });
            if path.len() > PATH_BYTES_MAX {
                path.push('…');
                break;
            }
        }
        path
    }

    /// Reads what is one step further down.
    fn below<T>(&self, step: Step, read: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let value = read();
        // A step that has failed stays, but nothing reads the path again.
        self.path.borrow_mut().pop();
        value
    }

    /// Counts the name of a field or a case, which the engine is given with each value. A short one is counted with that.
    fn count_name<E: serde::de::Error>(&self, name: &str) -> Result<(), E> {
        const SHORT: usize = 64;
        self.count(name.len() / SHORT)
    }

    fn count<E: serde::de::Error>(&self, values: usize) -> Result<(), E> {
        let counted = self.values.get().saturating_add(values);
        self.values.set(counted);
        if counted > TYPED_VALUES_MAX {
            return Err(self.fail(Error::TooMany));
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    const PLAIN_MAX: usize = 64;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.len() <= PLAIN_MAX && name.bytes().all(is_plain)
}

/// The beginning of a text that somebody sent, in quotes and safe to print.
fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(QUOTED_CHARS_MAX).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// Names, as an error lists them.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    listed_strings(names.map(|name| {
        if is_plain(name) {
            format!("`{name}`")
        } else {
            quoted(name)
        }
    }))
}

fn listed_strings(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED_MAX);
    let mut shown: Vec<String> = names.take(LISTED_MAX).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

struct Arguments<'a> {
    params: &'a [Field],
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Arguments<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Arguments<'_> {
    fn refuse<E: serde::de::Error>(&self, given: String) -> E {
        let names = self.params.iter().map(|param| param.name.as_str());
        let expected = match self.params {
            [] => "an empty object, since it takes no arguments".to_owned(),
            _ => format!("an object with the arguments {}", listed(names)),
        };
        self.context.mismatch(expected, given)
    }
}

/// What a visitor does with the kinds of JSON that it has no use for.
macro_rules! refuse {
    ($($kind:ident)+) => { $(refuse!(@$kind);)+ };
    (@bool) => {
        fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            Err(self.refuse(value.to_string()))
        }
    };
    (@number) => {
        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
            Err(self.refuse(value.to_string()))
        }

        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
            Err(self.refuse(value.to_string()))
        }

        fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
            Err(self.refuse(number(value)))
        }
    };
    (@string) => {
        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
            Err(self.refuse(quoted(value)))
        }
    };
    (@null) => {
        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Err(self.refuse("null".to_owned()))
        }
    };
    (@array) => {
        fn visit_seq<A: SeqAccess<'de>>(self, _items: A) -> Result<Self::Value, A::Error> {
            Err(self.refuse("an array".to_owned()))
        }
    };
    (@object) => {
        fn visit_map<A: MapAccess<'de>>(self, _members: A) -> Result<Self::Value, A::Error> {
            Err(self.refuse("an object".to_owned()))
        }
    };
}

impl<'de> Visitor<'de> for Arguments<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the arguments")
    }

    refuse!(bool number string null array);

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Vec<Value>, A::Error> {
        fields(self.params, "argument", members, self.context)
    }
}

/// The values of fields, in their order, from the members of an object.
fn fields<'de, A: MapAccess<'de>>(
    fields: &[Field],
    what: &'static str,
    mut members: A,
    context: &Context,
) -> Result<Vec<Value>, A::Error> {
    let mut values: Vec<Option<Value>> = vec![None; fields.len()];
    while let Some(name) = members.next_key::<String>()? {
        let position = fields.iter().position(|field| field.name == name);
        let step = Step::Member(name);
        let Some(index) = position else {
            return context.below(step, || {
                let names = fields.iter().map(|field| field.name.as_str());
                Err(context.fail(Error::Unknown {
                    path: context.path(),
                    what,
                    known: match names.len() {
                        0 => "there are none".to_owned(),
                        _ => format!("there are {}", listed(names)),
                    },
                }))
            });
        };
        values[index] = context.below(step, || {
            if values[index].is_some() {
                let path = context.path();
                return Err(context.fail(Error::Twice { path }));
            }
            let ty = &fields[index].ty;
            members.next_value_seed(Seed { ty, context }).map(Some)
        })?;
    }
    let complete = fields.iter().zip(values).map(|(field, value)| {
        context.count_name(&field.name)?;
        let missing = || match field.ty {
            Type::Option(_) => context.count(1).map(|()| Value::Option(None)),
            _ => context.below(Step::Member(field.name.clone()), || {
                Err(context.mismatch(expected(&field.ty), "nothing".to_owned()))
            }),
        };
        value.map_or_else(missing, Ok)
    });
    complete.collect()
}

/// A type that is to be read next.
#[derive(Clone, Copy)]
struct Seed<'a> {
    ty: &'a Type,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.context.count(1)?;
        match self.ty {
            Type::Option(some) if !matches!(**some, Type::Option(_)) => {
                let reader = Reader {
                    ty: some,
                    is_optional: true,
                    context: self.context,
                };
                deserializer.deserialize_any(reader)
            }
            ty => deserializer.deserialize_any(Reader {
                ty,
                is_optional: false,
                context: self.context,
            }),
        }
    }
}

/// Reads a value of a type, or `null` if it is optional. An option of an option is no such thing: its `null` would be
/// ambiguous, so that it has a form of its own.
#[derive(Clone, Copy)]
struct Reader<'a> {
    ty: &'a Type,
    is_optional: bool,
    context: &'a Context,
}

impl<'a> Reader<'a> {
    fn refuse<E: serde::de::Error>(&self, given: String) -> E {
        let mut expected = expected(self.ty);
        if self.is_optional {
            expected.push_str(" or null");
        }
        self.context.mismatch(expected, given)
    }

    fn some(&self, value: Value) -> Value {
        if self.is_optional {
            Value::Option(Some(Box::new(value)))
        } else {
            value
        }
    }

    fn seed(&self, ty: &'a Type) -> Seed<'a> {
        Seed {
            ty,
            context: self.context,
        }
    }

    fn integer<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        let number = match self.ty {
            Type::S8 => i8::try_from(value).ok().map(Value::S8),
            Type::U8 => u8::try_from(value).ok().map(Value::U8),
            Type::S16 => i16::try_from(value).ok().map(Value::S16),
            Type::U16 => u16::try_from(value).ok().map(Value::U16),
            Type::S32 => i32::try_from(value).ok().map(Value::S32),
            Type::U32 => u32::try_from(value).ok().map(Value::U32),
            Type::S64 => i64::try_from(value).ok().map(Value::S64),
            Type::U64 => u64::try_from(value).ok().map(Value::U64),
            Type::F32 | Type::F64 => return self.float(value as f64),
            _ => None,
        };
        match number {
            Some(number) => Ok(self.some(number)),
            None => Err(self.refuse(value.to_string())),
        }
    }

    fn float<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let found = match self.ty {
            Type::F64 => Some(Value::F64(value)),
            // The nearest one is meant; beyond the largest there is none.
            Type::F32 => Some(value as f32)
                .filter(|number| number.is_finite())
                .map(Value::F32),
            _ => None,
        };
        match found {
            Some(value) => Ok(self.some(value)),
            None => Err(self.refuse(number(value))),
        }
    }
}

/// A number as JSON has it: with a point, so that one sees why it is no whole number.
fn number(value: f64) -> String {
    format!("{value:?}")
}

/// A whole number of 64 bits as a string. JavaScript rounds such a number beyond 2^53.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    // The standard library would take a plus.
    (!text.starts_with('+')).then(|| text.parse().ok())?
}

/// A number that JSON has no form for.
fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// What a value of a type is in JSON, in words.
fn expected(ty: &Type) -> String {
    fn within<T: fmt::Display>(name: &str, min: T, max: T) -> String {
        format!("{name} (a whole number from {min} to {max})")
    }
    let strings = |names: &[String]| listed_strings(names.iter().map(|name| quoted(name)));
    match ty {
        Type::Bool => "true or false".to_owned(),
        Type::S8 => within("s8", i8::MIN, i8::MAX),
        Type::U8 => within("u8", u8::MIN, u8::MAX),
        Type::S16 => within("s16", i16::MIN, i16::MAX),
        Type::U16 => within("u16", u16::MIN, u16::MAX),
        Type::S32 => within("s32", i32::MIN, i32::MAX),
        Type::U32 => within("u32", u32::MIN, u32::MAX),
        Type::S64 => "s64 (a whole number of 64 bits, or its digits as a string)".to_owned(),
        Type::U64 => {
            "u64 (a whole number of 64 bits without a sign, or its digits as a string)".to_owned()
        }
        Type::F32 => "f32 (a number, \"NaN\", \"Infinity\" or \"-Infinity\")".to_owned(),
        Type::F64 => "f64 (a number, \"NaN\", \"Infinity\" or \"-Infinity\")".to_owned(),
        Type::Char => "a string of one character".to_owned(),
        Type::String => "a string".to_owned(),
        Type::List(_) if ty.is_bytes() => "a string in base64, with padding".to_owned(),
        Type::List(_) => "an array".to_owned(),
        Type::Option(some) if matches!(**some, Type::Option(_)) => {
            "null or {\"some\": …}".to_owned()
        }
        Type::Option(some) => format!("{} or null", expected(some)),
        Type::Result { .. } => "{\"ok\": …} or {\"err\": …}".to_owned(),
        Type::Tuple(types) => format!("an array of {}", types.len()),
        Type::Record { fields, .. } => {
            let names = fields.iter().map(|field| field.name.as_str());
            format!("an object with the fields {}", listed(names))
        }
        Type::Variant { cases, .. } => {
            let forms = cases.iter().map(|case| match case.ty {
                None => quoted(&case.name),
                Some(_) => format!("{{{}: …}}", quoted(&case.name)),
            });
            format!("one of {}", listed_strings(forms))
        }
        Type::Enum { cases, .. } => format!("one of {}", strings(cases)),
        Type::Flags { flags, .. } => format!("an array of {}", strings(flags)),
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&expected(self.ty))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        match self.ty {
            Type::Bool => Ok(self.some(Value::Bool(value))),
            _ => Err(self.refuse(value.to_string())),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.integer(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.integer(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.float(value)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        let value = match self.ty {
            Type::String => Some(Value::String(text.to_owned())),
            Type::Char => {
                let mut chars = text.chars();
                chars
                    .next()
                    .filter(|_| chars.next().is_none())
                    .map(Value::Char)
            }
            Type::S64 => digits(text).map(Value::S64),
            Type::U64 => digits(text).map(Value::U64),
            Type::F32 => not_finite(text).map(|number| Value::F32(number as f32)),
            Type::F64 => not_finite(text).map(Value::F64),
            Type::Enum { cases, .. } => {
                let case = cases.iter().position(|case| case == text);
                case.map(Value::Enum)
            }
            Type::Variant { cases, .. } => {
                let is_it = |case: &Case| case.name == text && case.ty.is_none();
                let case = cases.iter().position(is_it);
                case.map(|case| Value::Variant(case, None))
            }
            ty if ty.is_bytes() => {
                // Before they are decoded; three bytes are four characters.
                self.context.count(text.len() / 4 * 3)?;
                STANDARD.decode(text).ok().map(Value::Bytes)
            }
            _ => None,
        };
        match value {
            Some(value) => {
                if matches!(value, Value::Enum(_) | Value::Variant(..)) {
                    self.context.count_name(text)?;
                }
                Ok(self.some(value))
            }
            None => Err(self.refuse(quoted(text))),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        // An option of an option is read as itself.
        if self.is_optional || matches!(self.ty, Type::Option(_)) {
            return Ok(Value::Option(None));
        }
        Err(self.refuse("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let context = self.context;
        let value = match self.ty {
            ty @ Type::List(element) if !ty.is_bytes() => {
                let mut values = Vec::new();
                while let Some(item) = context.below(Step::Item(values.len()), || {
                    items.next_element_seed(self.seed(element))
                })? {
                    values.push(item);
                }
                Value::List(values)
            }
            Type::Tuple(types) => {
                let mut values = Vec::with_capacity(types.len());
                for ty in types {
                    let item = context.below(Step::Item(values.len()), || {
                        items.next_element_seed(self.seed(ty))
                    })?;
                    let Some(item) = item else {
                        let given = format!("an array of {}", values.len());
                        return Err(self.refuse(given));
                    };
                    values.push(item);
                }
                if items.next_element::<IgnoredAny>()?.is_some() {
                    return Err(self.refuse(format!("an array of more than {}", types.len())));
                }
                Value::Tuple(values)
            }
            Type::Flags { flags, .. } => {
                let mut set = Vec::new();
                let mut index = 0;
                while let Some(flag) = context.below(Step::Item(index), || {
                    items.next_element_seed(Flag {
                        flags,
                        set: &set,
                        context,
                    })
                })? {
                    set.push(flag);
                    index += 1;
                }
                set.sort_unstable();
                Value::Flags(set)
            }
            _ => return Err(self.refuse("an array".to_owned())),
        };
        Ok(self.some(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let context = self.context;
        let value = match self.ty {
            Type::Record { fields: of, .. } => {
                Value::Record(fields(of, "field", members, context)?)
            }
            Type::Option(some) => {
                let value = self.only(&mut members, |name| match name {
                    "some" => Some(Some(&**some)),
                    _ => None,
                })?;
                Value::Option(value.1)
            }
            Type::Result { ok, err } => {
                let (name, value) = self.only(&mut members, |name| match name {
                    "ok" => Some(ok.as_deref()),
                    "err" => Some(err.as_deref()),
                    _ => None,
                })?;
                Value::Result(if name == "ok" { Ok(value) } else { Err(value) })
            }
            Type::Variant { cases, .. } => {
                let mut found = 0;
                let (name, value) = self.only(&mut members, |name| {
                    found = cases.iter().position(|case| case.name == name)?;
                    // A case without a value is its name alone.
                    cases[found].ty.as_ref().map(Some)
                })?;
                context.count_name(&name)?;
                Value::Variant(found, value)
            }
            _ => return Err(self.refuse("an object".to_owned())),
        };
        Ok(self.some(value))
    }
}

impl<'a> Reader<'a> {
    /// The only member of an object, of the type that `of` has for its name; `null` if there is a name and no type.
    fn only<'de, A: MapAccess<'de>>(
        &self,
        members: &mut A,
        of: impl FnOnce(&str) -> Option<Option<&'a Type>>,
    ) -> Result<(String, Option<Box<Value>>), A::Error> {
        let Some(name) = members.next_key::<String>()? else {
            return Err(self.refuse("an empty object".to_owned()));
        };
        let Some(ty) = of(&name) else {
            return Err(self.refuse(format!("an object with {}", quoted(&name))));
        };
        let value = self
            .context
            .below(Step::Member(name.clone()), || match ty {
                Some(ty) => {
                    let value = members.next_value_seed(self.seed(ty))?;
                    Ok(Some(Box::new(value)))
                }
                None => match members.next_value::<Option<IgnoredAny>>()? {
                    None => Ok(None),
                    Some(_) => Err(self
                        .context
                        .mismatch("null".to_owned(), "something".to_owned())),
                },
            })?;
        if members.next_key::<IgnoredAny>()?.is_some() {
            return Err(self.refuse("an object with several members".to_owned()));
        }
        Ok((name, value))
    }
}

/// A flag that is set.
struct Flag<'a> {
    flags: &'a [String],
    set: &'a [usize],
    context: &'a Context,
}

impl Flag<'_> {
    fn refuse<E: serde::de::Error>(&self, given: String) -> E {
        let names = listed_strings(self.flags.iter().map(|flag| quoted(flag)));
        self.context.mismatch(format!("one of {names}"), given)
    }
}

impl<'de> DeserializeSeed<'de> for Flag<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flag<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a flag")
    }

    refuse!(bool number null array object);

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        let Some(flag) = self.flags.iter().position(|flag| flag == name) else {
            return Err(self.refuse(quoted(name)));
        };
        if self.set.contains(&flag) {
            let path = self.context.path();
            return Err(self.context.fail(Error::Twice { path }));
        }
        self.context.count(1)?;
        self.context.count_name(name)?;
        Ok(flag)
    }
}
