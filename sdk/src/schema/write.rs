//! From pieces to text, also while a crate is built.

use super::{Object, Piece};

/// The text of one function's line in the module. All of a module's lines may have as much (`MODULE_DESCRIPTIONS_BYTES_MAX` of
/// tq): more is refused at deploy, and is mostly a type that stands in others many times, whose schema grows with every level.
const LINE_BYTES_MAX: usize = 256 * 1024;

impl Object {
    /// The schema's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let pieces = [Piece::Schema(*self)];
        let mut bytes = vec![0; measure(&pieces, usize::MAX)];
        Writer::to(&mut bytes).pieces(&pieces);
        String::from_utf8(bytes).expect("pieces are texts, and are written whole")
    }
}

/// How many bytes these pieces have as a function's line.
///
/// # Panics
/// If that is over the limit.
#[must_use]
pub const fn line_bytes(pieces: &[Piece]) -> usize {
    let bytes = measure(pieces, LINE_BYTES_MAX);
    check(bytes);
    bytes
}

/// The bytes of these pieces: `BYTES` has to be their [`line_bytes`].
#[must_use]
pub const fn line<const BYTES: usize>(pieces: &[Piece]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    Writer::to(&mut bytes).pieces(pieces);
    bytes
}

impl Piece {
    /// A schema in another. Each is held against the limit as soon as it stands in one: the compiler would spend any time on what
    /// doubles with every level.
    ///
    /// # Panics
    /// If it is over the limit by itself.
    #[doc(hidden)]
    #[must_use]
    pub const fn schema(schema: Object) -> Self {
        check(measure(&[Piece::Schema(schema)], LINE_BYTES_MAX));
        Self::Schema(schema)
    }
}

const fn check(bytes: usize) {
    if bytes > LINE_BYTES_MAX {
        panic!(
            "the JSON Schema of a type has more than 262144 bytes: leave `Schema` away from it, or write `#[schema(any)]` on fields"
        );
    }
}

/// How many bytes these pieces have, or a number over `limit`. The compiler lets nobody count for long.
const fn measure(pieces: &[Piece], limit: usize) -> usize {
    let mut writer = Writer {
        into: None,
        written: 0,
        limit,
    };
    writer.pieces(pieces);
    writer.written
}

/// Writes, or counts alone.
struct Writer<'a> {
    into: Option<&'a mut [u8]>,
    written: usize,
    /// Beyond this nothing more is looked at.
    limit: usize,
}

impl<'a> Writer<'a> {
    const fn to(bytes: &'a mut [u8]) -> Self {
        Self {
            into: Some(bytes),
            written: 0,
            limit: usize::MAX,
        }
    }

    const fn pieces(&mut self, pieces: &[Piece]) {
        let mut rest = pieces;
        while let [piece, behind @ ..] = rest
            && self.written <= self.limit
        {
            match piece {
                Piece::Text(text) => self.bytes(text.as_bytes()),
                Piece::Integer(number) => self.integer(*number),
                Piece::Schema(object) => self.object(object),
                Piece::Optional(_, None) => {}
                Piece::Optional(before, Some(object)) => {
                    self.bytes(before.as_bytes());
                    self.object(object);
                }
                Piece::Names(names) => self.names(names),
            }
            rest = behind;
        }
    }

    const fn object(&mut self, object: &Object) {
        let Object {
            title,
            description,
            members,
            text,
        } = object;
        self.bytes(b"{");
        let start = self.written;
        if !title.is_empty() {
            self.bytes(b"\"title\":");
            self.bytes(title.as_bytes());
        }
        if !description.is_empty() {
            self.comma(start);
            self.bytes(b"\"description\":");
            self.bytes(description.as_bytes());
        }
        if !members.is_empty() || !text.is_empty() {
            self.comma(start);
        }
        self.pieces(members);
        self.bytes(text.as_bytes());
        self.bytes(b"}");
    }

    const fn names(&mut self, names: &[Option<&'static str>]) {
        let start = self.written;
        let mut rest = names;
        while let [name, behind @ ..] = rest {
            if let Some(name) = name {
                self.comma(start);
                self.bytes(name.as_bytes());
            }
            rest = behind;
        }
    }

    const fn integer(&mut self, number: i128) {
        let mut digits = [0; 39]; // Of the largest.
        let mut first = digits.len();
        let mut left = number.unsigned_abs();
        loop {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if number < 0 {
            self.bytes(b"-");
        }
        self.bytes(digits.split_at(first).1);
    }

    /// A comma if anything was written since.
    const fn comma(&mut self, start: usize) {
        if self.written > start {
            self.bytes(b",");
        }
    }

    const fn bytes(&mut self, bytes: &[u8]) {
        if let Some(into) = &mut self.into {
            let (_, free) = into.split_at_mut(self.written);
            free.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
        }
        self.written += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::{line, line_bytes};
    use crate::schema::{Piece, Schema};

    #[test]
    fn line_is_as_long_as_it_was_measured() {
        const PIECES: &[Piece] = &[
            Piece::Text("{"),
            Piece::Optional(
                "\"a\":",
                Some(u8::SCHEMA.titled("\"A\"").described("\"a.\"")),
            ),
            Piece::Optional(",\"b\":", None),
            Piece::Text(",\"c\":["),
            Piece::Names(&[None, Some("1"), None, Some("2")]),
            Piece::Text(","),
            Piece::Integer(i128::MIN),
            Piece::Text("]}"),
        ];
        static LINE: [u8; line_bytes(PIECES)] = line(PIECES);
        assert_eq!(
            std::str::from_utf8(&LINE),
            Ok(concat!(
                r#"{"a":{"title":"A","description":"a.","type":"integer","minimum":0,"maximum":255},"#,
                r#""c":[1,2,-170141183460469231731687303715884105728]}"#,
            ))
        );
    }

    #[test]
    #[should_panic(expected = "more than 262144 bytes: leave `Schema` away")]
    fn line_over_the_limit_is_refused() {
        let pieces = [Piece::Text("0123456789abcdef"); 16 * 1024 + 1];
        assert!(line_bytes(&pieces) > 0);
    }

    #[test]
    fn line_at_the_limit_is_not_refused() {
        let pieces = [Piece::Text("0123456789abcdef"); 16 * 1024];
        assert_eq!(line_bytes(&pieces), 256 * 1024);
    }
}
