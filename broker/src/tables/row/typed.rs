//! Rows of the types of functions, inside those of their modules.

use prost::Message;

use tq_typed::{Case, Field, Function, Type};

use super::Error;
use crate::modules::Typed;

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TypedRow {
    #[prost(string, tag = "1")]
    interface: String,
    #[prost(string, tag = "2")]
    export: String,
    #[prost(message, repeated, tag = "3")]
    params: Vec<MemberRow>,
    #[prost(message, optional, tag = "4")]
    result: Option<TypeRow>,
}

/// A type. Nested at most [`TYPED_DEPTH_MAX`](tq_core::limits::TYPED_DEPTH_MAX) deep, which is well below where `prost` stops.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TypeRow {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    name: String,
    /// What it is made of, in its order: elements without names, names without types, or both.
    #[prost(message, repeated, tag = "3")]
    members: Vec<MemberRow>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MemberRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    ty: Option<TypeRow>,
}

/// Kinds of types. A number is never used for another.
mod kind {
    pub(super) const BOOL: u32 = 1;
    pub(super) const S8: u32 = 2;
    pub(super) const U8: u32 = 3;
    pub(super) const S16: u32 = 4;
    pub(super) const U16: u32 = 5;
    pub(super) const S32: u32 = 6;
    pub(super) const U32: u32 = 7;
    pub(super) const S64: u32 = 8;
    pub(super) const U64: u32 = 9;
    pub(super) const F32: u32 = 10;
    pub(super) const F64: u32 = 11;
    pub(super) const CHAR: u32 = 12;
    pub(super) const STRING: u32 = 13;
    pub(super) const LIST: u32 = 14;
    pub(super) const OPTION: u32 = 15;
    pub(super) const RESULT: u32 = 16;
    pub(super) const TUPLE: u32 = 17;
    pub(super) const RECORD: u32 = 18;
    pub(super) const VARIANT: u32 = 19;
    pub(super) const ENUM: u32 = 20;
    pub(super) const FLAGS: u32 = 21;
}

pub(super) fn typed_row(typed: &Typed) -> TypedRow {
    let Typed {
        interface,
        export,
        function: Function { params, result },
    } = typed;
    TypedRow {
        interface: interface.clone(),
        export: export.clone(),
        params: params.iter().map(field_row).collect(),
        result: result.as_ref().map(type_row),
    }
}

pub(super) fn typed(row: TypedRow) -> Result<Typed, Error> {
    let TypedRow {
        interface,
        export,
        params,
        result,
    } = row;
    Ok(Typed {
        interface,
        export,
        function: Function {
            params: params.into_iter().map(field).collect::<Result<_, _>>()?,
            result: result.map(ty).transpose()?,
        },
    })
}

fn type_row(ty: &Type) -> TypeRow {
    let leaf = |kind| TypeRow {
        kind,
        ..TypeRow::default()
    };
    let of = |kind, name: &str, members| TypeRow {
        kind,
        name: name.to_owned(),
        members,
    };
    let element = |ty: &Type| member_row("", Some(ty));
    match ty {
        Type::Bool => leaf(kind::BOOL),
        Type::S8 => leaf(kind::S8),
        Type::U8 => leaf(kind::U8),
        Type::S16 => leaf(kind::S16),
        Type::U16 => leaf(kind::U16),
        Type::S32 => leaf(kind::S32),
        Type::U32 => leaf(kind::U32),
        Type::S64 => leaf(kind::S64),
        Type::U64 => leaf(kind::U64),
        Type::F32 => leaf(kind::F32),
        Type::F64 => leaf(kind::F64),
        Type::Char => leaf(kind::CHAR),
        Type::String => leaf(kind::STRING),
        Type::List(ty) => of(kind::LIST, "", vec![element(ty)]),
        Type::Option(ty) => of(kind::OPTION, "", vec![element(ty)]),
        Type::Result { ok, err } => {
            let sides = [
                member_row("ok", ok.as_deref()),
                member_row("err", err.as_deref()),
            ];
            of(kind::RESULT, "", sides.into())
        }
        Type::Tuple(types) => of(kind::TUPLE, "", types.iter().map(element).collect()),
        Type::Record { name, fields } => {
            of(kind::RECORD, name, fields.iter().map(field_row).collect())
        }
        Type::Variant { name, cases } => {
            let cases = cases.iter();
            let cases = cases.map(|Case { name, ty }| member_row(name, ty.as_ref()));
            of(kind::VARIANT, name, cases.collect())
        }
        Type::Enum { name, cases } => of(kind::ENUM, name, name_rows(cases)),
        Type::Flags { name, flags } => of(kind::FLAGS, name, name_rows(flags)),
    }
}

fn member_row(name: &str, ty: Option<&Type>) -> MemberRow {
    MemberRow {
        name: name.to_owned(),
        ty: ty.map(type_row),
    }
}

fn field_row(field: &Field) -> MemberRow {
    member_row(&field.name, Some(&field.ty))
}

fn name_rows(names: &[String]) -> Vec<MemberRow> {
    names.iter().map(|name| member_row(name, None)).collect()
}

const WRONG: Error = Error::Field {
    kind: "module",
    field: "typed",
};

fn ty(row: TypeRow) -> Result<Type, Error> {
    let TypeRow {
        kind,
        name,
        members,
    } = row;
    Ok(match kind {
        kind::BOOL => Type::Bool,
        kind::S8 => Type::S8,
        kind::U8 => Type::U8,
        kind::S16 => Type::S16,
        kind::U16 => Type::U16,
        kind::S32 => Type::S32,
        kind::U32 => Type::U32,
        kind::S64 => Type::S64,
        kind::U64 => Type::U64,
        kind::F32 => Type::F32,
        kind::F64 => Type::F64,
        kind::CHAR => Type::Char,
        kind::STRING => Type::String,
        kind::LIST => Type::List(only(members)?),
        kind::OPTION => Type::Option(only(members)?),
        kind::RESULT => {
            let [ok, err] = <[MemberRow; 2]>::try_from(members).map_err(|_| WRONG)?;
            let side = |row: MemberRow| row.ty.map(|row| ty(row).map(Box::new)).transpose();
            Type::Result {
                ok: side(ok)?,
                err: side(err)?,
            }
        }
        kind::TUPLE => {
            let types = members.into_iter().map(|row| Ok(field(row)?.ty));
            Type::Tuple(types.collect::<Result<_, Error>>()?)
        }
        kind::RECORD => {
            let fields = members.into_iter().map(field).collect::<Result<_, _>>()?;
            Type::Record { name, fields }
        }
        kind::VARIANT => {
            let cases = members.into_iter().map(|MemberRow { name, ty: row }| {
                let ty = row.map(ty).transpose()?;
                Ok(Case { name, ty })
            });
            let cases = cases.collect::<Result<_, Error>>()?;
            Type::Variant { name, cases }
        }
        kind::ENUM => Type::Enum {
            name,
            cases: member_names(members),
        },
        kind::FLAGS => Type::Flags {
            name,
            flags: member_names(members),
        },
        _ => return Err(WRONG),
    })
}

fn only(members: Vec<MemberRow>) -> Result<Box<Type>, Error> {
    let [member] = <[MemberRow; 1]>::try_from(members).map_err(|_| WRONG)?;
    Ok(Box::new(field(member)?.ty))
}

fn field(MemberRow { name, ty: row }: MemberRow) -> Result<Field, Error> {
    let ty = ty(row.ok_or(WRONG)?)?;
    Ok(Field { name, ty })
}

fn member_names(members: Vec<MemberRow>) -> Vec<String> {
    members.into_iter().map(|member| member.name).collect()
}

#[cfg(test)]
mod tests {
    use tq_core::limits::TYPED_DEPTH_MAX;

    use super::*;

    fn of(result: Type) -> Typed {
        let params = [Type::Bool, Type::S64, Type::F32].map(|ty| Field {
            name: format!("{ty:?}").to_lowercase(),
            ty,
        });
        Typed {
            interface: "a:b/c@1.0.0".to_owned(),
            export: "f".to_owned(),
            function: Function {
                params: params.into(),
                result: Some(result),
            },
        }
    }

    #[track_caller]
    fn check(ty: Type) {
        let before = of(ty);
        let bytes = typed_row(&before).encode_to_vec();
        let after = typed(TypedRow::decode(&*bytes).expect("it is a row"));
        assert_eq!(after.expect("it is a type"), before);
    }

    #[test]
    fn every_kind_comes_back() {
        let name = || "n".to_owned();
        let cases = [None, Some(Type::Char)].map(|ty| Case { name: name(), ty });
        let side = |ty| Some(Box::new(ty));
        let (ok, err) = (side(Type::U8), side(Type::String));
        let mut all = Vec::from(Type::PRIMITIVES);
        all.extend([
            Type::List(Box::new(Type::U8)),
            Type::Option(Box::new(Type::Bool)),
            Type::Result {
                ok: None,
                err: None,
            },
            Type::Result {
                ok: ok.clone(),
                err: None,
            },
            Type::Result {
                ok: None,
                err: err.clone(),
            },
            Type::Result { ok, err },
            Type::Variant {
                name: name(),
                cases: cases.into(),
            },
            Type::Enum {
                name: name(),
                cases: vec![name()],
            },
            Type::Flags {
                name: String::new(),
                flags: vec![name()],
            },
        ]);
        let fields = all.iter().map(|ty| Field {
            name: name(),
            ty: ty.clone(),
        });
        let record = Type::Record {
            name: name(),
            fields: fields.collect(),
        };
        check(record.clone());
        all.push(record);
        check(Type::Tuple(all));
    }

    #[test]
    fn deepest_type_comes_back() {
        let mut ty = Type::U8;
        for _ in 1..TYPED_DEPTH_MAX {
            ty = Type::Option(Box::new(ty));
        }
        check(ty);
    }

    #[test]
    fn rows_that_are_no_types_are_refused() {
        let refused = |row: TypeRow| ty(row).is_err();
        let leaf = |kind| TypeRow {
            kind,
            ..TypeRow::default()
        };
        assert!(refused(leaf(0)) && refused(leaf(22)));
        assert!(refused(leaf(kind::LIST)) && refused(leaf(kind::RESULT)));
        let nothing = MemberRow::default();
        assert!(refused(TypeRow {
            members: vec![nothing.clone()],
            ..leaf(kind::RECORD)
        }));
        assert!(!refused(TypeRow {
            members: vec![nothing],
            ..leaf(kind::VARIANT)
        }));
    }
}
