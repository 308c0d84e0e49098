//! The types of the standard library and of serde_json, in the form that serde gives them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::marker::PhantomData;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::rc::Rc;
use std::sync::Arc;

use super::{Object, Piece, Schema};

const fn object(members: &'static [Piece]) -> Object {
    Object {
        title: "",
        description: "",
        members,
        text: "",
    }
}

macro_rules! as_written {
    ($($json:literal: $($type:ty),+;)+) => {
        $($(impl Schema for $type {
            const SCHEMA: Object = Object::new($json);
        })+)+
    };
}

as_written! {
    r#"{"type":"boolean"}"#: bool;
    r#"{"type":"string"}"#: str, String;
    r#"{"type":"string","minLength":1,"maxLength":1}"#: char;
    // What is not a number, or infinite, is written as `null`, and not read.
    r#"{"type":"number"}"#: f32, f64;
    r#"{"type":"null"}"#: ();
    // The schema `true`, written as an object.
    r#"{}"#: serde_json::Value;
    r#"{"type":"number"}"#: serde_json::Number;
    r#"{"type":"object"}"#: serde_json::Map<String, serde_json::Value>;
}

macro_rules! integers {
    ($($type:ty: $min:expr, $max:expr;)+) => {
        $(impl Schema for $type {
            const SCHEMA: Object = object(&[
                Piece::Text(r#""type":"integer","minimum":"#),
                Piece::Integer($min as i128),
                Piece::Text(r#","maximum":"#),
                Piece::Integer($max as i128),
            ]);
        })+
    };
}

integers! {
    i8: i8::MIN, i8::MAX;
    i16: i16::MIN, i16::MAX;
    i32: i32::MIN, i32::MAX;
    i64: i64::MIN, i64::MAX;
    // 32 bits in a module, whatever they are where its tests run.
    isize: isize::MIN, isize::MAX;
    i128: i128::MIN, i128::MAX;
    u8: u8::MIN, u8::MAX;
    u16: u16::MIN, u16::MAX;
    u32: u32::MIN, u32::MAX;
    u64: u64::MIN, u64::MAX;
    usize: usize::MIN, usize::MAX;
    NonZeroU8: 1, u8::MAX;
    NonZeroU16: 1, u16::MAX;
    NonZeroU32: 1, u32::MAX;
    NonZeroU64: 1, u64::MAX;
    NonZeroUsize: 1, usize::MAX;
}

impl<T: Schema> Schema for Option<T> {
    const SCHEMA: Object = object(&[
        Piece::Text(r#""anyOf":["#),
        Piece::schema(T::SCHEMA),
        Piece::Text(r#",{"type":"null"}]"#),
    ]);
    const OPTIONAL: bool = true;
}

macro_rules! like_another {
    ($([$($generics:tt)*] $type:ty: $other:ty;)+) => {
        $(impl<$($generics)*> Schema for $type {
            const SCHEMA: Object = <$other>::SCHEMA;
            const OPTIONAL: bool = <$other>::OPTIONAL;
        })+
    };
}

like_another! {
    [T: Schema + ?Sized] &T: T;
    [T: Schema + ?Sized] Box<T>: T;
    [T: Schema + ?Sized] Rc<T>: T;
    [T: Schema + ?Sized] Arc<T>: T;
    [T: Schema + ToOwned + ?Sized] Cow<'_, T>: T;
    [T: ?Sized] PhantomData<T>: ();
    [T: Schema] Vec<T>: [T];
    [T: Schema] VecDeque<T>: [T];
    // What is there twice is read all the same.
    [T: Schema] BTreeSet<T>: [T];
    [T: Schema, S] HashSet<T, S>: [T];
    [T: Schema, S] HashMap<String, T, S>: BTreeMap<String, T>;
}

impl<T: Schema> Schema for [T] {
    const SCHEMA: Object = object(&[
        Piece::Text(r#""type":"array","items":"#),
        Piece::schema(T::SCHEMA),
    ]);
}

impl<T: Schema, const N: usize> Schema for [T; N] {
    const SCHEMA: Object = object(&[
        Piece::Text(r#""type":"array","items":"#),
        Piece::schema(T::SCHEMA),
        Piece::Text(r#","minItems":"#),
        Piece::Integer(N as i128),
        Piece::Text(r#","maxItems":"#),
        Piece::Integer(N as i128),
    ]);
}

impl<T: Schema> Schema for BTreeMap<String, T> {
    const SCHEMA: Object = object(&[
        Piece::Text(r#""type":"object","additionalProperties":"#),
        Piece::schema(T::SCHEMA),
    ]);
}

macro_rules! tuples {
    ($($count:literal: $first:ident $($next:ident)*;)+) => {
        $(impl<$first: Schema, $($next: Schema),*> Schema for ($first, $($next,)*) {
            const SCHEMA: Object = object(&[
                Piece::Text(r#""type":"array","prefixItems":["#),
                Piece::schema($first::SCHEMA),
                $(Piece::Text(","), Piece::schema($next::SCHEMA),)*
                Piece::Text(concat!(r#"],"items":false,"minItems":"#, $count)),
            ]);
        })+
    };
}

tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}
