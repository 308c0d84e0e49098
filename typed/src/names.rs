//! How functions are called.

use std::collections::BTreeMap;

/// The names of exported functions, which are interface and name in the component, in the order given: the name alone if no
/// other function has it, and otherwise with the interface before it, `demo:images/ops@1.0.0#resize`. One without an interface
/// always has its own.
#[must_use]
pub fn names(exports: &[(Option<&str>, &str)]) -> Vec<String> {
    let mut count = BTreeMap::<&str, usize>::new();
    for (_, function) in exports {
        *count.entry(function).or_default() += 1;
    }
    let name = |(interface, function): &(Option<&str>, &str)| match interface {
        Some(interface) if count.get(function).is_some_and(|count| *count > 1) => {
            format!("{interface}#{function}")
        }
        Some(_) | None => (*function).to_owned(),
    };
    exports.iter().map(name).collect()
}

/// Whether an exported interface is its component's own. Those of `wasi` and `tq` are agreed upon with whoever runs it, and mean
/// something else than a function that somebody calls by name: a program for another version of WASI should not become one.
/// Neither is what componentize-py exports for itself, to start the language when it builds.
#[must_use]
pub fn is_own(interface: &str) -> bool {
    !interface.starts_with("wasi:") && !interface.starts_with("tq:") && interface != "exports"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_can_be() {
        assert_eq!(
            names(&[
                (None, "add"),
                (Some("a:b/ops@1.0.0"), "resize"),
                (Some("a:b/ops@1.0.0"), "add"),
                (Some("a:b/more"), "crop"),
                (Some("a:b/ops@1.0.0"), "crop"),
            ]),
            [
                "add",
                "resize",
                "a:b/ops@1.0.0#add",
                "a:b/more#crop",
                "a:b/ops@1.0.0#crop"
            ]
        );
    }

    #[test]
    fn interfaces_of_others_are_not_the_components_own() {
        for (interface, expected) in [
            ("demo:shop/orders@0.1.0", true),
            ("orders", true),
            ("wasi:cli/run@0.3.0", false),
            ("tq:task/handler@0.2.0", false),
            ("exports", false),
        ] {
            assert_eq!(is_own(interface), expected, "{interface}");
        }
    }
}
