//! Reads the attributes that decide on the form of a type's JSON: those of serde, and `#[schema(any)]`.

use proc_macro::{Delimiter, Group, Ident, TokenTree};

use crate::case::Case;
use crate::tokens::{is_punct, split_at_commas};
use crate::{Error, doc};

/// Where an attribute stands.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Container,
    Variant,
    Field,
}

/// What the attributes of one place say.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) doc: String,
    pub(crate) rename: Option<String>,
    pub(crate) rename_all: Option<Case>,
    /// Of the fields of an enum's variants.
    pub(crate) rename_all_fields: Option<Case>,
    pub(crate) has_default: bool,
    /// Not there in one direction, or not always.
    pub(crate) is_partial: bool,
    /// Neither read nor written.
    pub(crate) is_skipped: bool,
    pub(crate) denies_unknown: bool,
    pub(crate) is_transparent: bool,
    /// `with` and the like: the type does not tell the form.
    pub(crate) own_form: Option<Ident>,
    pub(crate) is_any: bool,
}

impl Settings {
    pub(crate) fn read(attributes: &[Group], place: Place) -> Result<Self, Error> {
        let mut settings = Self::default();
        let lines: Vec<String> = attributes.iter().filter_map(doc::text).collect();
        settings.doc = doc::join(&lines);
        for attribute in attributes {
            let mut tokens = attribute.stream().into_iter();
            let (Some(TokenTree::Ident(of)), Some(TokenTree::Group(list))) =
                (tokens.next(), tokens.next())
            else {
                continue;
            };
            let of = of.to_string();
            if of != "serde" && of != "schema" {
                continue;
            }
            for entry in split_at_commas(list.stream()) {
                let Some(TokenTree::Ident(word)) = entry.first() else {
                    continue; // Serde says what is wrong with it.
                };
                if of == "serde" {
                    settings.serde(word, entry.get(1..).unwrap_or_default(), place)?;
                } else if place == Place::Field && entry.len() == 1 && word.to_string() == "any" {
                    settings.is_any = true;
                } else {
                    return Err(Error::new(
                        word.span(),
                        "there is one attribute of `Schema`, `#[schema(any)]` on a field: any value, or none, is right there",
                    ));
                }
            }
        }
        Ok(settings)
    }

    fn serde(&mut self, word: &Ident, value: &[TokenTree], place: Place) -> Result<(), Error> {
        use Place::{Container, Field, Variant};
        match (word.to_string().as_str(), place) {
            // They say nothing of the form.
            ("bound" | "crate" | "expecting", _) | ("borrow", Variant | Field) => {}
            // Nothing in JSON has the name of a container.
            ("rename", Container) => {}
            ("rename", Variant | Field) => self.rename = Some(text(word, value)?),
            ("rename_all", Container | Variant) => self.rename_all = Some(case(word, value)?),
            ("rename_all_fields", Container) => self.rename_all_fields = Some(case(word, value)?),
            ("default", Container | Field) => self.has_default = true,
            ("skip", Variant | Field) => self.is_skipped = true,
            ("skip_serializing" | "skip_deserializing", Variant | Field)
            | ("skip_serializing_if", Field) => self.is_partial = true,
            ("deny_unknown_fields", Container) => self.denies_unknown = true,
            ("transparent", Container) => self.is_transparent = true,
            ("with" | "serialize_with" | "deserialize_with", Field) => {
                self.own_form = Some(word.clone());
            }
            (other, _) => {
                return Err(Error::new(
                    word.span(),
                    format!(
                        "serde's `{other}` makes a form here that `derive(Schema)` does not know: implement `tq_sdk::Schema` by hand, or leave `Schema` away from this type"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The text of `= "…"`.
fn text(word: &Ident, value: &[TokenTree]) -> Result<String, Error> {
    let text = match value {
        [equals, literal] if is_punct(equals, '=') => match literal {
            TokenTree::Literal(literal) => doc::unquote(&literal.to_string()),
            // A literal that a macro was given.
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                doc::unquote(&group.stream().to_string())
            }
            _ => None,
        },
        _ => None,
    };
    text.ok_or_else(|| {
        Error::new(
            word.span(),
            format!("one schema stands for reading and for writing: give one name, as in `{word} = \"name\"`, or leave `Schema` away"),
        )
    })
}

fn case(word: &Ident, value: &[TokenTree]) -> Result<Case, Error> {
    let name = text(word, value)?;
    Case::named(&name).ok_or_else(|| {
        let known = Case::ALL.map(|case| format!("`{case}`")).join(", ");
        Error::new(
            word.span(),
            format!("`{name}` is no case of serde's: there are {known}"),
        )
    })
}
