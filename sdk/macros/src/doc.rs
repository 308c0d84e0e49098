//! Doc comments: from the tokens that the compiler hands over to a JSON string.

use proc_macro::{Group, TokenTree};

/// The text of `#[doc = "…"]`, if the attribute is that and holds a literal (`include_str!` is not expanded here).
pub(crate) fn text(attribute: &Group) -> Option<String> {
    let mut tokens = attribute.stream().into_iter();
    match (tokens.next(), tokens.next(), tokens.next()) {
        (
            Some(TokenTree::Ident(name)),
            Some(TokenTree::Punct(equals)),
            Some(TokenTree::Literal(literal)),
        ) if name.to_string() == "doc" && equals.as_char() == '=' => unquote(&literal.to_string()),
        _ => None,
    }
}

/// The lines of a doc comment as one text: `/// text` arrives with its leading space.
pub(crate) fn join(lines: &[String]) -> String {
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    lines.join("\n").trim().to_owned()
}

/// Reads a string literal as written in Rust: raw, or with escapes.
pub(crate) fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('r') {
        let inner = raw.trim_start_matches('#');
        let hashes = raw.len() - inner.len();
        return Some(
            inner
                .get(1..inner.len().checked_sub(1 + hashes)?)?
                .to_owned(),
        );
    }
    let mut text = String::new();
    let mut chars = literal
        .strip_prefix('"')?
        .strip_suffix('"')?
        .chars()
        .peekable();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        text.push(match chars.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'x' => char::from_u32(
                u32::from_str_radix(&chars.by_ref().take(2).collect::<String>(), 16).ok()?,
            )?,
            'u' => {
                let digits: String = chars
                    .by_ref()
                    .skip(1)
                    .take_while(|char| *char != '}')
                    .filter(|char| *char != '_')
                    .collect();
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            // A line that ends in a backslash goes on at the next character that is no white space.
            '\n' => {
                while chars.next_if(|char| char.is_whitespace()).is_some() {}
                continue;
            }
            other => other,
        });
    }
    Some(text)
}

/// A JSON string with its quotes.
pub(crate) fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::{join, json_string, unquote};

    #[track_caller]
    fn check(literal: &str, expected: Option<&str>) {
        assert_eq!(unquote(literal).as_deref(), expected, "{literal}");
    }

    #[test]
    fn literals_are_read_as_rust_reads_them() {
        check(r#""plain""#, Some("plain"));
        check(
            r#""a\tb\n\"c\" \\ \x41\u{1F_600}""#,
            Some("a\tb\n\"c\" \\ A😀"),
        );
        check("\"one \\\n    line\"", Some("one line"));
        check(r##"r" raw \n""##, Some(" raw \\n"));
        check(r###"r##"says "#"#hi"##"###, Some("says \"#\"#hi"));
        check("b\"bytes\"", None);
        check("17", None);
    }

    #[test]
    fn lines_lose_their_margin_but_not_their_indent() {
        let lines = [
            " Scales.".to_owned(),
            "".to_owned(),
            "     code".to_owned(),
            "".to_owned(),
        ];
        assert_eq!(join(&lines), "Scales.\n\n    code");
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(
            json_string("a \"b\" \\ c\nd\u{1}é"),
            "\"a \\\"b\\\" \\\\ c\\nd\\u0001é\""
        );
    }
}
