//! From values to JSON.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Field, Type, Value};

/// Whole numbers up to here, and down to its negative, are the same in JavaScript, which has no others than floating-point ones.
const SAFE_INTEGER: u64 = 1 << 53;

/// A value whose JSON would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has more than {0} bytes as JSON")]
pub struct TooLong(
    /// How many it may have.
    pub usize,
);

/// The JSON that stands for a value of a type, in one line and at most so long. It is never made any longer than that, though
/// strings may take six times their bytes.
///
/// # Errors
/// [`TooLong`].
///
/// # Panics
/// If the value is not of the type.
pub fn json(ty: &Type, value: &Value, bytes_max: usize) -> Result<Vec<u8>, TooLong> {
    let mut bounded = Bounded {
        bytes: Vec::new(),
        bytes_max,
    };
    match bounded.value(ty, value) {
        Ok(()) => Ok(bounded.bytes),
        // Nothing else can go wrong with a vector.
        Err(_) => Err(TooLong(bytes_max)),
    }
}

/// Takes so many bytes.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.bytes_max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Bounded {
    fn value(&mut self, ty: &Type, value: &Value) -> io::Result<()> {
        match (ty, value) {
            (Type::Bool, Value::Bool(value)) => write!(self, "{value}"),
            (Type::S8, Value::S8(value)) => write!(self, "{value}"),
            (Type::U8, Value::U8(value)) => write!(self, "{value}"),
            (Type::S16, Value::S16(value)) => write!(self, "{value}"),
            (Type::U16, Value::U16(value)) => write!(self, "{value}"),
            (Type::S32, Value::S32(value)) => write!(self, "{value}"),
            (Type::U32, Value::U32(value)) => write!(self, "{value}"),
            (Type::S64, Value::S64(value)) if value.unsigned_abs() > SAFE_INTEGER => {
                write!(self, "\"{value}\"")
            }
            (Type::S64, Value::S64(value)) => write!(self, "{value}"),
            (Type::U64, Value::U64(value)) if *value > SAFE_INTEGER => {
                write!(self, "\"{value}\"")
            }
            (Type::U64, Value::U64(value)) => write!(self, "{value}"),
            (Type::F32, Value::F32(value)) if value.is_finite() => {
                // With as few digits as tell it from the next one of its width.
                Ok(serde_json::to_writer(self, value)?)
            }
            (Type::F32, Value::F32(value)) => self.not_finite(f64::from(*value)),
            (Type::F64, Value::F64(value)) if value.is_finite() => {
                Ok(serde_json::to_writer(self, value)?)
            }
            (Type::F64, Value::F64(value)) => self.not_finite(*value),
            (Type::Char, Value::Char(value)) => self.string(value.encode_utf8(&mut [0; 4])),
            (Type::String, Value::String(text)) => self.string(text),
            (Type::List(_), Value::Bytes(bytes)) => self.base64(bytes),
            (Type::List(element), Value::List(values)) => {
                self.array(values.iter().map(|value| (&**element, value)))
            }
            (Type::Option(_), Value::Option(None)) => self.write_all(b"null"),
            (Type::Option(some), Value::Option(Some(value))) => {
                if matches!(**some, Type::Option(_)) {
                    self.member("some", Some(some), Some(value))
                } else {
                    self.value(some, value)
                }
            }
            (Type::Result { ok, err: _ }, Value::Result(Ok(value))) => {
                self.member("ok", ok.as_deref(), value.as_deref())
            }
            (Type::Result { ok: _, err }, Value::Result(Err(value))) => {
                self.member("err", err.as_deref(), value.as_deref())
            }
            (Type::Tuple(types), Value::Tuple(values)) => self.array(types.iter().zip(values)),
            (Type::Record { name: _, fields }, Value::Record(values)) => {
                self.object(fields, values)
            }
            (Type::Variant { name: _, cases }, Value::Variant(case, value)) => {
                let case = &cases[*case];
                match &case.ty {
                    None => self.string(&case.name),
                    Some(ty) => self.member(&case.name, Some(ty), value.as_deref()),
                }
            }
            (Type::Enum { name: _, cases }, Value::Enum(case)) => self.string(&cases[*case]),
            (Type::Flags { name: _, flags }, Value::Flags(set)) => {
                self.separated(b"[]", set.iter(), |this, flag| this.string(&flags[*flag]))
            }
            (ty, value) => panic!("{value:?} is no value of {ty:?}"),
        }
    }

    fn string(&mut self, text: &str) -> io::Result<()> {
        Ok(serde_json::to_writer(self, text)?)
    }

    fn not_finite(&mut self, value: f64) -> io::Result<()> {
        self.write_all(if value.is_nan() {
            b"\"NaN\""
        } else if value.is_sign_positive() {
            b"\"Infinity\""
        } else {
            b"\"-Infinity\""
        })
    }

    fn base64(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Beforehand, since it is made in one piece.
        if bytes.len() / 3 * 4 > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        write!(self, "\"{}\"", STANDARD.encode(bytes))
    }

    fn array<'a>(&mut self, items: impl Iterator<Item = (&'a Type, &'a Value)>) -> io::Result<()> {
        self.separated(b"[]", items, |this, (ty, value)| this.value(ty, value))
    }

    fn object(&mut self, fields: &[Field], values: &[Value]) -> io::Result<()> {
        self.separated(b"{}", fields.iter().zip(values), |this, (field, value)| {
            this.string(&field.name)?;
            this.write_all(b":")?;
            this.value(&field.ty, value)
        })
    }

    /// An object of one member, which is `null` if it has no type.
    fn member(&mut self, name: &str, ty: Option<&Type>, value: Option<&Value>) -> io::Result<()> {
        self.write_all(b"{")?;
        self.string(name)?;
        self.write_all(b":")?;
        match (ty, value) {
            (Some(ty), Some(value)) => self.value(ty, value)?,
            (None, None) => self.write_all(b"null")?,
            (ty, value) => panic!("{value:?} is no value of {ty:?}"),
        }
        self.write_all(b"}")
    }

    fn separated<T>(
        &mut self,
        [open, close]: &[u8; 2],
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.write_all(&[*open])?;
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.write_all(b",")?;
            }
            write(self, item)?;
        }
        self.write_all(&[*close])
    }
}
