//! Types as WIT has them: for people.

use std::fmt::{self, Display};

use crate::{Case, Field, Function, Type};

impl Function {
    /// Its signature under a name, in one line: `resize: func(image: list<u8>, to: size) -> result<list<u8>, error>`.
    #[must_use]
    pub fn signature(&self, name: &str) -> String {
        let params: Vec<String> = self.params.iter().map(field).collect();
        let result = self.result.as_ref();
        let result = result.map_or_else(String::new, |ty| format!(" -> {}", Short(ty)));
        format!("{name}: func({}){result}", params.join(", "))
    }

    /// The types that its signature names, each once and in one line, in the order in which they are met:
    /// `record size { width: u32, height: u32 }`.
    #[must_use]
    pub fn definitions(&self) -> Vec<String> {
        let mut definitions = Vec::new();
        let types = self.params.iter().map(|param| &param.ty);
        for ty in types.chain(&self.result) {
            define(ty, &mut definitions);
        }
        definitions
    }
}

fn define(ty: &Type, into: &mut Vec<String>) {
    if ty.name().is_some() {
        let definition = Long(ty).to_string();
        // What it is made of was seen with it.
        if into.contains(&definition) {
            return;
        }
        into.push(definition);
    }
    for ty in ty.children() {
        define(ty, into);
    }
}

impl Type {
    /// The name that its component gives it.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Record { name, .. }
            | Self::Variant { name, .. }
            | Self::Enum { name, .. }
            | Self::Flags { name, .. } => Some(name.as_str()).filter(|name| !name.is_empty()),
            Self::Bool
            | Self::S8
            | Self::U8
            | Self::S16
            | Self::U16
            | Self::S32
            | Self::U32
            | Self::S64
            | Self::U64
            | Self::F32
            | Self::F64
            | Self::Char
            | Self::String
            | Self::List(_)
            | Self::Option(_)
            | Self::Result { .. }
            | Self::Tuple(_) => None,
        }
    }
}

/// By its name, if it has one.
struct Short<'a>(&'a Type);

/// Written out.
struct Long<'a>(&'a Type);

impl Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.name() {
            Some(name) => f.write_str(name),
            None => Long(self.0).fmt(f),
        }
    }
}

impl Display for Long<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |kind: &str, members: Vec<String>| match self.0.name() {
            Some(name) => format!("{kind} {name} {{ {} }}", members.join(", ")),
            None => format!("{kind} {{ {} }}", members.join(", ")),
        };
        match self.0 {
            Type::Bool => f.write_str("bool"),
            Type::S8 => f.write_str("s8"),
            Type::U8 => f.write_str("u8"),
            Type::S16 => f.write_str("s16"),
            Type::U16 => f.write_str("u16"),
            Type::S32 => f.write_str("s32"),
            Type::U32 => f.write_str("u32"),
            Type::S64 => f.write_str("s64"),
            Type::U64 => f.write_str("u64"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("string"),
            Type::List(element) => write!(f, "list<{}>", Short(element)),
            Type::Option(some) => write!(f, "option<{}>", Short(some)),
            Type::Result { ok, err } => match (ok, err) {
                (None, None) => f.write_str("result"),
                (Some(ok), None) => write!(f, "result<{}>", Short(ok)),
                (None, Some(err)) => write!(f, "result<_, {}>", Short(err)),
                (Some(ok), Some(err)) => write!(f, "result<{}, {}>", Short(ok), Short(err)),
            },
            Type::Tuple(types) => {
                let types: Vec<String> = types.iter().map(|ty| Short(ty).to_string()).collect();
                write!(f, "tuple<{}>", types.join(", "))
            }
            Type::Record { name: _, fields } => {
                f.write_str(&named("record", fields.iter().map(field).collect()))
            }
            Type::Variant { name: _, cases } => {
                f.write_str(&named("variant", cases.iter().map(case).collect()))
            }
            Type::Enum { name: _, cases } => f.write_str(&named("enum", cases.clone())),
            Type::Flags { name: _, flags } => f.write_str(&named("flags", flags.clone())),
        }
    }
}

fn field(field: &Field) -> String {
    format!("{}: {}", field.name, Short(&field.ty))
}

fn case(case: &Case) -> String {
    match &case.ty {
        Some(ty) => format!("{}({})", case.name, Short(ty)),
        None => case.name.clone(),
    }
}
