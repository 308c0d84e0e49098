//! The cases of serde's `rename_all`.

/// One of them, by its name in the attribute.
#[derive(Clone, Copy)]
pub(crate) struct Case(&'static str);

impl Case {
    pub(crate) const ALL: [&'static str; 8] = [
        "lowercase",
        "UPPERCASE",
        "PascalCase",
        "camelCase",
        "snake_case",
        "SCREAMING_SNAKE_CASE",
        "kebab-case",
        "SCREAMING-KEBAB-CASE",
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| *case == name).map(Self)
    }

    /// The name of a field, which Rust writes in snake case.
    pub(crate) fn field(self, name: &str) -> String {
        match self.0 {
            // As serde has it: neither touches a field.
            "lowercase" => name.to_owned(),
            "UPPERCASE" => name.to_ascii_uppercase(),
            "PascalCase" => pascal(name),
            "camelCase" => first_lower(&pascal(name)),
            _ => self.separated(name),
        }
    }

    /// The name of a variant, which Rust writes in Pascal case.
    pub(crate) fn variant(self, name: &str) -> String {
        match self.0 {
            "lowercase" => name.to_ascii_lowercase(),
            "UPPERCASE" => name.to_ascii_uppercase(),
            "PascalCase" => name.to_owned(),
            "camelCase" => first_lower(name),
            _ => self.separated(&snake(name)),
        }
    }

    fn separated(self, snake: &str) -> String {
        match self.0 {
            "SCREAMING_SNAKE_CASE" => snake.to_ascii_uppercase(),
            "kebab-case" => snake.replace('_', "-"),
            "SCREAMING-KEBAB-CASE" => snake.to_ascii_uppercase().replace('_', "-"),
            _ => snake.to_owned(),
        }
    }
}

fn pascal(snake: &str) -> String {
    let words = snake.split('_').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|char| char.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect()
}

fn snake(pascal: &str) -> String {
    let mut snake = String::new();
    for (index, char) in pascal.char_indices() {
        if index > 0 && char.is_uppercase() {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

fn first_lower(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|char| char.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::Case;

    #[test]
    fn names_are_written_in_every_case() {
        let names: Vec<_> = Case::ALL
            .into_iter()
            .filter_map(Case::named)
            .map(|case| {
                (
                    case.field("unit_price2_x"),
                    case.field("_odd__one"),
                    case.variant("NotYetA2"),
                )
            })
            .collect();
        let names: Vec<_> = names
            .iter()
            .map(|(field, odd, variant)| [field.as_str(), odd, variant])
            .collect();
        assert_eq!(
            names,
            [
                ["unit_price2_x", "_odd__one", "notyeta2"],
                ["UNIT_PRICE2_X", "_ODD__ONE", "NOTYETA2"],
                ["UnitPrice2X", "OddOne", "NotYetA2"],
                ["unitPrice2X", "oddOne", "notYetA2"],
                ["unit_price2_x", "_odd__one", "not_yet_a2"],
                ["UNIT_PRICE2_X", "_ODD__ONE", "NOT_YET_A2"],
                ["unit-price2-x", "-odd--one", "not-yet-a2"],
                ["UNIT-PRICE2-X", "-ODD--ONE", "NOT-YET-A2"],
            ]
        );
        assert!(Case::named("Camel").is_none());
    }
}
