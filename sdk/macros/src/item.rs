//! Reads a struct or an enum: its attributes, generics, fields and variants.

use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Delimiter, Group, Ident, TokenStream, TokenTree};

use crate::Error;
use crate::tokens::{is_punct, is_word, split_at_commas};

pub(crate) struct Item {
    /// What stands in `#[…]`, doc comments among it.
    pub(crate) attributes: Vec<Group>,
    pub(crate) name: Ident,
    pub(crate) generics: Vec<Generic>,
    /// From the word `where` on, if there is one.
    pub(crate) bounds: Vec<TokenTree>,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    Struct(Fields),
    Enum(Vec<Variant>),
}

pub(crate) struct Variant {
    pub(crate) attributes: Vec<Group>,
    pub(crate) name: Ident,
    pub(crate) fields: Fields,
}

pub(crate) enum Fields {
    Unit,
    Tuple(Vec<Field>),
    Named(Vec<Field>),
}

pub(crate) struct Field {
    pub(crate) attributes: Vec<Group>,
    /// Where mistakes are shown; the name, if it has one.
    pub(crate) name: Option<Ident>,
    pub(crate) ty: Vec<TokenTree>,
}

/// A generic parameter.
pub(crate) struct Generic {
    pub(crate) is_type: bool,
    /// As it is written in the list of arguments: `'a`, `T`.
    pub(crate) name: Vec<TokenTree>,
    /// With its bounds, and without its default.
    pub(crate) declared: Vec<TokenTree>,
}

type Tokens = Peekable<IntoIter>;

impl Item {
    pub(crate) fn parse(item: TokenStream) -> Result<Self, Error> {
        let mut tokens = item.into_iter().peekable();
        let attributes = attributes(&mut tokens);
        visibility(&mut tokens);
        let keyword = ident(&mut tokens)?;
        let name = ident(&mut tokens)?;
        let generics = if next_is(&mut tokens, |token| is_punct(token, '<')) {
            generics(&mut tokens)
        } else {
            Vec::new()
        };
        let (mut fields, mut bounds) = (None, Vec::new());
        for token in tokens {
            match token {
                TokenTree::Group(group)
                    if group.delimiter() == Delimiter::Brace
                        || bounds.is_empty() && group.delimiter() == Delimiter::Parenthesis =>
                {
                    fields = Some(group);
                }
                token if is_punct(&token, ';') => {}
                token => bounds.push(token),
            }
        }
        let body = match (keyword.to_string().as_str(), fields) {
            ("struct", None) => Body::Struct(Fields::Unit),
            ("struct", Some(group)) => Body::Struct(Fields::parse(&group)?),
            ("enum", Some(group)) => Body::Enum(
                split_at_commas(group.stream())
                    .into_iter()
                    .map(Variant::parse)
                    .collect::<Result<_, _>>()?,
            ),
            _ => {
                return Err(Error::new(
                    keyword.span(),
                    format!("`{keyword}` has no JSON Schema: `Schema` goes on a struct or an enum"),
                ));
            }
        };
        Ok(Self {
            attributes,
            name,
            generics,
            bounds,
            body,
        })
    }
}

impl Variant {
    fn parse(tokens: Vec<TokenTree>) -> Result<Self, Error> {
        let mut tokens = peekable(tokens);
        let attributes = attributes(&mut tokens);
        let name = ident(&mut tokens)?;
        let fields = match tokens.next() {
            Some(TokenTree::Group(group)) => Fields::parse(&group)?,
            // The number of a variant is no concern of serde's.
            _ => Fields::Unit,
        };
        Ok(Self {
            attributes,
            name,
            fields,
        })
    }
}

impl Fields {
    fn parse(group: &Group) -> Result<Self, Error> {
        let is_named = group.delimiter() == Delimiter::Brace;
        let fields = split_at_commas(group.stream())
            .into_iter()
            .map(|tokens| Field::parse(tokens, is_named))
            .collect::<Result<_, _>>()?;
        Ok(if is_named {
            Self::Named(fields)
        } else {
            Self::Tuple(fields)
        })
    }
}

impl Field {
    fn parse(tokens: Vec<TokenTree>, is_named: bool) -> Result<Self, Error> {
        let mut tokens = peekable(tokens);
        let attributes = attributes(&mut tokens);
        visibility(&mut tokens);
        let name = is_named.then(|| ident(&mut tokens)).transpose()?;
        // The colon.
        let ty = tokens.skip(usize::from(is_named)).collect();
        Ok(Self {
            attributes,
            name,
            ty,
        })
    }
}

fn attributes(tokens: &mut Tokens) -> Vec<Group> {
    let mut attributes = Vec::new();
    while next_is(tokens, |token| is_punct(token, '#')) {
        if let Some(TokenTree::Group(attribute)) = tokens.next() {
            attributes.push(attribute);
        }
    }
    attributes
}

/// Passes by `pub` and `pub(crate)`, but not by the type in `struct Pair(pub (A, B))`.
fn visibility(tokens: &mut Tokens) {
    if next_is(tokens, |token| is_word(token, "pub"))
        && let Some(TokenTree::Group(group)) = tokens.peek()
        && group.delimiter() == Delimiter::Parenthesis
        && group.stream().into_iter().next().is_some_and(|first| {
            ["crate", "self", "super", "in"]
                .iter()
                .any(|word| is_word(&first, word))
        })
    {
        tokens.next();
    }
}

/// What stands between `<`, which was read, and its `>`.
fn generics(tokens: &mut Tokens) -> Vec<Generic> {
    let (mut depth, mut after_dash) = (1_usize, false);
    let inside = tokens.by_ref().take_while(|token| {
        if is_punct(token, '<') {
            depth += 1;
        } else if is_punct(token, '>') && !after_dash {
            depth -= 1;
        }
        after_dash = is_punct(token, '-');
        depth > 0
    });
    let inside: Vec<_> = inside.collect();
    split_at_commas(inside)
        .into_iter()
        .map(Generic::parse)
        .collect()
}

impl Generic {
    fn parse(tokens: Vec<TokenTree>) -> Self {
        let mut depth = 0_usize;
        let declared: Vec<_> = tokens
            .into_iter()
            .take_while(|token| {
                if is_punct(token, '<') {
                    depth += 1;
                } else if is_punct(token, '>') {
                    depth = depth.saturating_sub(1);
                }
                depth > 0 || !is_punct(token, '=')
            })
            .collect();
        let first = declared.first();
        let is_lifetime = first.is_some_and(|first| is_punct(first, '\''));
        let is_const = first.is_some_and(|first| is_word(first, "const"));
        let name = declared.iter().skip(usize::from(is_const));
        Self {
            is_type: !is_lifetime && !is_const,
            name: name.take(1 + usize::from(is_lifetime)).cloned().collect(),
            declared,
        }
    }
}

fn next_is(tokens: &mut Tokens, is: impl Fn(&TokenTree) -> bool) -> bool {
    tokens.next_if(|token| is(token)).is_some()
}

fn ident(tokens: &mut Tokens) -> Result<Ident, Error> {
    match tokens.next() {
        Some(TokenTree::Ident(ident)) => Ok(ident),
        // The compiler has read the item before, so that this is syntax of a time to come.
        other => Err(Error::new(
            other.map_or_else(proc_macro::Span::call_site, |token| token.span()),
            "`Schema` cannot read this: leave `Schema` away from this type",
        )),
    }
}

fn peekable(tokens: Vec<TokenTree>) -> Tokens {
    tokens
        .into_iter()
        .collect::<TokenStream>()
        .into_iter()
        .peekable()
}
