//! The filter language: tests of fields, joined by AND, OR, NOT and parentheses.
//!
//! ```text
//! filter = and { "OR" and }
//! and    = not { ["AND"] not }
//! not    = "NOT" not | "(" filter ")" | test
//! test   = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) value | field "IN" "(" value { "," value } ")"
//! ```
//!
//! A value is a word, or a text in double quotes with `\"` and `\\`. `:` is for texts that have the value in them, in
//! capitals or not.

use tq_core::Timestamp;
use tq_core::limits::{FILTER_DEPTH_MAX, FILTER_TESTS_MAX};
use tq_core::task::Task;

use super::Error;
use super::field::{Number, States, Text, Unit};
use super::value;
use crate::tables::row::{Finished, Hash};

/// Which tasks are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// Each of them holds; it is true if there are none.
    All(Vec<Node>),
    /// One of them holds.
    Any(Vec<Node>),
    Not(Box<Node>),
    State(States),
    /// A text is this one.
    Is(Text, String, Hash),
    /// A text has this one in it, which is in small letters.
    Has(Text, String),
    Number(Number, Compare, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Compare {
    fn holds(self, found: u64, wanted: u64) -> bool {
        match self {
            Self::Equal => found == wanted,
            Self::Less => found < wanted,
            Self::AtMost => found <= wanted,
            Self::More => found > wanted,
            Self::AtLeast => found >= wanted,
        }
    }
}

/// Numbers from one to another, both of them among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Range {
    pub(super) const ALL: Self = Self {
        from: 0,
        to: u64::MAX,
    };
    const NONE: Self = Self { from: 1, to: 0 };

    fn of(compare: Compare, value: u64) -> Self {
        let (from, to) = match compare {
            Compare::Equal => (Some(value), Some(value)),
            Compare::Less => (Some(0), value.checked_sub(1)),
            Compare::AtMost => (Some(0), Some(value)),
            Compare::More => (value.checked_add(1), Some(u64::MAX)),
            Compare::AtLeast => (Some(value), Some(u64::MAX)),
        };
        match (from, to) {
            (Some(from), Some(to)) => Self { from, to },
            _ => Self::NONE,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    fn or(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            (false, false) => Self {
                from: self.from.min(other.from),
                to: self.to.max(other.to),
            },
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.from > self.to
    }
}

/// Outside of these no task is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) states: States,
    pub(super) submitted: Range,
    pub(super) ended: Range,
}

impl Bounds {
    const ALL: Self = Self {
        states: States::ALL,
        submitted: Range::ALL,
        ended: Range::ALL,
    };

    fn and(self, other: Self) -> Self {
        Self {
            states: self.states.and(other.states),
            submitted: self.submitted.and(other.submitted),
            ended: self.ended.and(other.ended),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            states: self.states.or(other.states),
            submitted: self.submitted.or(other.submitted),
            ended: self.ended.or(other.ended),
        }
    }
}

impl Filter {
    /// Reads one; an empty text takes every task. Relative times count from `now`.
    ///
    /// # Errors
    /// [`Error::Filter`] says what cannot be read, and where.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, Error> {
        Parser::new(text, now).whole().map(Self)
    }

    /// That takes tasks in some states.
    pub fn of_states(states: States) -> Self {
        Self(Node::State(states))
    }

    /// That takes tasks that were submitted before a time.
    pub fn submitted_before(at: Timestamp) -> Self {
        Self(Node::Number(Number::Submitted, Compare::Less, at.0))
    }

    /// That takes tasks that ended before a time.
    pub fn ended_before(at: Timestamp) -> Self {
        Self(Node::Number(Number::Ended, Compare::Less, at.0))
    }

    /// Takes what both take.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Node::All(vec![self.0, other.0]))
    }

    /// Whether it takes a task.
    pub fn takes(&self, task: &Task) -> bool {
        self.0.takes(task)
    }

    /// Whether it takes a task that ended, as far as the index knows. None if only the task's own rows can tell.
    pub(super) fn verdict(&self, finished: &Finished<'_>, ended_at: Timestamp) -> Option<bool> {
        self.0.verdict(finished, ended_at)
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.0.bounds()
    }

    /// Whether it takes nothing but tasks that have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.bounds().states.is_within(States::ENDED)
    }
}

impl Node {
    fn takes(&self, task: &Task) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.takes(task)),
            Self::Any(nodes) => nodes.iter().any(|node| node.takes(task)),
            Self::Not(node) => !node.takes(task),
            Self::State(states) => States::of(&task.state).is_within(*states),
            Self::Is(field, value, _) => field.of(task, |found| found == value),
            Self::Has(field, value) => {
                field.of(task, |found| found.to_lowercase().contains(value.as_str()))
            }
            Self::Number(field, compare, value) => {
                let found = field.of(task);
                found.is_some_and(|found| compare.holds(found, *value))
            }
        }
    }

    fn verdict(&self, finished: &Finished<'_>, ended_at: Timestamp) -> Option<bool> {
        let each = |nodes: &[Self], decides: bool| {
            let mut is_known = true;
            for node in nodes {
                match node.verdict(finished, ended_at) {
                    Some(verdict) if verdict == decides => return Some(decides),
                    Some(_) => {}
                    None => is_known = false,
                }
            }
            is_known.then_some(!decides)
        };
        match self {
            Self::All(nodes) => each(nodes, false),
            Self::Any(nodes) => each(nodes, true),
            Self::Not(node) => node.verdict(finished, ended_at).map(|verdict| !verdict),
            Self::State(states) => Some(States::of_end(finished.end).is_within(*states)),
            Self::Is(field, value, hash) => field.differs(finished, value, *hash).then_some(false),
            Self::Has(Text::Error, part) if !finished.has_failure => Some(part.is_empty()),
            Self::Has(..) => None,
            Self::Number(field, compare, value) => {
                let found = field.of_finished(finished, ended_at)?;
                match compare.holds(found, *value) {
                    // It may stand for none, which nothing holds for.
                    true if found == 0 => None,
                    holds => Some(holds),
                }
            }
        }
    }

    fn bounds(&self) -> Bounds {
        match self {
            Self::All(nodes) => {
                let bounds = nodes.iter().map(Self::bounds);
                bounds.fold(Bounds::ALL, Bounds::and)
            }
            Self::Any(nodes) => {
                let bounds = nodes.iter().map(Self::bounds).reduce(Bounds::or);
                bounds.unwrap_or(Bounds::ALL)
            }
            // What a node does not take may be anywhere, but for states: all that counts of them is in the node.
            Self::Not(node) => match **node {
                Self::State(states) => Bounds {
                    states: states.not(),
                    ..Bounds::ALL
                },
                _ => Bounds::ALL,
            },
            Self::State(states) => Bounds {
                states: *states,
                ..Bounds::ALL
            },
            Self::Number(Number::Submitted, compare, value) => Bounds {
                submitted: Range::of(*compare, *value),
                ..Bounds::ALL
            },
            Self::Number(Number::Ended, compare, value) => Bounds {
                states: States::ENDED,
                ended: Range::of(*compare, *value),
                ..Bounds::ALL
            },
            Self::Is(..) | Self::Has(..) | Self::Number(..) => Bounds::ALL,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// In quotes: never a keyword.
    Quoted(String),
    /// An operator, a parenthesis or a comma.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 10] = ["!=", "<=", ">=", "=", "<", ">", ":", "(", ")", ","];

struct Parser<'a> {
    text: &'a str,
    now: Timestamp,
    /// In bytes.
    at: usize,
    tests: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, now: Timestamp) -> Self {
        Self {
            text,
            now,
            at: 0,
            tests: 0,
            depth: 0,
        }
    }

    fn whole(mut self) -> Result<Node, Error> {
        if self.peek()?.0 == Token::End {
            return Ok(Node::All(Vec::new()));
        }
        let node = self.or()?;
        match self.peek()? {
            (Token::End, _) => Ok(node),
            (token, at) => Err(self.error(at, format!("{} was not expected", named(&token)))),
        }
    }

    fn or(&mut self) -> Result<Node, Error> {
        let mut nodes = vec![self.and()?];
        while self.takes_keyword("OR")? {
            nodes.push(self.and()?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn and(&mut self) -> Result<Node, Error> {
        let mut nodes = vec![self.not()?];
        loop {
            let goes_on = self.takes_keyword("AND")? || self.begins_test()?;
            if !goes_on {
                return Ok(one_or(nodes, Node::All));
            }
            nodes.push(self.not()?);
        }
    }

    /// Whether a test comes next, so that two of them without a word in between are joined by AND.
    fn begins_test(&mut self) -> Result<bool, Error> {
        Ok(match self.peek()?.0 {
            Token::Word(word) => !word.eq_ignore_ascii_case("OR"),
            Token::Sign("(") => true,
            Token::Quoted(_) | Token::Sign(_) | Token::End => false,
        })
    }

    fn not(&mut self) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            let what = format!("it is nested more than {FILTER_DEPTH_MAX} deep");
            return Err(self.error(self.at, what));
        }
        let node = if self.takes_keyword("NOT")? {
            Node::Not(Box::new(self.not()?))
        } else if self.takes("(")? {
            let node = self.or()?;
            self.expect(")")?;
            node
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node, Error> {
        let (token, at) = self.next()?;
        let Token::Word(field) = token else {
            let what = format!("a field was expected, not {}", named(&token));
            return Err(self.error(at, what));
        };
        let (operator, operator_at) = self.next()?;
        match operator {
            Token::Word(word) if word.eq_ignore_ascii_case("IN") => {
                self.expect("(")?;
                let mut nodes = vec![self.compared(&field, at, "=", operator_at)?];
                while self.takes(",")? {
                    nodes.push(self.compared(&field, at, "=", operator_at)?);
                }
                self.expect(")")?;
                Ok(one_or(nodes, Node::Any))
            }
            Token::Sign(sign) if !["(", ")", ","].contains(&sign) => {
                self.compared(&field, at, sign, operator_at)
            }
            other => {
                let what = format!(
                    "`=`, `!=`, `<`, `<=`, `>`, `>=`, `:` or `IN` was expected behind `{field}`, not {}",
                    named(&other)
                );
                Err(self.error(operator_at, what))
            }
        }
    }

    /// A field that is compared with the value that comes next.
    fn compared(
        &mut self,
        field: &str,
        field_at: usize,
        operator: &'static str,
        operator_at: usize,
    ) -> Result<Node, Error> {
        self.tests += 1;
        if self.tests > FILTER_TESTS_MAX {
            let what = format!("it has more than {FILTER_TESTS_MAX} tests");
            return Err(self.error(field_at, what));
        }
        let (value, value_at) = self.value()?;
        let unfit = |parser: &Self| {
            parser.error(
                operator_at,
                format!("`{operator}` does not go with `{field}`"),
            )
        };
        if field == "state" {
            let states = named_in(&States::NAMES, &value).ok_or_else(|| {
                let names: Vec<_> = States::NAMES.iter().map(|(name, _)| *name).collect();
                let what = format!(
                    "`{}` is not a state; states are {}",
                    shown(&value),
                    names.join(", ")
                );
                self.error(value_at, what)
            })?;
            return match operator {
                "=" => Ok(Node::State(states)),
                "!=" => Ok(Node::State(states.not())),
                _ => Err(unfit(self)),
            };
        }
        let text = match field.strip_prefix("label.") {
            Some(label) => Some(Text::Label(label.to_owned())),
            None => named_in(&Text::NAMES, field),
        };
        if let Some(text) = text {
            let hash = text.hash(&value);
            return match operator {
                "=" => Ok(Node::Is(text, value, hash)),
                "!=" => Ok(Node::Not(Box::new(Node::Is(text, value, hash)))),
                ":" => Ok(Node::Has(text, value.to_lowercase())),
                _ => Err(unfit(self)),
            };
        }
        let Some(number) = named_in(&Number::NAMES, field) else {
            return Err(self.unknown(field, field_at));
        };
        let is_exact = match number.unit() {
            Unit::Size | Unit::Count => true,
            // Nobody means a millisecond.
            Unit::Time | Unit::Span => false,
        };
        let parsed = value::parse(number.unit(), &value, self.now);
        let wanted = parsed.map_err(|usual| {
            self.error(
                value_at,
                format!("`{}` is no value of `{field}`: {usual}", shown(&value)),
            )
        })?;
        let node = |compare| Node::Number(number, compare, wanted);
        match operator {
            "<" => Ok(node(Compare::Less)),
            "<=" => Ok(node(Compare::AtMost)),
            ">" => Ok(node(Compare::More)),
            ">=" => Ok(node(Compare::AtLeast)),
            "=" if is_exact => Ok(node(Compare::Equal)),
            "!=" if is_exact => Ok(Node::Not(Box::new(node(Compare::Equal)))),
            "=" | "!=" => {
                let what = format!("`{field}` is compared by `<`, `<=`, `>` or `>=`");
                Err(self.error(operator_at, what))
            }
            _ => Err(unfit(self)),
        }
    }

    fn value(&mut self) -> Result<(String, usize), Error> {
        self.skip_space();
        let at = self.at;
        let rest = self.rest();
        if rest.starts_with('"') {
            return match self.next()? {
                (Token::Quoted(text), at) => Ok((text, at)),
                (token, at) => Err(self.error(at, format!("{} is no value", named(&token)))),
            };
        }
        // More than a field may have: times have colons.
        let end = rest.find(|c: char| c.is_whitespace() || "(),\"".contains(c));
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if word.is_empty() {
            return Err(self.error(at, "a value was expected".to_owned()));
        }
        self.at += word.len();
        Ok((word.to_owned(), at))
    }

    fn unknown(&self, field: &str, at: usize) -> Error {
        let texts = Text::NAMES.iter().map(|(name, _)| *name);
        let numbers = Number::NAMES.iter().map(|(name, _)| *name);
        let names: Vec<_> = std::iter::once("state")
            .chain(texts)
            .chain(numbers)
            .collect();
        let what = format!(
            "there is no field `{}`; fields are {}, and label.NAME",
            shown(field),
            names.join(", ")
        );
        self.error(at, what)
    }

    fn takes_keyword(&mut self, keyword: &str) -> Result<bool, Error> {
        let before = self.at;
        match self.next()?.0 {
            Token::Word(word) if word.eq_ignore_ascii_case(keyword) => Ok(true),
            _ => {
                self.at = before;
                Ok(false)
            }
        }
    }

    fn takes(&mut self, sign: &str) -> Result<bool, Error> {
        let before = self.at;
        match self.next()?.0 {
            Token::Sign(found) if found == sign => Ok(true),
            _ => {
                self.at = before;
                Ok(false)
            }
        }
    }

    fn expect(&mut self, sign: &str) -> Result<(), Error> {
        match self.next()? {
            (Token::Sign(found), _) if found == sign => Ok(()),
            (token, at) => {
                let what = format!("`{sign}` was expected, not {}", named(&token));
                Err(self.error(at, what))
            }
        }
    }

    fn peek(&mut self) -> Result<(Token, usize), Error> {
        let before = self.at;
        let next = self.next();
        self.at = before;
        next
    }

    fn next(&mut self) -> Result<(Token, usize), Error> {
        self.skip_space();
        let at = self.at;
        let rest = self.rest();
        if rest.is_empty() {
            return Ok((Token::End, at));
        }
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.at += sign.len();
            return Ok((Token::Sign(sign), at));
        }
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            let mut characters = quoted.char_indices();
            while let Some((index, character)) = characters.next() {
                match character {
                    '"' => {
                        self.at += 1 + index + 1;
                        return Ok((Token::Quoted(text), at));
                    }
                    '\\' => match characters.next() {
                        Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                        Some(_) | None => {
                            let what = "`\\` in a text comes before `\"` or `\\`".to_owned();
                            return Err(self.error(at + 1 + index, what));
                        }
                    },
                    character => text.push(character),
                }
            }
            return Err(self.error(at, "a text that begins here has no end".to_owned()));
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if word.is_empty() {
            let found: String = rest.chars().take(1).collect();
            return Err(self.error(at, format!("`{}` was not expected", shown(&found))));
        }
        self.at += word.len();
        Ok((Token::Word(word.to_owned()), at))
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, at: usize, what: String) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        Error::Filter {
            text: shown(self.text),
            at: before.chars().count() + 1,
            what,
        }
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match (nodes.len(), nodes.pop()) {
        (1, Some(node)) => node,
        (_, last) => {
            nodes.extend(last);
            many(nodes)
        }
    }
}

fn named_in<T: Clone>(names: &[(&str, T)], wanted: &str) -> Option<T> {
    let found = names.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, value)| value.clone())
}

fn named(token: &Token) -> String {
    match token {
        Token::Word(word) | Token::Quoted(word) => format!("`{}`", shown(word)),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::End => "the end".to_owned(),
    }
}

/// As much of a text as a message may have.
fn shown(text: &str) -> String {
    text.chars()
        .take(100)
        .flat_map(char::escape_debug)
        .collect()
}
