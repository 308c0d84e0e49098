//! Values of types.

/// A value. It does not say of what type: whoever has it has the type too, by which fields and cases have their names.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are those of WIT")]
pub enum Value {
    Bool(bool),
    S8(i8),
    U8(u8),
    S16(i16),
    U16(u16),
    S32(i32),
    U32(u32),
    S64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    Char(char),
    String(String),
    /// A `list<u8>`.
    Bytes(Vec<u8>),
    /// Any other list.
    List(Vec<Self>),
    Option(Option<Box<Self>>),
    Result(Result<Option<Box<Self>>, Option<Box<Self>>>),
    Tuple(Vec<Self>),
    /// The values of its fields, in the order of the type.
    Record(Vec<Self>),
    /// The case, counted from 0 as in the type, and its value.
    Variant(usize, Option<Box<Self>>),
    /// The case.
    Enum(usize),
    /// The flags that are set, counted likewise and rising.
    Flags(Vec<usize>),
}
