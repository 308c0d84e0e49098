//! Types of values.

use crate::Field;

/// A type of which JSON can stand for the values. Every type that it is made of is written out, so that it is a tree; types
/// of components are never recursive.
///
/// What has a `name` has the one that the component gives its type, or none: the compiled form has lost it. It is for people:
/// it does not appear in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of WIT")]
pub enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    List(Box<Self>),
    Option(Box<Self>),
    Result {
        ok: Option<Box<Self>>,
        err: Option<Box<Self>>,
    },
    Tuple(Vec<Self>),
    Record {
        name: String,
        fields: Vec<Field>,
    },
    Variant {
        name: String,
        cases: Vec<Case>,
    },
    Enum {
        name: String,
        cases: Vec<String>,
    },
    Flags {
        name: String,
        flags: Vec<String>,
    },
}

/// A case of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The type of its value, if it has one.
    pub ty: Option<Type>,
}

impl Type {
    /// Those that are made of no others, and have no names of their own.
    pub const PRIMITIVES: [Self; 13] = [
        Self::Bool,
        Self::S8,
        Self::U8,
        Self::S16,
        Self::U16,
        Self::S32,
        Self::U32,
        Self::S64,
        Self::U64,
        Self::F32,
        Self::F64,
        Self::Char,
        Self::String,
    ];

    /// Whether it is `list<u8>`, which JSON has a string for.
    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self, Self::List(element) if **element == Self::U8)
    }

    /// The types that it is made of, in their order.
    #[must_use]
    pub fn children(&self) -> Vec<&Self> {
        match self {
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
            | Self::Enum { .. }
            | Self::Flags { .. } => Vec::new(),
            Self::List(inner) | Self::Option(inner) => vec![inner],
            Self::Result { ok, err } => [ok, err].into_iter().flatten().map(|ty| &**ty).collect(),
            Self::Tuple(types) => types.iter().collect(),
            Self::Record { name: _, fields } => fields.iter().map(|field| &field.ty).collect(),
            Self::Variant { name: _, cases } => {
                cases.iter().filter_map(|case| case.ty.as_ref()).collect()
            }
        }
    }

    /// Whether there are flags in a list in it, of which `in_list` says that it is in one.
    pub(crate) fn has_flags(&self, in_list: bool) -> bool {
        let is_flags = matches!(self, Self::Flags { .. });
        let in_list = in_list || matches!(self, Self::List(_));
        is_flags && in_list || self.children().into_iter().any(|ty| ty.has_flags(in_list))
    }

    /// The same without the names of types, which is all that JSON shows of it.
    pub(crate) fn unnamed(&self) -> Self {
        let side = |ty: &Option<Box<Self>>| ty.as_ref().map(|ty| Box::new(ty.unnamed()));
        match self {
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
            | Self::String => self.clone(),
            Self::List(element) => Self::List(Box::new(element.unnamed())),
            Self::Option(some) => Self::Option(Box::new(some.unnamed())),
            Self::Result { ok, err } => Self::Result {
                ok: side(ok),
                err: side(err),
            },
            Self::Tuple(types) => Self::Tuple(types.iter().map(Self::unnamed).collect()),
            Self::Record { name: _, fields } => Self::Record {
                name: String::new(),
                fields: fields.iter().map(Field::unnamed).collect(),
            },
            Self::Variant { name: _, cases } => Self::Variant {
                name: String::new(),
                cases: cases.iter().map(Case::unnamed).collect(),
            },
            Self::Enum { name: _, cases } => Self::Enum {
                name: String::new(),
                cases: cases.clone(),
            },
            Self::Flags { name: _, flags } => Self::Flags {
                name: String::new(),
                flags: flags.clone(),
            },
        }
    }
}

impl Case {
    fn unnamed(&self) -> Self {
        Self {
            name: self.name.clone(),
            ty: self.ty.as_ref().map(Type::unnamed),
        }
    }
}
