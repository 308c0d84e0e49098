//! Functions that are called with JSON: their names and types, from what a component exports.

use std::collections::HashMap;

use tq_core::limits::{MODULE_FUNCTIONS_MAX, MODULE_TYPED_NAMES_BYTES_MAX, MODULE_TYPED_TYPES_MAX};
use tq_core::name;
use tq_typed::{Case, Field, Measure, Type, is_own, names};
use wasmparser::PrimitiveValType;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType,
    ComponentFuncType, ComponentValType,
};
use wasmparser::types::Types;

use super::types::at_most;
use super::{Error, Function, Kind};
use crate::modules::{Schemas, Typed, Uncallable};

/// The functions that a component exports, by name, and those of them that no task can call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) functions: Vec<Function>,
    pub(super) uncallable: Vec<Uncallable>,
}

/// Finds the functions among these top-level exports, and in the interfaces among them. `imports` are the names of what the
/// component imports, where the names of types may come from.
///
/// # Errors
/// If there are more than a module may have, or their types are.
pub(super) fn functions(types: &Types, imports: &[&str], exports: &[&str]) -> Result<Found, Error> {
    let exported = exported(types, exports)?;
    let type_names = type_names(types, imports, exports);
    let called: Vec<_> = exported
        .iter()
        .map(|(interface, export, _)| (*interface, *export))
        .collect();
    let mut all = Measure::default();
    let mut found = Found::default();
    for (name, (interface, export, ty)) in names(&called).into_iter().zip(exported) {
        let mut reader = Reader {
            types,
            names: &type_names,
            measure: Measure::default(),
        };
        let read = match name::is_function(&name) {
            true => reader.function(ty),
            false => Err(tq_typed::Uncallable::Name),
        };
        match read {
            Ok(function) => {
                all.types += reader.measure.types;
                all.names_bytes += reader.measure.names_bytes;
                at_most(
                    "types in the signatures of its functions",
                    all.types,
                    MODULE_TYPED_TYPES_MAX,
                )?;
                at_most(
                    "bytes of names in the signatures of its functions",
                    all.names_bytes,
                    MODULE_TYPED_NAMES_BYTES_MAX,
                )?;
                let takes_nothing = function.params.is_empty();
                found.functions.push(Function {
                    name,
                    doc: String::new(),
                    input: if takes_nothing {
                        Kind::None
                    } else {
                        Kind::Json
                    },
                    output: Kind::Json,
                    schemas: Schemas::default(),
                    typed: Some(Typed {
                        interface: interface.unwrap_or_default().to_owned(),
                        export: export.to_owned(),
                        function,
                    }),
                });
            }
            Err(why) => found.uncallable.push(Uncallable {
                name: super::error::cut(&name, super::error::QUOTED_CHARS_MAX),
                why: why.to_string(),
            }),
        }
    }
    Ok(found)
}

/// An exported function: its interface, its name there and its type.
type Exported<'a> = (Option<&'a str>, &'a str, &'a ComponentFuncType);

/// Each exported function.
fn exported<'a>(types: &'a Types, exports: &[&'a str]) -> Result<Vec<Exported<'a>>, Error> {
    let mut found = Vec::new();
    for export in exports {
        let Some(item) = types.component_item_for_export(export) else {
            continue;
        };
        match item.ty {
            ComponentEntityType::Func(function) => found.push((None, *export, &types[function])),
            ComponentEntityType::Instance(instance) if is_own(export) => {
                let functions = types[instance].exports.iter().filter_map(|(name, item)| {
                    let ComponentEntityType::Func(function) = item.ty else {
                        return None;
                    };
                    Some((Some(*export), name.as_str(), &types[function]))
                });
                found.extend(functions);
            }
            ComponentEntityType::Instance(_)
            | ComponentEntityType::Module(_)
            | ComponentEntityType::Value(_)
            | ComponentEntityType::Type { .. }
            | ComponentEntityType::Component(_) => {}
        }
        if found.len() > MODULE_FUNCTIONS_MAX {
            return Err(Error::TooManyFunctions { found: found.len() });
        }
    }
    Ok(found)
}

type TypeNames<'a> = HashMap<ComponentDefinedTypeId, &'a str>;

/// The names of types: a component has to export or import each that has fields or cases under one.
fn type_names<'a>(types: &'a Types, imports: &[&'a str], exports: &[&'a str]) -> TypeNames<'a> {
    let mut names = HashMap::new();
    let exports = exports
        .iter()
        .map(|name| (*name, types.component_item_for_export(name)));
    let imports = imports
        .iter()
        .map(|name| (*name, types.component_item_for_import(name)));
    for (name, item) in exports.chain(imports) {
        let Some(item) = item else { continue };
        if let ComponentEntityType::Instance(instance) = item.ty {
            for (name, item) in &types[instance].exports {
                add_name(&mut names, name, item.ty);
            }
        } else {
            add_name(&mut names, name, item.ty);
        }
    }
    names
}

fn add_name<'a>(names: &mut TypeNames<'a>, name: &'a str, ty: ComponentEntityType) {
    if let ComponentEntityType::Type {
        referenced,
        created,
    } = ty
    {
        for id in [created, referenced] {
            if let ComponentAnyTypeId::Defined(id) = id {
                names.entry(id).or_insert(name);
            }
        }
    }
}

struct Reader<'a> {
    types: &'a Types,
    names: &'a TypeNames<'a>,
    measure: Measure,
}

type Read<T> = Result<T, tq_typed::Uncallable>;

impl Reader<'_> {
    fn function(&mut self, function: &ComponentFuncType) -> Read<tq_typed::Function> {
        if function.async_ {
            return Err(tq_typed::Uncallable::Async);
        }
        let params = function.params.iter();
        let params = params.map(|(name, ty)| self.field(name.as_str(), *ty, 1));
        let read = tq_typed::Function {
            params: params.collect::<Read<_>>()?,
            result: function.result.map(|ty| self.ty(ty, 1)).transpose()?,
        };
        read.bounded()
    }

    fn field(&mut self, name: &str, ty: ComponentValType, depth: usize) -> Read<Field> {
        Ok(Field {
            name: self.measure.name(name)?,
            ty: self.ty(ty, depth)?,
        })
    }

    fn side(&mut self, ty: Option<ComponentValType>, depth: usize) -> Read<Option<Box<Type>>> {
        ty.map(|ty| self.ty(ty, depth).map(Box::new)).transpose()
    }

    fn ty(&mut self, ty: ComponentValType, depth: usize) -> Read<Type> {
        self.measure.count(depth)?;
        match ty {
            ComponentValType::Primitive(primitive) => primitive_type(primitive),
            ComponentValType::Type(id) => self.defined(id, depth),
        }
    }

    fn defined(&mut self, id: ComponentDefinedTypeId, depth: usize) -> Read<Type> {
        let types = self.types;
        let below = depth + 1;
        let name = |this: &mut Self| {
            let name = this.names.get(&id).copied().unwrap_or_default();
            this.measure.name(name)
        };
        let no_json = |what| Err(tq_typed::Uncallable::NoJson(what));
        Ok(match &types[id] {
            ComponentDefinedType::Primitive(primitive) => primitive_type(*primitive)?,
            ComponentDefinedType::List { element, .. } => {
                Type::List(Box::new(self.ty(*element, below)?))
            }
            ComponentDefinedType::Option { ty, .. } => Type::Option(Box::new(self.ty(*ty, below)?)),
            ComponentDefinedType::Result { ok, err, .. } => Type::Result {
                ok: self.side(*ok, below)?,
                err: self.side(*err, below)?,
            },
            ComponentDefinedType::Tuple(tuple) => {
                let types = tuple.types.iter().map(|ty| self.ty(*ty, below));
                Type::Tuple(types.collect::<Read<_>>()?)
            }
            ComponentDefinedType::Record(record) => {
                let name = name(self)?;
                let fields = record.fields.iter();
                let fields = fields.map(|(name, ty)| self.field(name.as_str(), *ty, below));
                let fields = fields.collect::<Read<_>>()?;
                Type::Record { name, fields }
            }
            ComponentDefinedType::Variant(variant) => {
                let name = name(self)?;
                let cases = variant.cases.iter().map(|(name, case)| {
                    Ok(Case {
                        name: self.measure.name(name.as_str())?,
                        ty: case.ty.map(|ty| self.ty(ty, below)).transpose()?,
                    })
                });
                let cases = cases.collect::<Read<_>>()?;
                Type::Variant { name, cases }
            }
            ComponentDefinedType::Enum(cases) => {
                let name = name(self)?;
                let cases = cases.iter().map(|case| self.measure.name(case.as_str()));
                let cases = cases.collect::<Read<_>>()?;
                Type::Enum { name, cases }
            }
            ComponentDefinedType::Flags(flags) => {
                let name = name(self)?;
                let flags = flags.iter().map(|flag| self.measure.name(flag.as_str()));
                let flags = flags.collect::<Read<_>>()?;
                Type::Flags { name, flags }
            }
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => {
                return no_json("resource");
            }
            ComponentDefinedType::Future { .. } => return no_json("future"),
            ComponentDefinedType::Stream { .. } => return no_json("stream"),
            ComponentDefinedType::Map { .. } => return no_json("map"),
            ComponentDefinedType::FixedLengthList { .. } => {
                return no_json("list of a fixed length");
            }
        })
    }
}

fn primitive_type(primitive: PrimitiveValType) -> Read<Type> {
    Ok(match primitive {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::S8,
        PrimitiveValType::U8 => Type::U8,
        PrimitiveValType::S16 => Type::S16,
        PrimitiveValType::U16 => Type::U16,
        PrimitiveValType::S32 => Type::S32,
        PrimitiveValType::U32 => Type::U32,
        PrimitiveValType::S64 => Type::S64,
        PrimitiveValType::U64 => Type::U64,
        PrimitiveValType::F32 => Type::F32,
        PrimitiveValType::F64 => Type::F64,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::String,
        PrimitiveValType::ErrorContext => {
            return Err(tq_typed::Uncallable::NoJson("error context"));
        }
    })
}
