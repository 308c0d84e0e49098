//! The functions of the module. Each registers itself when the instance starts, because nothing in a crate can name all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Context, Error, Result};

/// A function with its argument's and result's types erased.
pub type Call = fn(Context, Vec<u8>) -> Result<Vec<u8>>;

/// A task of this module.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    name: &'static str,
    /// The Rust module that it stands in, to tell two of one name apart.
    module: &'static str,
    call: Call,
}

impl Function {
    /// Describes the function `name` of the Rust module `module`.
    #[must_use]
    pub const fn new(name: &'static str, module: &'static str, call: Call) -> Self {
        Self { name, module, call }
    }
}

static FUNCTIONS: Mutex<Vec<Function>> = Mutex::new(Vec::new());

fn functions() -> MutexGuard<'static, Vec<Function>> {
    // A push either happened or did not: a panic leaves no half of one behind.
    FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a function to the module.
pub fn register(function: Function) {
    crate::host::link();
    functions().push(function);
}

/// Runs the registered function `name`.
#[cfg_attr(
    not(any(test, target_family = "wasm")),
    expect(dead_code, reason = "only the host calls functions by name")
)]
pub(crate) fn run(name: &str, context: Context, payload: Vec<u8>) -> Result<Vec<u8>> {
    let call = find(&functions(), name)?;
    call(context, payload)
}

fn find(functions: &[Function], name: &str) -> Result<Call> {
    let mut named = functions.iter().filter(|function| function.name == name);
    match (named.next(), named.next()) {
        (Some(function), None) => Ok(function.call),
        (Some(one), Some(other)) => Err(Error::fatal(format!(
            "two functions of this module are named `{name}`, in `{}` and in `{}`: rename one",
            one.module, other.module
        ))),
        (None, _) => {
            // They register in the order of the linker, which says nothing to people.
            let mut known: Vec<String> = functions
                .iter()
                .map(|function| format!("`{}`", function.name))
                .collect();
            known.sort();
            Err(Error::fatal(format!(
                "function `{name}` is not in this module, which has {}",
                known.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Function, find, register, run};
    use crate::{Context, Error};

    #[test]
    fn registered_function_is_called_by_its_name() {
        register(Function::new("reverse", "tests", |_, payload| {
            Ok(payload.into_iter().rev().collect())
        }));
        assert_eq!(
            run("reverse", Context::current(), b"abc".to_vec()),
            Ok(b"cba".to_vec())
        );
    }

    #[track_caller]
    fn refuses(functions: &[Function], name: &str, message: &str) {
        assert_eq!(find(functions, name).err(), Some(Error::fatal(message)));
    }

    #[test]
    fn unknown_name_is_refused_with_the_known_ones() {
        let [one, two] =
            ["shrink", "crop"].map(|name| Function::new(name, "tests", |_, payload| Ok(payload)));
        refuses(
            &[one, two],
            "resize",
            "function `resize` is not in this module, which has `crop`, `shrink`",
        );
    }

    #[test]
    fn name_of_two_functions_is_refused_with_their_places() {
        let [one, two] =
            ["a", "b"].map(|module| Function::new("run", module, |_, payload| Ok(payload)));
        refuses(
            &[one, two],
            "run",
            "two functions of this module are named `run`, in `a` and in `b`: rename one",
        );
    }
}
