//! Two functions over a text.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tq_sdk::{Error, Json, Result, Schema};

#[derive(Serialize, Schema, Debug, PartialEq)]
struct Counts {
    lines: usize,
    words: usize,
    bytes: usize,
}

/// Counts the lines, words and bytes of a text.
#[tq_sdk::task]
fn count(text: &str) -> Json<Counts> {
    Json(Counts {
        lines: text.lines().count(),
        words: text.split_whitespace().count(),
        bytes: text.len(),
    })
}

#[derive(Deserialize, Schema)]
struct Top {
    text: String,
    /// How many words to return; at least 1.
    n: usize,
}

#[derive(Serialize, Schema, Debug, PartialEq)]
struct Word {
    word: String,
    count: usize,
}

/// Finds the `n` most frequent words of a text, in lower case. Words as frequent as each other come in alphabetical order.
#[tq_sdk::task]
fn top(Json(Top { text, n }): Json<Top>) -> Result<Json<Vec<Word>>> {
    if n == 0 {
        return Err(Error::invalid_input(
            "field `n` is 0, but at least 1 word has to be asked for",
        ));
    }
    let mut counts = HashMap::<String, usize>::new();
    // An apostrophe belongs to a word, at its ends it is a quotation mark.
    let words = text
        .split(|char: char| !char.is_alphanumeric() && char != '\'')
        .map(|word| word.trim_matches('\''));
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut words: Vec<Word> = counts
        .into_iter()
        .map(|(word, count)| Word { word, count })
        .collect();
    words.sort_by(|a, b| (Reverse(a.count), &a.word).cmp(&(Reverse(b.count), &b.word)));
    words.truncate(n);
    Ok(Json(words))
}

fn main() {}

#[cfg(test)]
mod tests {
    use tq_sdk::{Error, Json};

    use super::{Counts, Top, Word, count, top};

    #[test]
    fn counts_lines_words_and_bytes() {
        assert_eq!(
            count("to be\nor not to bé\n"),
            Json(Counts {
                lines: 2,
                words: 6,
                bytes: 20
            })
        );
    }

    #[test]
    fn most_frequent_words_come_first_and_ties_by_alphabet() {
        let text = "Don't stop, 'don't' STOP: never; stop!".to_owned();
        let word = |word: &str, count| Word {
            word: word.to_owned(),
            count,
        };
        assert_eq!(
            top(Json(Top { text, n: 2 })),
            Ok(Json(vec![word("stop", 3), word("don't", 2)]))
        );
    }

    #[test]
    fn no_words_asked_for_is_invalid_input() {
        let refused = top(Json(Top {
            text: String::new(),
            n: 0,
        }));
        assert_eq!(
            refused,
            Err(Error::invalid_input(
                "field `n` is 0, but at least 1 word has to be asked for"
            ))
        );
    }
}
