//! Names that people give: namespaces, modules, functions, hosts.

use crate::limits::NAME_BYTES_MAX;

/// The namespace of everything that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("{what} is empty; give it a name")]
    Empty {
        /// Which name it is, such as `module name`.
        what: &'static str,
    },
    /// It is longer than [`NAME_BYTES_MAX`].
    #[error("{what} has {len} bytes, over the limit of {NAME_BYTES_MAX} bytes")]
    TooLong {
        /// Which name it is.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// It has a character that names do not have.
    #[error(
        "{what} `{name}` has the character `{found}`; use letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )]
    Character {
        /// Which name it is.
        what: &'static str,
        /// The name.
        name: String,
        /// The first character that cannot stay.
        found: char,
    },
}

/// Checks the name of a namespace, module or host: ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
///
/// # Errors
/// [`NameError`] says what `what` (such as `module name`) has that it may not have.
pub fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong {
            what,
            len: name.len(),
        });
    }
    let allowed = |(index, c): &(usize, char)| {
        c.is_ascii_alphanumeric() || (*index > 0 && matches!(c, '-' | '_' | '.'))
    };
    match name.char_indices().find(|at| !allowed(at)) {
        Some((_, found)) => Err(NameError::Character {
            what,
            name: name.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// Whether a function may have this name: not empty, at most [`NAME_BYTES_MAX`] bytes, printable ASCII without spaces.
/// Wider than other names, since an exported function may be called `demo:images/ops#resize`.
#[must_use]
pub fn is_function(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, expected: Result<(), &str>) {
        let got = check("module name", name).map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn names_are_short_plain_words() {
        check_name("word-count.v2_a", Ok(()));
        check_name("", Err("module name is empty; give it a name"));
        check_name(
            &"a".repeat(129),
            Err("module name has 129 bytes, over the limit of 128 bytes"),
        );
        let rule = "use letters, digits, `-`, `_` and `.`, beginning with a letter or digit";
        check_name(
            "a/b",
            Err(&format!("module name `a/b` has the character `/`; {rule}")),
        );
        check_name(
            "-a",
            Err(&format!("module name `-a` has the character `-`; {rule}")),
        );
        check_name(
            "ä",
            Err(&format!("module name `ä` has the character `ä`; {rule}")),
        );
    }
}
