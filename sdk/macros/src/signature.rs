//! Reads a function's signature: just as much Rust as a task's signature can hold.

use proc_macro::{Delimiter, Ident, Spacing, Span, TokenStream, TokenTree};

use crate::tokens::{is_punct, is_word, split_at_commas};
use crate::{Error, doc};

/// What the attribute needs to know of the function that it stands on.
pub(crate) struct Function {
    pub(crate) doc: String,
    pub(crate) name: Ident,
    /// Whether the author decided on inlining.
    pub(crate) has_inline: bool,
    /// At most two; the context, if any, is the first.
    pub(crate) arguments: Vec<Argument>,
    /// The result type as written; `()` if none is.
    pub(crate) output: Vec<TokenTree>,
}

/// One argument, by how it is made.
pub(crate) enum Argument {
    Context,
    /// `&str`, lent from a `String`.
    Str,
    /// `&[u8]`, lent from the payload.
    Bytes,
    /// Any other type, which `FromPayload` makes or the compiler refuses.
    Payload(Vec<TokenTree>),
}

impl Function {
    pub(crate) fn parse(item: TokenStream) -> Result<Self, Error> {
        let mut tokens = item.into_iter().peekable();
        let mut lines = Vec::new();
        let mut has_inline = false;
        let name = loop {
            match tokens.next() {
                // `#[…]`: an attribute, or a doc comment.
                Some(TokenTree::Punct(hash)) if hash.as_char() == '#' => {
                    if let Some(TokenTree::Group(attribute)) = tokens.next() {
                        lines.extend(doc::text(&attribute));
                        has_inline |= attribute
                            .stream()
                            .into_iter()
                            .any(|token| is_word(&token, "inline"));
                    }
                }
                // The `(crate)` of `pub(crate)`.
                Some(TokenTree::Group(_)) => {}
                Some(TokenTree::Ident(word)) => match word.to_string().as_str() {
                    "pub" | "const" => {}
                    "fn" => match tokens.next() {
                        Some(TokenTree::Ident(name)) => break name,
                        other => return Err(not_a_function(other.as_ref())),
                    },
                    "async" => {
                        return Err(Error::new(
                            word.span(),
                            "a task is not `async`: every call has a sandbox of its own, so it may simply block",
                        ));
                    }
                    "unsafe" | "extern" => {
                        return Err(Error::new(
                            word.span(),
                            format!("a task is a safe Rust function: remove `{word}`"),
                        ));
                    }
                    _ => return Err(not_a_function(Some(&TokenTree::Ident(word)))),
                },
                other => return Err(not_a_function(other.as_ref())),
            }
        };
        let arguments = match tokens.next() {
            Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Parenthesis => {
                arguments(&name, list.stream())?
            }
            Some(other) => return Err(generic(other.span())),
            None => return Err(not_a_function(None)),
        };
        let mut output = Vec::new();
        if matches!(tokens.peek(), Some(TokenTree::Punct(dash)) if dash.as_char() == '-') {
            let arrow = tokens.by_ref().take(2).count();
            debug_assert_eq!(arrow, 2, "a `-` after the arguments is the start of `->`");
            // The last token is the body.
            while let Some(token) = tokens.next() {
                if tokens.peek().is_none() || is_word(&token, "where") {
                    break;
                }
                output.push(token);
            }
        }
        if let Some(word) = output.first().filter(|first| is_word(first, "impl")) {
            return Err(Error::new(
                word.span(),
                "a task's result has a type of its own: `impl Trait` cannot be encoded",
            ));
        }
        if output.is_empty() {
            output.push(TokenTree::Group(proc_macro::Group::new(
                Delimiter::Parenthesis,
                TokenStream::new(),
            )));
        }
        Ok(Self {
            doc: doc::join(&lines),
            name,
            has_inline,
            arguments,
            output,
        })
    }

    /// How the payload is read: `json`, `text`, `bytes` or `none`.
    pub(crate) fn input_kind(&self) -> &'static str {
        match self.arguments.last() {
            None | Some(Argument::Context) => "none",
            Some(Argument::Str) => "text",
            Some(Argument::Bytes) => "bytes",
            Some(Argument::Payload(written)) => kind(written),
        }
    }

    /// How the result is written: `json`, `text`, `bytes` or `none`.
    pub(crate) fn output_kind(&self) -> &'static str {
        let name = type_name(&self.output);
        if name.is_some_and(|name| name.to_string() == "Result") {
            // An alias without arguments hides what it holds.
            return first_generic(&self.output).map_or("bytes", |value| kind(&value));
        }
        kind(&self.output)
    }
}

fn not_a_function(found: Option<&TokenTree>) -> Error {
    let span = found.map_or_else(Span::call_site, TokenTree::span);
    Error::new(
        span,
        "`#[task]` goes on a function: `fn name(payload: Payload) -> Result<Output>`",
    )
}

fn generic(span: Span) -> Error {
    Error::new(
        span,
        "a task cannot be generic: its name and its types are fixed when the module is built",
    )
}

fn arguments(name: &Ident, list: TokenStream) -> Result<Vec<Argument>, Error> {
    let parts = split_at_commas(list);
    if let Some(third) = parts.get(2) {
        let span = third.first().map_or_else(|| name.span(), TokenTree::span);
        return Err(Error::new(
            span,
            "a task takes a `Context` and one payload at most: put several values into one `Json<Struct>`",
        ));
    }
    let count = parts.len();
    let mut arguments = Vec::with_capacity(count);
    for (position, part) in parts.iter().enumerate() {
        let first = part.first().map_or_else(|| name.span(), TokenTree::span);
        let Some(colon) = type_colon(part) else {
            return Err(Error::new(
                first,
                "a task is a function outside of `impl` and `trait`: it takes no `self`",
            ));
        };
        let written = &part[colon + 1..];
        let span = written.first().map_or(first, TokenTree::span);
        if part[..colon].iter().any(|token| is_word(token, "self")) {
            return Err(Error::new(
                first,
                "a task is a function outside of `impl` and `trait`: it takes no `self`",
            ));
        }
        if written.first().is_some_and(|token| is_word(token, "impl")) {
            return Err(generic(span));
        }
        let argument = classify(written);
        match (&argument, position) {
            (Argument::Context, 0) => {}
            (Argument::Context, _) => {
                return Err(Error::new(
                    span,
                    "the `Context` comes first, then the payload",
                ));
            }
            (_, 0) if count == 2 => {
                return Err(Error::new(
                    span,
                    "of two arguments the first is the `Context`: put several values into one `Json<Struct>`",
                ));
            }
            _ => {}
        }
        arguments.push(argument);
    }
    Ok(arguments)
}

fn classify(written: &[TokenTree]) -> Argument {
    if type_name(written).is_some_and(|name| name.to_string() == "Context") {
        return Argument::Context;
    }
    if let [TokenTree::Punct(reference), referent @ ..] = written
        && reference.as_char() == '&'
    {
        match referent {
            [TokenTree::Ident(name)] if name.to_string() == "str" => return Argument::Str,
            [TokenTree::Group(slice)]
                if slice.delimiter() == Delimiter::Bracket
                    && slice.stream().to_string().trim() == "u8" =>
            {
                return Argument::Bytes;
            }
            _ => {}
        }
    }
    Argument::Payload(written.to_vec())
}

/// What a type's name says of its encoding. A name is all that a macro sees, so that an alias of `Json` counts as bytes:
/// the kind is a hint for people and tools, and never decides how a payload is read.
fn kind(written: &[TokenTree]) -> &'static str {
    match written {
        [] => "none",
        [TokenTree::Group(unit)]
            if unit.delimiter() == Delimiter::Parenthesis && unit.stream().is_empty() =>
        {
            "none"
        }
        _ => match type_name(written).map(ToString::to_string).as_deref() {
            Some("Json") => "json",
            Some("String" | "str") => "text",
            _ => "bytes",
        },
    }
}

/// The last name of a path, before its generic arguments: `Json` of `tq_sdk::Json<Vec<u8>>`.
fn type_name(written: &[TokenTree]) -> Option<&Ident> {
    let before_generics = written.iter().take_while(|token| !is_punct(token, '<'));
    before_generics
        .filter_map(|token| {
            if let TokenTree::Ident(name) = token {
                Some(name)
            } else {
                None
            }
        })
        .last()
}

/// `Json<T>` of `Result<Json<T>, E>`.
fn first_generic(written: &[TokenTree]) -> Option<Vec<TokenTree>> {
    let mut inside = written
        .iter()
        .skip_while(|token| !is_punct(token, '<'))
        .skip(1)
        .cloned()
        .collect::<Vec<_>>();
    inside.pop(); // The `>` that ends the list.
    split_at_commas(inside).into_iter().next()
}

/// Where the colon between a pattern and its type stands. Those of a path come in pairs, the first one marked as joint.
fn type_colon(argument: &[TokenTree]) -> Option<usize> {
    let mut in_path = false;
    argument.iter().position(|token| {
        let TokenTree::Punct(punct) = token else {
            in_path = false;
            return false;
        };
        let found = punct.as_char() == ':' && punct.spacing() == Spacing::Alone && !in_path;
        in_path = punct.as_char() == ':' && punct.spacing() == Spacing::Joint;
        found
    })
}
