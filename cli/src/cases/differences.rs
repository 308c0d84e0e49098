//! How two JSON values differ, in words.

use serde_json::Value;

use super::content::cut;
use crate::output;

/// Places that are told; further ones are counted.
const TOLD_MAX: usize = 20;

/// The places at which `found` differs from `expected`, a line for each, in order. `what` is what both are. Numbers are the same
/// if they have one value: `1` is `1.0`.
pub(super) fn of(what: &str, expected: &Value, found: &Value) -> Vec<String> {
    let mut told = Told {
        lines: Vec::new(),
        more: 0,
    };
    told.compare(what, expected, found);
    let Told { mut lines, more } = told;
    if more > 0 {
        lines.push(format!("and {more} further differences"));
    }
    lines
}

struct Told {
    lines: Vec<String>,
    more: usize,
}

impl Told {
    fn compare(&mut self, at: &str, expected: &Value, found: &Value) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => {
                for (key, value) in expected {
                    let at = member(at, key);
                    match found.get(key) {
                        Some(found) => self.compare(&at, value, found),
                        None => self.tell(format!("{at} is missing, expected {}", short(value))),
                    }
                }
                for (key, value) in found {
                    if !expected.contains_key(key) {
                        let at = member(at, key);
                        self.tell(format!("{at} is {}, and was not expected", short(value)));
                    }
                }
            }
            (Value::Array(expected), Value::Array(found)) => {
                for (index, pair) in expected.iter().zip(found).enumerate() {
                    self.compare(&format!("{at}[{index}]"), pair.0, pair.1);
                }
                if expected.len() != found.len() {
                    let (found, expected) = (found.len(), expected.len());
                    self.tell(format!("{at} has {found} elements, expected {expected}"));
                }
            }
            (Value::Number(a), Value::Number(b))
                if a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()) => {}
            _ if expected == found => {}
            _ => self.tell(format!(
                "{at} is {}, expected {}",
                short(found),
                short(expected)
            )),
        }
    }

    fn tell(&mut self, line: String) {
        if self.lines.len() < TOLD_MAX {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }
}

fn member(at: &str, key: &str) -> String {
    format!("{at}.{}", cut(&output::escaped(key)))
}

fn short(value: &Value) -> String {
    cut(&output::escaped(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expected: &Value, found: &Value, lines: &[&str]) {
        assert_eq!(of("output", expected, found), lines);
    }

    #[test]
    fn each_place_is_named_with_both_values() {
        let expected = json!({"name": "Ada", "tags": ["a", "b"], "n": 1, "gone": null});
        check(&expected, &expected, &[]);
        check(
            &expected,
            &json!({"name": "Bob", "tags": ["a", "c", "d"], "n": "1", "new": {}}),
            &[
                "output.gone is missing, expected null",
                "output.n is \"1\", expected 1",
                "output.name is \"Bob\", expected \"Ada\"",
                "output.tags[1] is \"c\", expected \"b\"",
                "output.tags has 3 elements, expected 2",
                "output.new is {}, and was not expected",
            ],
        );
        check(&json!([1]), &json!({}), &["output is {}, expected [1]"]);
    }

    #[test]
    fn numbers_are_compared_by_value() {
        check(&json!(1), &json!(1.0), &[]);
        check(&json!(0.5), &json!(0.25), &["output is 0.25, expected 0.5"]);
        // As floating point they are the same.
        let (a, b) = (9_007_199_254_740_993_u64, 9_007_199_254_740_992_u64);
        let told = format!("output is {b}, expected {a}");
        check(&json!(a), &json!(b), &[&told]);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let (expected, found) = (vec![0; 100], vec![1; 100]);
        let lines = of("output", &json!(expected), &json!(found));
        assert_eq!(lines.len(), TOLD_MAX + 1);
        assert_eq!(lines[TOLD_MAX], "and 80 further differences");
        let lines = of("output", &json!("a".repeat(1_000)), &json!("\u{1b}"));
        assert!(
            lines[0].starts_with("output is \"\\u001b\", expected \"aaa"),
            "{lines:?}"
        );
        assert!(lines[0].len() < 200);
    }
}
