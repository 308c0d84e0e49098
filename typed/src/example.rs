//! A payload to begin with.

use crate::{Case, Field, Function, Type, Value, json};

impl Function {
    /// A payload that fits, with a plain value for each parameter: for people, who change what they mean otherwise.
    ///
    /// # Panics
    /// Never: what it makes of a type is a value of it.
    #[must_use]
    pub fn example(&self) -> String {
        let arguments = Type::Record {
            name: String::new(),
            fields: self.params.clone(),
        };
        let json = json(&arguments, &value(&arguments), usize::MAX);
        let json = json.expect("there is no end to what it may have");
        String::from_utf8(json).expect("JSON is text")
    }
}

fn value(ty: &Type) -> Value {
    let side = |ty: &Option<Box<Type>>| ty.as_ref().map(|ty| Box::new(value(ty)));
    match ty {
        Type::Bool => Value::Bool(true),
        Type::S8 => Value::S8(1),
        Type::U8 => Value::U8(1),
        Type::S16 => Value::S16(1),
        Type::U16 => Value::U16(1),
        Type::S32 => Value::S32(1),
        Type::U32 => Value::U32(1),
        Type::S64 => Value::S64(1),
        Type::U64 => Value::U64(1),
        Type::F32 => Value::F32(1.5),
        Type::F64 => Value::F64(1.5),
        Type::Char => Value::Char('a'),
        Type::String => Value::String("text".to_owned()),
        Type::List(_) if ty.is_bytes() => Value::Bytes(b"bytes".to_vec()),
        Type::List(element) => Value::List(vec![value(element)]),
        Type::Option(some) => Value::Option(Some(Box::new(value(some)))),
        Type::Result { ok, err: _ } => Value::Result(Ok(side(ok))),
        Type::Tuple(types) => Value::Tuple(types.iter().map(value).collect()),
        Type::Record { name: _, fields } => Value::Record(
            fields
                .iter()
                .map(|Field { name: _, ty }| value(ty))
                .collect(),
        ),
        Type::Variant { name: _, cases } => {
            let first = cases.first();
            let ty = first.and_then(|Case { name: _, ty }| ty.as_ref());
            Value::Variant(0, ty.map(|ty| Box::new(value(ty))))
        }
        Type::Enum { .. } => Value::Enum(0),
        Type::Flags { .. } => Value::Flags(vec![0]),
    }
}
