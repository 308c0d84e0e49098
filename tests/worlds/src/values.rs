//! Values.

use arbitrary::{Result, Unstructured};
use tq_typed::{Type, Value};

/// Values after which lists get no more items and options stay empty.
const ENOUGH: usize = 3_000;
/// Items of a list.
const ITEMS_MAX: usize = 5;
/// Bytes and characters.
const LENGTH_MAX: usize = 40;

/// Characters that mean something to JSON, to UTF-8 or to a terminal.
const CHARS: &[char] = &[
    '\0',
    '\n',
    '\u{1b}',
    ' ',
    '"',
    '\\',
    '/',
    '{',
    '\u{7f}',
    '\u{80}',
    'é',
    '\u{7ff}',
    '\u{800}',
    '\u{2028}',
    '\u{d7ff}',
    '\u{e000}',
    '\u{fdd0}',
    '\u{feff}',
    '\u{fffd}',
    '\u{ffff}',
    '\u{1_0000}',
    '😀',
    '\u{10_ffff}',
];

/// A value of a type.
///
/// # Errors
/// None that any bytes lead to.
pub fn value(choices: &mut Unstructured<'_>, ty: &Type) -> Result<Value> {
    Values { choices, count: 0 }.value(ty)
}

struct Values<'a, 'b> {
    choices: &'a mut Unstructured<'b>,
    count: usize,
}

/// A number of any value, or one at an edge.
macro_rules! integer {
    ($this:ident, $ty:ty) => {
        match $this.choices.int_in_range(0..=7)? {
            0 => <$ty>::MIN,
            1 => <$ty>::MAX,
            // Beside what JavaScript is exact about.
            2 => ((1_u64 << 53) + $this.choices.int_in_range(0..=2)? - 1) as $ty,
            3 => (-(1_i64 << 53) + $this.choices.int_in_range(0..=2)? - 1) as $ty,
            4 => $this.choices.int_in_range(0..=2)?,
            _ => $this.choices.arbitrary()?,
        }
    };
}

macro_rules! float {
    ($this:ident, $ty:ty) => {{
        const EDGES: &[$ty] = &[
            0.0,
            -0.0,
            <$ty>::NAN,
            <$ty>::INFINITY,
            <$ty>::NEG_INFINITY,
            <$ty>::MIN,
            <$ty>::MAX,
            <$ty>::MIN_POSITIVE,
            <$ty>::EPSILON,
            0.1,
            1e21,
        ];
        match $this.choices.ratio(1, 2)? {
            true => *$this.choices.choose(EDGES)?,
            false => <$ty>::from_bits($this.choices.arbitrary()?),
        }
    }};
}

impl Values<'_, '_> {
    fn value(&mut self, ty: &Type) -> Result<Value> {
        self.count += 1;
        let is_enough = self.count > ENOUGH || self.choices.is_empty();
        Ok(match ty {
            Type::Bool => Value::Bool(self.choices.arbitrary()?),
            Type::S8 => Value::S8(integer!(self, i8)),
            Type::U8 => Value::U8(integer!(self, u8)),
            Type::S16 => Value::S16(integer!(self, i16)),
            Type::U16 => Value::U16(integer!(self, u16)),
            Type::S32 => Value::S32(integer!(self, i32)),
            Type::U32 => Value::U32(integer!(self, u32)),
            Type::S64 => Value::S64(integer!(self, i64)),
            Type::U64 => Value::U64(integer!(self, u64)),
            Type::F32 => Value::F32(float!(self, f32)),
            Type::F64 => Value::F64(float!(self, f64)),
            Type::Char => Value::Char(self.char()?),
            Type::String => {
                let len = self.choices.int_in_range(0..=LENGTH_MAX)?;
                Value::String((0..len).map(|_| self.char()).collect::<Result<_>>()?)
            }
            Type::List(element) if **element == Type::U8 => {
                let len = self.choices.int_in_range(0..=LENGTH_MAX)?;
                let bytes = (0..len).map(|_| self.choices.arbitrary());
                Value::Bytes(bytes.collect::<Result<_>>()?)
            }
            Type::List(element) => {
                let len = match is_enough {
                    true => 0,
                    false => self.choices.int_in_range(0..=ITEMS_MAX)?,
                };
                let items = (0..len).map(|_| self.value(element));
                Value::List(items.collect::<Result<_>>()?)
            }
            Type::Option(some) => Value::Option(match is_enough || self.choices.ratio(1, 3)? {
                true => None,
                false => Some(Box::new(self.value(some)?)),
            }),
            Type::Result { ok, err } => Value::Result(match self.choices.arbitrary()? {
                true => Ok(self.side(ok.as_deref())?),
                false => Err(self.side(err.as_deref())?),
            }),
            Type::Tuple(types) => {
                let values = types.iter().map(|ty| self.value(ty));
                Value::Tuple(values.collect::<Result<_>>()?)
            }
            Type::Record { name: _, fields } => {
                let values = fields.iter().map(|field| self.value(&field.ty));
                Value::Record(values.collect::<Result<_>>()?)
            }
            Type::Variant { name: _, cases } => {
                let case = self.choices.choose_index(cases.len())?;
                Value::Variant(case, self.side(cases[case].ty.as_ref())?)
            }
            Type::Enum { name: _, cases } => Value::Enum(self.choices.choose_index(cases.len())?),
            Type::Flags { name: _, flags } => {
                let set: u32 = self.choices.arbitrary()?;
                let flags = 0..flags.len();
                Value::Flags(flags.filter(|flag| set >> flag & 1 == 1).collect())
            }
        })
    }

    fn side(&mut self, ty: Option<&Type>) -> Result<Option<Box<Value>>> {
        ty.map(|ty| self.value(ty).map(Box::new)).transpose()
    }

    fn char(&mut self) -> Result<char> {
        match self.choices.int_in_range(0..=2)? {
            0 => self.choices.choose(CHARS).copied(),
            1 => Ok(self.choices.int_in_range(b' '..=b'~')?.into()),
            _ => self.choices.arbitrary(),
        }
    }
}
