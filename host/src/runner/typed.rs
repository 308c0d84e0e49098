//! Calls of functions with JSON in place of their arguments.

use std::collections::HashMap;

use bytes::Bytes;
use wasmtime::component::{Instance, Val};
use wasmtime::{Store, WasmBacktrace};

use tq_core::limits::HOSTCALL_BYTES_MAX;
use tq_typed::{TooLong, Type, Value};

use super::Attempt;
use super::attempt::Returned;
use crate::component::TypedFunction;
use crate::imports::TaskError;
use crate::sandbox::Guest;

/// The result of a function is more than the engine hands over.
#[derive(Debug, thiserror::Error)]
#[error(
    "the result takes more than {HOSTCALL_BYTES_MAX} bytes in the host, where each byte of a `list<u8>` takes {value}; a handler (`tq:task/handler`) gives back larger data",
    value = size_of::<Val>()
)]
pub(super) struct TooMany;

/// Calls the function that the attempt names.
///
/// # Errors
/// What the engine says of a call that did not return.
pub(super) async fn call(
    store: &mut Store<Guest>,
    instance: &Instance,
    attempt: &Attempt,
    functions: &HashMap<String, TypedFunction>,
) -> wasmtime::Result<Returned> {
    let missing = || {
        let name = attempt.function.escape_debug();
        Ok(Returned::Missing(format!(
            "it exports no function `{name}`"
        )))
    };
    let Some(TypedFunction { index, types }) = functions.get(&attempt.function) else {
        return missing();
    };
    let Some(function) = instance.get_func(&mut *store, index) else {
        return missing();
    };
    let params = {
        // The broker has looked at it too; but a redrive takes a payload to another version.
        let values = match tq_typed::arguments(types, &attempt.payload) {
            Ok(values) => values,
            Err(error) => {
                let message = format!("payload does not fit: {error}");
                return Ok(Returned::Error(TaskError::InvalidInput(message)));
            }
        };
        let params = types.params.iter().zip(values);
        params
            .map(|(param, value)| to_val(&param.ty, value))
            .collect::<Vec<_>>()
    };
    let mut results = vec![Val::Bool(false); usize::from(types.result.is_some())];
    // It calls what the component has for afterwards too, once the result is out of its memory.
    match function
        .call_async(&mut *store, &params, &mut results)
        .await
    {
        Ok(()) => {}
        // With no guest on the stack it is the result that is too much, and not what a call of the guest passed.
        Err(error)
            if !error.is::<WasmBacktrace>()
                && error
                    .root_cause()
                    .to_string()
                    .contains("fuel allocated for hostcalls") =>
        {
            return Ok(Returned::TooMany(TooMany));
        }
        Err(error) => return Err(error),
    }
    Ok(returned(types, results.pop(), attempt.limits.output_bytes))
}

/// What a function that returned means for its task.
fn returned(types: &tq_typed::Function, result: Option<Val>, bytes_max: u64) -> Returned {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let json = |ty: Option<&Type>, val: Option<Val>| match (ty, val) {
        (Some(ty), Some(val)) => {
            let value = from_val(ty, val).ok_or(Unfit::OtherType)?;
            Ok(tq_typed::json(ty, &value, bytes_max)?)
        }
        (None, None) => Ok(b"null".to_vec()),
        (_, _) => Err(Unfit::OtherType),
    };
    let (json, is_failure) = match (&types.result, result) {
        (Some(Type::Result { ok, err: _ }), Some(Val::Result(Ok(val)))) => {
            (json(ok.as_deref(), val.map(|val| *val)), false)
        }
        (Some(Type::Result { ok: _, err: None }), Some(Val::Result(Err(None)))) => {
            let message = "the function returned an error, which says no more".to_owned();
            return Returned::Error(TaskError::Fatal(message));
        }
        (Some(Type::Result { ok: _, err }), Some(Val::Result(Err(val)))) => {
            (json(err.as_deref(), val.map(|val| *val)), true)
        }
        (ty, val) => (json(ty.as_ref(), val), false),
    };
    match json {
        Ok(json) if is_failure => {
            // It is cut where every message is.
            Returned::Error(TaskError::Fatal(
                String::from_utf8_lossy(&json).into_owned(),
            ))
        }
        Ok(json) => Returned::Result(Bytes::from(json)),
        Err(Unfit::TooLong) => Returned::TooLarge,
        Err(Unfit::OtherType) => {
            Returned::Missing("the function returned another type than it says".to_owned())
        }
    }
}

/// Why there is no JSON of a result.
enum Unfit {
    TooLong,
    /// The engine gives what the component's own types say, so that this is an error of the host.
    OtherType,
}

impl From<TooLong> for Unfit {
    fn from(TooLong(_): TooLong) -> Self {
        Self::TooLong
    }
}

/// A value as the engine takes it.
///
/// # Panics
/// If the value is not of the type.
fn to_val(ty: &Type, value: Value) -> Val {
    let side = |ty: &Option<Box<Type>>, value: Option<Box<Value>>| {
        let value = ty.as_ref().zip(value);
        value.map(|(ty, value)| Box::new(to_val(ty, *value)))
    };
    match (ty, value) {
        (_, Value::Bool(value)) => Val::Bool(value),
        (_, Value::S8(value)) => Val::S8(value),
        (_, Value::U8(value)) => Val::U8(value),
        (_, Value::S16(value)) => Val::S16(value),
        (_, Value::U16(value)) => Val::U16(value),
        (_, Value::S32(value)) => Val::S32(value),
        (_, Value::U32(value)) => Val::U32(value),
        (_, Value::S64(value)) => Val::S64(value),
        (_, Value::U64(value)) => Val::U64(value),
        (_, Value::F32(value)) => Val::Float32(value),
        (_, Value::F64(value)) => Val::Float64(value),
        (_, Value::Char(value)) => Val::Char(value),
        (_, Value::String(text)) => Val::String(text),
        (_, Value::Bytes(bytes)) => Val::List(bytes.into_iter().map(Val::U8).collect()),
        (Type::List(element), Value::List(values)) => {
            let values = values.into_iter().map(|value| to_val(element, value));
            Val::List(values.collect())
        }
        (Type::Option(some), Value::Option(value)) => {
            Val::Option(value.map(|value| Box::new(to_val(some, *value))))
        }
        (Type::Result { ok, err }, Value::Result(value)) => Val::Result(match value {
            Ok(value) => Ok(side(ok, value)),
            Err(value) => Err(side(err, value)),
        }),
        (Type::Tuple(types), Value::Tuple(values)) => {
            let values = types
                .iter()
                .zip(values)
                .map(|(ty, value)| to_val(ty, value));
            Val::Tuple(values.collect())
        }
        (Type::Record { name: _, fields }, Value::Record(values)) => {
            let values = fields.iter().zip(values);
            let values =
                values.map(|(field, value)| (field.name.clone(), to_val(&field.ty, value)));
            Val::Record(values.collect())
        }
        (Type::Variant { name: _, cases }, Value::Variant(case, value)) => {
            let case = &cases[case];
            let value = case.ty.as_ref().zip(value);
            let value = value.map(|(ty, value)| Box::new(to_val(ty, *value)));
            Val::Variant(case.name.clone(), value)
        }
        (Type::Enum { name: _, cases }, Value::Enum(case)) => Val::Enum(cases[case].clone()),
        (Type::Flags { name: _, flags }, Value::Flags(set)) => {
            Val::Flags(set.into_iter().map(|flag| flags[flag].clone()).collect())
        }
        (ty, value) => panic!("{value:?} is no value of {ty:?}"),
    }
}

/// A value as the engine gives it. None if it is not of the type.
fn from_val(ty: &Type, val: Val) -> Option<Value> {
    let side = |ty: &Option<Box<Type>>, val: Option<Box<Val>>| match (ty, val) {
        (Some(ty), Some(val)) => Some(Some(Box::new(from_val(ty, *val)?))),
        (None, None) => Some(None),
        (_, _) => None,
    };
    Some(match (ty, val) {
        (Type::Bool, Val::Bool(value)) => Value::Bool(value),
        (Type::S8, Val::S8(value)) => Value::S8(value),
        (Type::U8, Val::U8(value)) => Value::U8(value),
        (Type::S16, Val::S16(value)) => Value::S16(value),
        (Type::U16, Val::U16(value)) => Value::U16(value),
        (Type::S32, Val::S32(value)) => Value::S32(value),
        (Type::U32, Val::U32(value)) => Value::U32(value),
        (Type::S64, Val::S64(value)) => Value::S64(value),
        (Type::U64, Val::U64(value)) => Value::U64(value),
        (Type::F32, Val::Float32(value)) => Value::F32(value),
        (Type::F64, Val::Float64(value)) => Value::F64(value),
        (Type::Char, Val::Char(value)) => Value::Char(value),
        (Type::String, Val::String(text)) => Value::String(text),
        (Type::List(element), Val::List(vals)) if **element == Type::U8 => {
            let bytes = vals.into_iter().map(|val| match val {
                Val::U8(byte) => Some(byte),
                _ => None,
            });
            Value::Bytes(bytes.collect::<Option<_>>()?)
        }
        (Type::List(element), Val::List(vals)) => {
            let values = vals.into_iter().map(|val| from_val(element, val));
            Value::List(values.collect::<Option<_>>()?)
        }
        (Type::Option(some), Val::Option(val)) => Value::Option(match val {
            Some(val) => Some(Box::new(from_val(some, *val)?)),
            None => None,
        }),
        (Type::Result { ok, err }, Val::Result(val)) => Value::Result(match val {
            Ok(val) => Ok(side(ok, val)?),
            Err(val) => Err(side(err, val)?),
        }),
        (Type::Tuple(types), Val::Tuple(vals)) if types.len() == vals.len() => {
            let values = types.iter().zip(vals).map(|(ty, val)| from_val(ty, val));
            Value::Tuple(values.collect::<Option<_>>()?)
        }
        (Type::Record { name: _, fields }, Val::Record(vals)) if fields.len() == vals.len() => {
            let values = fields
                .iter()
                .zip(vals)
                .map(|(field, (_, val))| from_val(&field.ty, val));
            Value::Record(values.collect::<Option<_>>()?)
        }
        (Type::Variant { name: _, cases }, Val::Variant(name, val)) => {
            let index = cases.iter().position(|case| case.name == name)?;
            let value = match (&cases[index].ty, val) {
                (Some(ty), Some(val)) => Some(Box::new(from_val(ty, *val)?)),
                (None, None) => None,
                (_, _) => return None,
            };
            Value::Variant(index, value)
        }
        (Type::Enum { name: _, cases }, Val::Enum(name)) => {
            Value::Enum(cases.iter().position(|case| *case == name)?)
        }
        (Type::Flags { name: _, flags }, Val::Flags(names)) => {
            let set = names
                .iter()
                .map(|name| flags.iter().position(|flag| flag == name));
            let mut set = set.collect::<Option<Vec<_>>>()?;
            set.sort_unstable();
            Value::Flags(set)
        }
        (_, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use tq_core::limits::TYPED_VALUES_MAX;

    use super::*;

    #[test]
    fn values_take_what_their_limit_says() {
        assert!(size_of::<Val>() * TYPED_VALUES_MAX <= HOSTCALL_BYTES_MAX);
    }
}
