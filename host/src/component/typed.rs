//! The functions of a component that are called with JSON: found and read once, when it is loaded.

use std::collections::HashMap;

use tq_typed::{Case, Field, Measure, Type, Uncallable, is_own, names};
use wasmtime::component::types::{self, ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex};

/// A function that is called with JSON in place of its arguments.
pub(crate) struct TypedFunction {
    /// Where it is in the component.
    pub(crate) index: ComponentExportIndex,
    /// What it takes and gives.
    pub(crate) types: tq_typed::Function,
}

/// The functions that a component exports, itself and in interfaces, by the names that the broker has for them. What no task can
/// call is left out; the broker says why.
pub(super) fn functions(component: &Component) -> HashMap<String, TypedFunction> {
    let engine = component.engine();
    let ty = component.component_type();
    let mut exported: Vec<(Option<String>, String, ComponentFunc)> = Vec::new();
    for (name, item) in ty.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(function) => {
                exported.push((None, name.to_owned(), function));
            }
            ComponentItem::ComponentInstance(instance) if is_own(name) => {
                for (function, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(ty) = item.ty {
                        exported.push((Some(name.to_owned()), function.to_owned(), ty));
                    }
                }
            }
            // Nothing of these can be called.
            _ => {}
        }
    }
    let called: Vec<_> = exported
        .iter()
        .map(|(interface, name, _)| (interface.as_deref(), name.as_str()))
        .collect();
    let names = names(&called);
    let functions = names
        .into_iter()
        .zip(&exported)
        .filter_map(|(name, export)| {
            let (interface, function, ty) = export;
            let interface = match interface {
                Some(interface) => Some(component.get_export_index(None, interface)?),
                None => None,
            };
            let index = component.get_export_index(interface.as_ref(), function)?;
            let types = read(ty).ok()?;
            Some((name, TypedFunction { index, types }))
        });
    functions.collect()
}

type Read<T> = Result<T, Uncallable>;

fn read(function: &ComponentFunc) -> Read<tq_typed::Function> {
    if function.async_() {
        return Err(Uncallable::Async);
    }
    let mut measure = Measure::default();
    let params = function
        .params()
        .map(|(name, ty)| field(&mut measure, name, &ty, 1));
    let params = params.collect::<Read<_>>()?;
    let result = function.results().next();
    let result = result
        .map(|result| ty(&mut measure, &result, 1))
        .transpose()?;
    tq_typed::Function { params, result }.bounded()
}

fn field(measure: &mut Measure, name: &str, of: &types::Type, depth: usize) -> Read<Field> {
    Ok(Field {
        name: measure.name(name)?,
        ty: ty(measure, of, depth)?,
    })
}

fn ty(measure: &mut Measure, of: &types::Type, depth: usize) -> Read<Type> {
    measure.count(depth)?;
    let below = depth + 1;
    // The compiled form has lost the names of types, which are for people.
    let name = String::new();
    let no_json = |what| Err(Uncallable::NoJson(what));
    Ok(match of {
        types::Type::Bool => Type::Bool,
        types::Type::S8 => Type::S8,
        types::Type::U8 => Type::U8,
        types::Type::S16 => Type::S16,
        types::Type::U16 => Type::U16,
        types::Type::S32 => Type::S32,
        types::Type::U32 => Type::U32,
        types::Type::S64 => Type::S64,
        types::Type::U64 => Type::U64,
        types::Type::Float32 => Type::F32,
        types::Type::Float64 => Type::F64,
        types::Type::Char => Type::Char,
        types::Type::String => Type::String,
        types::Type::List(list) => Type::List(Box::new(ty(measure, &list.ty(), below)?)),
        types::Type::Option(option) => Type::Option(Box::new(ty(measure, &option.ty(), below)?)),
        types::Type::Result(result) => {
            let mut side = |of: Option<types::Type>| {
                of.map(|of| ty(measure, &of, below).map(Box::new))
                    .transpose()
            };
            let ok = side(result.ok())?;
            let err = side(result.err())?;
            Type::Result { ok, err }
        }
        types::Type::Tuple(tuple) => {
            let types = tuple.types().map(|of| ty(measure, &of, below));
            Type::Tuple(types.collect::<Read<_>>()?)
        }
        types::Type::Record(record) => {
            let fields = record.fields();
            let fields = fields.map(|of| field(measure, of.name, &of.ty, below));
            let fields = fields.collect::<Read<_>>()?;
            Type::Record { name, fields }
        }
        types::Type::Variant(variant) => {
            let cases = variant.cases().map(|case| {
                Ok(Case {
                    name: measure.name(case.name)?,
                    ty: case.ty.map(|of| ty(measure, &of, below)).transpose()?,
                })
            });
            let cases = cases.collect::<Read<_>>()?;
            Type::Variant { name, cases }
        }
        types::Type::Enum(cases) => {
            let cases = cases.names().map(|case| measure.name(case));
            let cases = cases.collect::<Read<_>>()?;
            Type::Enum { name, cases }
        }
        types::Type::Flags(flags) => {
            let flags = flags.names().map(|flag| measure.name(flag));
            let flags = flags.collect::<Read<_>>()?;
            Type::Flags { name, flags }
        }
        types::Type::Own(_) | types::Type::Borrow(_) => return no_json("resource"),
        types::Type::Future(_) => return no_json("future"),
        types::Type::Stream(_) => return no_json("stream"),
        types::Type::ErrorContext => return no_json("error context"),
        types::Type::Map(_) => return no_json("map"),
        types::Type::FixedLengthList(_) => return no_json("list of a fixed length"),
    })
}
