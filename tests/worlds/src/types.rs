//! Types.

use arbitrary::{Result, Unstructured};
use tq_core::limits::TYPED_DEPTH_MAX;
use tq_typed::{Case, Field, Function, Type};

/// Types in one that is drawn. A module counts each as often as it is used, so that a few of this size fit into one.
const TYPES_MAX: usize = 100;
/// Bytes of their names, likewise.
const NAMES_BYTES_MAX: usize = 5_000;

/// What names are made of: words of WIT, of JSON and of the mapping between them, and some that are none.
const WORDS: &[&str] = &[
    "a",
    "bool",
    "enum",
    "err",
    "export",
    "flags",
    "from",
    "func",
    "HTTP",
    "interface",
    "list",
    "null",
    "ok",
    "option",
    "own",
    "record",
    "result",
    "some",
    "string",
    "true",
    "tuple",
    "type",
    "u8",
    "use",
    "value",
    "variant",
    "with",
    "world",
    "x1-y2",
];

/// A function of a few parameters, which may give nothing back.
///
/// # Errors
/// None that any bytes lead to.
pub fn function(choices: &mut Unstructured<'_>) -> Result<Function> {
    let mut types = Types::new(choices)?;
    let count = types.choices.int_in_range(0..=3)?;
    let mut params = Vec::new();
    for name in types.names(count)? {
        let ty = types.ty(Place {
            lists_have_flags: true,
            ..Place::at(1)
        })?;
        params.push(Field { name, ty });
    }
    let result = match types.choices.ratio(1, 4)? {
        true => None,
        false => Some(types.ty(Place::at(1))?),
    };
    Ok(Function { params, result })
}

/// So many types that may stand `depth` levels below a function and come back from it. They share some that they are made of;
/// what has the same name is the same.
///
/// # Errors
/// None that any bytes lead to.
pub fn types(choices: &mut Unstructured<'_>, count: usize, depth: usize) -> Result<Vec<Type>> {
    let mut types = Types::new(choices)?;
    let drawn = (0..count).map(|_| {
        types.types_left = TYPES_MAX;
        types.names_left = NAMES_BYTES_MAX;
        types.is_deep = types.choices.ratio(1, 6)?;
        types.ty(Place::at(depth))
    });
    drawn.collect()
}

/// Where a type stands.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    /// Whether there may be flags here.
    has_flags: bool,
    /// Whether there may be flags in a list: not in what comes back.
    lists_have_flags: bool,
}

impl Place {
    fn at(depth: usize) -> Self {
        Self {
            depth,
            has_flags: true,
            lists_have_flags: false,
        }
    }

    fn below(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }
}

struct Types<'a, 'b> {
    choices: &'a mut Unstructured<'b>,
    /// Whether types are rather deep than broad.
    is_deep: bool,
    types_left: usize,
    names_left: usize,
    /// Those with names so far, each with how deep it is and how many types and bytes of names it takes. One may stand in
    /// several places.
    named: Vec<(Type, Size)>,
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Size {
    depth: usize,
    types: usize,
    names: usize,
}

impl<'a, 'b> Types<'a, 'b> {
    fn new(choices: &'a mut Unstructured<'b>) -> Result<Self> {
        Ok(Self {
            is_deep: choices.ratio(1, 6)?,
            choices,
            types_left: TYPES_MAX,
            names_left: NAMES_BYTES_MAX,
            named: Vec::new(),
            count: 0,
        })
    }

    fn ty(&mut self, at: Place) -> Result<Type> {
        if self.types_left == 0 {
            // What is begun has to end, with as little as there is.
            return Ok(Type::Bool);
        }
        self.types_left -= 1;
        let is_last = at.depth >= TYPED_DEPTH_MAX || self.choices.is_empty();
        let kinds = if is_last { 3 } else { 11 };
        let kind = match self.is_deep && !is_last {
            // None but what has others in it.
            true => self.choices.int_in_range(4..=10)?,
            false => self.choices.int_in_range(0..=kinds - 1)?,
        };
        match kind {
            0 => Ok(self.choices.choose(&Type::PRIMITIVES)?.clone()),
            1 => self
                .labels(300)
                .map(|(name, cases)| Type::Enum { name, cases }),
            2 if at.has_flags => self
                .labels(32)
                .map(|(name, flags)| Type::Flags { name, flags }),
            2 => Ok(Type::String),
            3 => self.again(at),
            4 => {
                let below = Place {
                    has_flags: at.lists_have_flags,
                    ..at.below()
                };
                self.ty(below).map(|ty| Type::List(Box::new(ty)))
            }
            5 => self.ty(at.below()).map(|ty| Type::Option(Box::new(ty))),
            6 => Ok(Type::Result {
                ok: self.side(at)?,
                err: self.side(at)?,
            }),
            7 => {
                let count = self.several()?;
                let types = (0..count).map(|_| self.ty(at.below()));
                types.collect::<Result<_>>().map(Type::Tuple)
            }
            8 | 9 => self.record(at),
            _ => self.variant(at),
        }
    }

    fn side(&mut self, at: Place) -> Result<Option<Box<Type>>> {
        match self.choices.ratio(2, 3)? {
            true => self.ty(at.below()).map(|ty| Some(Box::new(ty))),
            false => Ok(None),
        }
    }

    fn several(&mut self) -> Result<usize> {
        let most = if self.is_deep { 2 } else { 6 };
        self.choices.int_in_range(1..=most)
    }

    fn record(&mut self, at: Place) -> Result<Type> {
        let name = self.name()?;
        let count = self.several()?;
        let mut fields = Vec::new();
        for name in self.names(count)? {
            let ty = self.ty(at.below())?;
            fields.push(Field { name, ty });
        }
        Ok(self.keep(Type::Record { name, fields }))
    }

    fn variant(&mut self, at: Place) -> Result<Type> {
        let name = self.name()?;
        let count = match self.choices.ratio(1, 40)? {
            true => 260,
            false => self.several()?,
        };
        let mut cases = Vec::new();
        for name in self.names(count)? {
            let has_value = cases.len() < 8 && self.choices.ratio(2, 3)?;
            let ty = has_value.then(|| self.ty(at.below())).transpose()?;
            cases.push(Case { name, ty });
        }
        Ok(self.keep(Type::Variant { name, cases }))
    }

    fn labels(&mut self, most: usize) -> Result<(String, Vec<String>)> {
        let name = self.name()?;
        let most = match self.choices.ratio(1, 10)? {
            true => most,
            false => 9,
        };
        let count = self.choices.int_in_range(1..=most)?;
        Ok((name, self.names(count)?))
    }

    /// One that there is already, if it fits in here.
    fn again(&mut self, at: Place) -> Result<Type> {
        if self.named.is_empty() {
            return Ok(Type::U64);
        }
        let index = self.choices.choose_index(self.named.len())?;
        let (ty, size) = &self.named[index];
        let fits = at.depth + size.depth <= TYPED_DEPTH_MAX
            && size.types <= self.types_left
            && size.names <= self.names_left
            && (at.has_flags || !has_flags(ty));
        if !fits {
            return Ok(Type::U64);
        }
        self.types_left -= size.types;
        self.names_left -= size.names;
        Ok(ty.clone())
    }

    fn keep(&mut self, ty: Type) -> Type {
        let mut size = Size::default();
        measure(&ty, 0, &mut size);
        self.named.push((ty.clone(), size));
        ty
    }

    /// The name of another type.
    fn name(&mut self) -> Result<String> {
        self.count += 1;
        let word = self.word()?;
        let name = format!("{word}-t{}", self.count);
        self.names_left = self.names_left.saturating_sub(name.len());
        Ok(name)
    }

    /// So many names that differ, or fewer if there are bytes for no more; one at least, unless none is asked for.
    fn names(&mut self, count: usize) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for index in 0..count {
            let word = self.word()?;
            let name = match index {
                0 => word.to_owned(),
                _ => format!("{word}-n{index}"),
            };
            if self.names_left < name.len() && index > 0 {
                break;
            }
            self.names_left = self.names_left.saturating_sub(name.len());
            names.push(name);
        }
        Ok(names)
    }

    fn word(&mut self) -> Result<&'static str> {
        self.choices.choose(WORDS).copied()
    }
}

fn measure(ty: &Type, depth: usize, size: &mut Size) {
    size.types += 1;
    size.depth = size.depth.max(depth);
    for name in names(ty) {
        size.names += name.len();
    }
    for below in ty.children() {
        measure(below, depth + 1, size);
    }
}

fn has_flags(ty: &Type) -> bool {
    matches!(ty, Type::Flags { .. }) || ty.children().into_iter().any(has_flags)
}

/// The names in a type, without those in the types in it.
fn names(ty: &Type) -> Vec<&str> {
    match ty {
        Type::Record { name, fields } => {
            let fields = fields.iter().map(|field| field.name.as_str());
            fields.chain([name.as_str()]).collect()
        }
        Type::Variant { name, cases } => {
            let cases = cases.iter().map(|case| case.name.as_str());
            cases.chain([name.as_str()]).collect()
        }
        Type::Enum {
            name,
            cases: labels,
        }
        | Type::Flags {
            name,
            flags: labels,
        } => {
            let labels = labels.iter().map(String::as_str);
            labels.chain([name.as_str()]).collect()
        }
        _ => Vec::new(),
    }
}
