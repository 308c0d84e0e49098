//! Functions, and how large their types may be.

use tq_core::limits::{TYPED_DEPTH_MAX, TYPED_NAMES_BYTES_MAX, TYPED_TYPES_MAX};

use crate::Type;

/// What a function takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its parameters, in their order.
    pub params: Vec<Field>,
    /// What it returns, if anything. If that is a `result`, its error is the task's failure.
    pub result: Option<Type>,
}

/// A parameter of a function, or a field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

impl Field {
    pub(crate) fn unnamed(&self) -> Self {
        Self {
            name: self.name.clone(),
            ty: self.ty.unnamed(),
        }
    }
}

impl Function {
    /// Whether the same JSON is right for both, in and out. How their types are named does not matter.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.unnamed() == other.unnamed()
    }

    /// The same, unless hosts cannot bound what it gives back.
    ///
    /// # Errors
    /// [`Uncallable::FlagsInList`].
    pub fn bounded(self) -> Result<Self, Uncallable> {
        match self.result.as_ref().is_some_and(|ty| ty.has_flags(false)) {
            true => Err(Uncallable::FlagsInList),
            false => Ok(self),
        }
    }

    fn unnamed(&self) -> Self {
        Self {
            params: self.params.iter().map(Field::unnamed).collect(),
            result: self.result.as_ref().map(Type::unnamed),
        }
    }
}

/// Why a function cannot be called by a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncallable {
    /// It takes or gives what JSON cannot stand for.
    #[error("it has a {0} in its types, which no JSON stands for")]
    NoJson(
        /// What it is, such as `resource`.
        &'static str,
    ),
    /// It gives back a list with flags in it. The engine counts a flag by the length of its name and holds a string for each,
    /// so that a list of them takes many times the memory that it counts.
    #[error("it gives back flags in a list, which take more of the host's memory than it counts")]
    FlagsInList,
    /// It is asynchronous.
    #[error("it is asynchronous, which hosts do not run")]
    Async,
    /// Its types are nested deeper than types may be.
    #[error("its types are nested deeper than {TYPED_DEPTH_MAX} levels")]
    TooDeep,
    /// It has more types than functions may have.
    #[error("it has more than {TYPED_TYPES_MAX} types, each counted wherever it stands")]
    TooManyTypes,
    /// Names in its types are too long.
    #[error("the names in its types have more than {TYPED_NAMES_BYTES_MAX} bytes")]
    TooLongNames,
    /// Tasks cannot have its name.
    #[error(
        "its name cannot be used; names have 1 to {max} printable ASCII characters and no spaces",
        max = tq_core::limits::NAME_BYTES_MAX
    )]
    Name,
}

/// Counts the types of one function while they are read: a component can ask for a tree of any size with few bytes, since one
/// type may stand in it twice, and that one in the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Types so far.
    pub types: usize,
    /// Bytes of their names so far.
    pub names_bytes: usize,
}

impl Measure {
    /// Another type, so many levels below the function's own.
    ///
    /// # Errors
    /// [`Uncallable`] if it is one too many, or too deep.
    pub fn count(&mut self, depth: usize) -> Result<(), Uncallable> {
        if depth > TYPED_DEPTH_MAX {
            return Err(Uncallable::TooDeep);
        }
        self.types += 1;
        if self.types > TYPED_TYPES_MAX {
            return Err(Uncallable::TooManyTypes);
        }
        Ok(())
    }

    /// The name of a type, a parameter, a field, a case or a flag.
    ///
    /// # Errors
    /// [`Uncallable`] if it is more than may be.
    pub fn name(&mut self, name: &str) -> Result<String, Uncallable> {
        self.names_bytes += name.len();
        if self.names_bytes > TYPED_NAMES_BYTES_MAX {
            return Err(Uncallable::TooLongNames);
        }
        Ok(name.to_owned())
    }
}
