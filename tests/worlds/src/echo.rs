//! Components that give back what they are given.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use tq_typed::{Field, Function, Type, Value};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The parameter, and what stands beside the value in its record, so that it comes as one address: what takes more than sixteen
/// values of a core function is passed in memory, and what gives more than one is returned there, both laid out alike.
const PARAMETER: &str = "it";
const BESIDE: usize = 17;

/// What the function of that many in [`component`] takes and gives, for values of this type.
#[must_use]
pub fn record(index: usize, ty: &Type) -> Type {
    let mut fields = vec![Field {
        name: "value".to_owned(),
        ty: ty.clone(),
    }];
    fields.extend((0..BESIDE).map(|beside| Field {
        name: format!("b{beside}"),
        ty: Type::U8,
    }));
    Type::Record {
        name: format!("echoed{index}"),
        fields,
    }
}

/// That function.
#[must_use]
pub fn function(index: usize, ty: &Type) -> Function {
    let record = record(index, ty);
    Function {
        params: vec![Field {
            name: PARAMETER.to_owned(),
            ty: record.clone(),
        }],
        result: Some(record),
    }
}

/// The value that it takes, around one of its type.
#[must_use]
pub fn value(value: Value) -> Value {
    let beside = (0..BESIDE).map(|_| Value::U8(7));
    Value::Record([value].into_iter().chain(beside).collect())
}

/// Where a component has its types and its functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Both in an interface that it exports.
    Interface,
    /// Both in its world.
    World,
    /// The functions in an interface that it exports, the types in another, which that one uses.
    Apart,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::Interface, Self::World, Self::Apart];
}

/// A component, after its WIT, that exports a function `echo0`, `echo1` … for each of the types, of which each is [`function`].
///
/// # Errors
/// If a type has no form in WIT.
pub fn component(types: &[Type], place: Place) -> anyhow::Result<(String, Vec<u8>)> {
    let functions: Vec<Function> = types
        .iter()
        .enumerate()
        .map(|(index, ty)| function(index, ty))
        .collect();
    let wit = wit(&functions, place)?;
    let mut resolve = Resolve::default();
    let package = resolve.push_str("echo.wit", &wit).context("parsing it")?;
    let world = resolve.select_world(&[package], None)?;
    let mut core = core(functions.len(), place)?;
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&core)?
        .encode()?;
    Ok((wit, component))
}

/// The core module: a memory, what is to be passed put one after another in it, and functions that give back where it is.
fn core(functions: usize, place: Place) -> anyhow::Result<Vec<u8>> {
    let mut text = String::from(
        "(module
           (memory (export \"memory\") 1)
           (global $next (mut i32) (i32.const 1024))
           (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (local $at i32)
             (local.set $at (i32.and
               (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
               (i32.sub (i32.const 0) (local.get 2))))
             (global.set $next (i32.add (local.get $at) (local.get 3)))
             (loop $more
               (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16))) (then
                 (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                 (br $more))))
             (local.get $at))",
    );
    let interface = match place {
        Place::Interface | Place::Apart => "test:worlds/api@0.1.0#",
        Place::World => "",
    };
    for index in 0..functions {
        write!(
            text,
            "(func (export \"{interface}echo{index}\") (param i32) (result i32) (local.get 0))"
        )?;
    }
    text.push(')');
    Ok(wat::parse_str(text)?)
}

fn wit(functions: &[Function], place: Place) -> anyhow::Result<String> {
    let mut definitions = BTreeMap::new();
    for function in functions {
        function
            .result
            .iter()
            .for_each(|ty| define(ty, &mut definitions));
    }
    let mut exports = String::new();
    for (index, function) in functions.iter().enumerate() {
        let ty = function.result.as_ref().map(short).unwrap_or_default();
        let export = match place {
            Place::Interface | Place::Apart => "",
            Place::World => "export ",
        };
        writeln!(
            exports,
            "{export}echo{index}: func({PARAMETER}: {ty}) -> {ty};"
        )?;
    }
    let types: String = definitions.values().map(String::as_str).collect();
    let world = match place {
        Place::Interface => {
            format!("interface api {{\n{types}{exports}}}\nworld echo {{ export api; }}\n")
        }
        Place::World => format!("world echo {{\n{types}{exports}}}\n"),
        Place::Apart => {
            let names = definitions.keys().map(|name| format!("%{name}"));
            let names = names.collect::<Vec<_>>().join(", ");
            format!(
                "interface kinds {{\n{types}}}\ninterface api {{\nuse kinds.{{{names}}};\n{exports}}}\nworld echo {{ export api; }}\n"
            )
        }
    };
    Ok(format!("package test:worlds@0.1.0;\n{world}"))
}

/// The definitions of the types in a type that have names, under those.
fn define(ty: &Type, into: &mut BTreeMap<String, String>) {
    ty.children().into_iter().for_each(|ty| define(ty, into));
    let labels = |labels: &[String]| -> Vec<String> {
        labels.iter().map(|label| format!("%{label}")).collect()
    };
    let (kind, name, members) = match ty {
        Type::Record { name, fields } => {
            let field = |field: &Field| format!("%{}: {}", field.name, short(&field.ty));
            ("record", name, fields.iter().map(field).collect())
        }
        Type::Variant { name, cases } => {
            let cases = cases.iter().map(|case| match &case.ty {
                Some(ty) => format!("%{}({})", case.name, short(ty)),
                None => format!("%{}", case.name),
            });
            ("variant", name, cases.collect())
        }
        Type::Enum { name, cases } => ("enum", name, labels(cases)),
        Type::Flags { name, flags } => ("flags", name, labels(flags)),
        _ => return,
    };
    let definition = format!("{kind} %{name} {{ {} }}\n", members.join(", "));
    let before = into.insert(name.clone(), definition.clone());
    debug_assert!(before.is_none_or(|before| before == definition), "{name}");
}

/// A type where it is used.
fn short(ty: &Type) -> String {
    let side = |ty: &Option<Box<Type>>| ty.as_ref().map(|ty| short(ty));
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::S8 => "s8".to_owned(),
        Type::U8 => "u8".to_owned(),
        Type::S16 => "s16".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::S32 => "s32".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::S64 => "s64".to_owned(),
        Type::U64 => "u64".to_owned(),
        Type::F32 => "f32".to_owned(),
        Type::F64 => "f64".to_owned(),
        Type::Char => "char".to_owned(),
        Type::String => "string".to_owned(),
        Type::List(element) => format!("list<{}>", short(element)),
        Type::Option(some) => format!("option<{}>", short(some)),
        Type::Result { ok, err } => match (side(ok), side(err)) {
            (None, None) => "result".to_owned(),
            (Some(ok), None) => format!("result<{ok}>"),
            (None, Some(err)) => format!("result<_, {err}>"),
            (Some(ok), Some(err)) => format!("result<{ok}, {err}>"),
        },
        Type::Tuple(types) => {
            let types: Vec<String> = types.iter().map(short).collect();
            format!("tuple<{}>", types.join(", "))
        }
        Type::Record { name, .. }
        | Type::Variant { name, .. }
        | Type::Enum { name, .. }
        | Type::Flags { name, .. } => format!("%{name}"),
    }
}
