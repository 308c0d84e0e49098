//! The attribute and the derive of tq-sdk. They read tokens by hand: what they need of Rust's grammar is too little for a parser crate.

mod case;
mod doc;
mod item;
mod schema;
mod serde;
mod signature;
mod tokens;

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};
use signature::{Argument, Function};

/// Makes a function callable as a task of this module; see the documentation of `tq_sdk`.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = match arguments.into_iter().next() {
        Some(token) => Err(Error::new(
            token.span(),
            "`#[task]` takes no arguments: limits and retries are set in `tq.toml`",
        )),
        None => Function::parse(item.clone()),
    };
    match function {
        Ok(function) => {
            let mut expanded = TokenStream::new();
            if !function.has_inline {
                // It keeps a frame of its own, and with that its name in the backtrace of a trap.
                expanded.extend([
                    TokenTree::from(Punct::new('#', Spacing::Alone)),
                    inline_never(),
                ]);
            }
            expanded.extend(item);
            expanded.extend(register(&function));
            expanded
        }
        // The function is kept as written, so that the compiler checks the rest of the crate as usual.
        Err(error) => {
            let mut expanded = item;
            expanded.extend(error.into_compile_error());
            expanded
        }
    }
}

/// Writes down what the JSON of a type looks like; see `tq_sdk::schema`.
#[proc_macro_derive(Schema, attributes(schema))]
pub fn schema(item: TokenStream) -> TokenStream {
    schema::derive(item).unwrap_or_else(Error::into_compile_error)
}

/// `[inline(never)]`
fn inline_never() -> TokenTree {
    let mut tokens = keyword("inline");
    tokens.extend([group(keyword("never"))]);
    Group::new(Delimiter::Bracket, tokens).into()
}

/// What is wrong with the annotated item, and where.
struct Error {
    span: Span,
    message: String,
}

impl Error {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }

    fn into_compile_error(self) -> TokenStream {
        let message = TokenTree::from(Literal::string(&self.message));
        let tokens = [
            TokenTree::from(Ident::new("compile_error", self.span)),
            Punct::new('!', Spacing::Alone).into(),
            Group::new(Delimiter::Brace, message.into()).into(),
        ];
        tokens
            .into_iter()
            .map(|mut token| {
                token.set_span(self.span);
                token
            })
            .collect()
    }
}

/// `::tq_sdk::__task! { name "name" "{…" ((kind type),…) (output) }`: everything that needs no syntax is left to that macro.
fn register(function: &Function) -> TokenStream {
    let name = function.name.to_string();
    let name = name.strip_prefix("r#").unwrap_or(&name);
    let arguments = function.arguments.iter().map(|argument| match argument {
        Argument::Context => group(keyword("context")),
        Argument::Str => group(keyword("str")),
        Argument::Bytes => group(keyword("bytes")),
        Argument::Payload(written) => {
            let mut tokens = keyword("payload");
            tokens.extend(written.iter().cloned());
            group(tokens)
        }
    });
    let described = describe(function, name);
    let mut input = TokenStream::from(TokenTree::from(function.name.clone()));
    input.extend([
        TokenTree::from(Literal::string(name)),
        Literal::string(&described).into(),
    ]);
    input.extend([
        group(arguments.collect()),
        group(function.output.iter().cloned().collect()),
    ]);

    call("__task", input)
}

/// `::tq_sdk::name! { … }`
fn call(name: &str, input: TokenStream) -> TokenStream {
    let punct = |char, spacing| TokenTree::from(Punct::new(char, spacing));
    let mut call: TokenStream = [punct(':', Spacing::Joint), punct(':', Spacing::Alone)]
        .into_iter()
        .collect();
    call.extend(keyword("tq_sdk"));
    call.extend([punct(':', Spacing::Joint), punct(':', Spacing::Alone)]);
    call.extend(keyword(name));
    call.extend([
        punct('!', Spacing::Alone),
        Group::new(Delimiter::Brace, input).into(),
    ]);
    call
}

fn group(tokens: TokenStream) -> TokenTree {
    Group::new(Delimiter::Parenthesis, tokens).into()
}

fn keyword(word: &str) -> TokenStream {
    TokenTree::from(Ident::new(word, Span::call_site())).into()
}

/// The function's line in the section `tq:functions`, which the broker reads without running the module: up to the schemas,
/// which only the compiler knows.
fn describe(function: &Function, name: &str) -> String {
    let doc = doc::json_string(&function.doc);
    let (input, output) = (function.input_kind(), function.output_kind());
    format!("{{\"name\":\"{name}\",\"doc\":{doc},\"input\":\"{input}\",\"output\":\"{output}\"")
}
