//! The derive: from an item to the input of `__schema!`, which is the schema's text with the types of the fields in it.

use proc_macro::{Ident, Literal, Punct, Spacing, TokenStream, TokenTree};

use crate::case::Case;
use crate::doc::json_string;
use crate::item::{Body, Field, Fields, Generic, Item, Variant};
use crate::serde::{Place, Settings};
use crate::tokens::{is_punct, is_word};
use crate::{Error, call, group, keyword};

pub(crate) fn derive(item: TokenStream) -> Result<TokenStream, Error> {
    let item = Item::parse(item)?;
    let settings = Settings::read(&item.attributes, Place::Container)?;
    let mut pieces = Pieces::of(&item.name);
    let written = match &item.body {
        Body::Struct(fields) if settings.is_transparent => {
            pieces.like("transparent", transparent(&item, fields)?)?
        }
        Body::Struct(Fields::Tuple(fields)) if fields.len() == 1 => {
            pieces.like("newtype", &fields[0])?
        }
        Body::Struct(fields) => {
            pieces.fields(
                fields,
                &Form {
                    case: settings.rename_all,
                    has_default: settings.has_default,
                    denies_unknown: settings.denies_unknown,
                },
            )?;
            pieces.into_object()
        }
        Body::Enum(variants) => {
            pieces.variants(variants, &settings)?;
            pieces.into_object()
        }
    };

    let name = plain(&item.name);
    let mut input: TokenStream = [
        group(impl_generics(&item.generics)),
        group(self_type(&item)),
        group(item.bounds.into_iter().collect()),
        Literal::string(&json_string(&name)).into(),
        description(&settings.doc),
    ]
    .into_iter()
    .collect();
    input.extend(written);
    Ok(call("__schema", input))
}

/// What an object's fields have in common.
struct Form {
    case: Option<Case>,
    has_default: bool,
    denies_unknown: bool,
}

/// The members of a schema, so far.
struct Pieces<'a> {
    /// The type that the schema is of.
    owner: &'a Ident,
    tokens: TokenStream,
    /// What is to be written before the next token.
    text: String,
}

impl<'a> Pieces<'a> {
    fn of(owner: &'a Ident) -> Self {
        Self {
            owner,
            tokens: TokenStream::new(),
            text: String::new(),
        }
    }

    fn into_object(mut self) -> TokenStream {
        self.flush();
        let mut written = keyword("object");
        written.extend(self.tokens);
        written
    }

    /// A schema that is another's but for title and description.
    fn like(self, how: &str, field: &Field) -> Result<TokenStream, Error> {
        let settings = Settings::read(&field.attributes, Place::Field)?;
        if how == "newtype" {
            refuse_gaps(self.owner, field, &settings)?;
        }
        if self.is_any(field, &settings)? {
            return Ok(self.into_object());
        }
        let mut written = keyword("like");
        written.extend(keyword(how));
        written.extend([group(field.ty.iter().cloned().collect())]);
        Ok(written)
    }

    fn fields(&mut self, fields: &Fields, form: &Form) -> Result<(), Error> {
        match fields {
            Fields::Unit => self.push("\"type\":\"null\""),
            Fields::Tuple(fields) => {
                if fields.is_empty() || form.has_default {
                    return Err(Error::new(
                        self.owner.span(),
                        "`derive(Schema)` knows no tuple of a varying or no length: give its fields names, or leave `Schema` away",
                    ));
                }
                self.push("\"type\":\"array\",\"prefixItems\":[");
                for (index, field) in fields.iter().enumerate() {
                    let settings = Settings::read(&field.attributes, Place::Field)?;
                    refuse_gaps(self.owner, field, &settings)?;
                    self.push(if index > 0 { "," } else { "" });
                    self.field(field, &settings)?;
                }
                self.push(&format!("],\"items\":false,\"minItems\":{}", fields.len()));
            }
            Fields::Named(fields) => self.named(fields, form)?,
        }
        Ok(())
    }

    fn named(&mut self, fields: &[Field], form: &Form) -> Result<(), Error> {
        let mut required = keyword("required");
        let mut separator = "";
        self.push("\"type\":\"object\",\"properties\":{");
        for field in fields {
            let settings = Settings::read(&field.attributes, Place::Field)?;
            if settings.is_skipped {
                continue;
            }
            let written = field.name.as_ref().map(plain).unwrap_or_default();
            let name = settings.rename.clone().unwrap_or_else(|| {
                form.case
                    .map_or_else(|| written.clone(), |case| case.field(&written))
            });
            let name = json_string(&name);
            self.push(&format!("{separator}{name}:"));
            separator = ",";
            self.field(field, &settings)?;
            let may_be_missing =
                form.has_default || settings.has_default || settings.is_partial || settings.is_any;
            if !may_be_missing {
                required.extend([
                    Literal::string(&name).into(),
                    group(field.ty.iter().cloned().collect()),
                ]);
            }
        }
        self.push("},\"required\":[");
        self.token(required);
        self.push("]");
        if form.denies_unknown {
            self.push(",\"additionalProperties\":false");
        }
        Ok(())
    }

    fn variants(&mut self, variants: &[Variant], container: &Settings) -> Result<(), Error> {
        if container.is_transparent || container.has_default {
            return Err(Error::new(
                self.owner.span(),
                "serde knows neither `transparent` nor `default` on an enum",
            ));
        }
        let mut cases = Vec::new();
        for variant in variants {
            let settings = Settings::read(&variant.attributes, Place::Variant)?;
            if !settings.is_skipped {
                cases.push((variant, settings));
            }
        }
        if cases.is_empty() {
            return Err(Error::new(
                self.owner.span(),
                "an enum without variants has no values, and so no JSON Schema",
            ));
        }
        let are_names = cases.iter().all(|(variant, settings)| {
            matches!(variant.fields, Fields::Unit) && settings.doc.is_empty()
        });
        self.push(if are_names {
            "\"enum\":["
        } else {
            "\"oneOf\":["
        });
        for (index, (variant, settings)) in cases.iter().enumerate() {
            self.push(if index > 0 { "," } else { "" });
            let written = plain(&variant.name);
            let name = settings.rename.clone().unwrap_or_else(|| {
                container
                    .rename_all
                    .map_or_else(|| written.clone(), |case| case.variant(&written))
            });
            let name = json_string(&name);
            if are_names {
                self.push(&name);
                continue;
            }
            self.push("{");
            if !settings.doc.is_empty() {
                self.push(&format!("\"description\":{},", json_string(&settings.doc)));
            }
            if matches!(variant.fields, Fields::Unit) {
                self.push(&format!("\"const\":{name}}}"));
                continue;
            }
            self.push(&format!("\"type\":\"object\",\"properties\":{{{name}:"));
            match &variant.fields {
                Fields::Tuple(fields) if fields.len() == 1 => {
                    let settings = Settings::read(&fields[0].attributes, Place::Field)?;
                    refuse_gaps(&variant.name, &fields[0], &settings)?;
                    self.field(&fields[0], &settings)?;
                }
                fields => {
                    self.push("{");
                    self.fields(
                        fields,
                        &Form {
                            case: settings.rename_all.or(container.rename_all_fields),
                            has_default: false,
                            denies_unknown: container.denies_unknown,
                        },
                    )?;
                    self.push("}");
                }
            }
            self.push(&format!(
                "}},\"required\":[{name}],\"additionalProperties\":false}}"
            ));
        }
        self.push("]");
        Ok(())
    }

    /// The schema of one field.
    fn field(&mut self, field: &Field, settings: &Settings) -> Result<(), Error> {
        if self.is_any(field, settings)? {
            self.push(&match settings.doc.as_str() {
                "" => "{}".to_owned(),
                doc => format!("{{\"description\":{}}}", json_string(doc)),
            });
            return Ok(());
        }
        let mut schema = keyword("schema");
        schema.extend([
            description(&settings.doc),
            group(field.ty.iter().cloned().collect()),
        ]);
        self.token(schema);
        Ok(())
    }

    /// Whether a field may be anything.
    ///
    /// # Errors
    /// If it may not, and its type does not tell its form.
    fn is_any(&self, field: &Field, settings: &Settings) -> Result<bool, Error> {
        if settings.is_any {
            return Ok(true);
        }
        if let Some(word) = &settings.own_form {
            return Err(Error::new(
                word.span(),
                format!(
                    "serde's `{word}` gives this field a form that its type does not tell: write `#[schema(any)]` on it too, or leave `Schema` away"
                ),
            ));
        }
        let owner = self.owner.to_string();
        if let Some(word) = mention(&field.ty, &owner) {
            return Err(Error::new(
                word.span(),
                format!(
                    "`{owner}` holds itself, and its schema would have no end: write `#[schema(any)]` on this field, or leave `Schema` away"
                ),
            ));
        }
        Ok(false)
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            let mut piece = keyword("text");
            piece.extend([TokenTree::from(Literal::string(&self.text))]);
            self.text.clear();
            self.tokens.extend([group(piece)]);
        }
    }

    fn token(&mut self, piece: TokenStream) {
        self.flush();
        self.tokens.extend([group(piece)]);
    }
}

/// A tuple is read and written by position, where a gap shifts what comes behind it.
fn refuse_gaps(name: &Ident, field: &Field, settings: &Settings) -> Result<(), Error> {
    if settings.is_skipped || settings.is_partial || settings.has_default {
        let span = field.ty.first().map_or(name.span(), TokenTree::span);
        return Err(Error::new(
            span,
            "`derive(Schema)` knows no tuple with fields that may be missing: give its fields names, or leave `Schema` away",
        ));
    }
    Ok(())
}

/// The one field of a transparent struct that is read and written.
fn transparent<'a>(item: &'a Item, fields: &'a Fields) -> Result<&'a Field, Error> {
    let fields = match fields {
        Fields::Unit => &[],
        Fields::Tuple(fields) | Fields::Named(fields) => fields.as_slice(),
    };
    let mut found = Vec::new();
    for field in fields {
        let settings = Settings::read(&field.attributes, Place::Field)?;
        let is_phantom = field.ty.iter().any(|token| is_word(token, "PhantomData"));
        if !(is_phantom || settings.is_skipped || settings.is_partial || settings.has_default) {
            found.push(field);
        }
    }
    match found[..] {
        [field] => Ok(field),
        _ => Err(Error::new(
            item.name.span(),
            format!(
                "a transparent struct has one field that is read and written, but `{}` has {}",
                item.name,
                found.len()
            ),
        )),
    }
}

/// Where a type names `owner`. A path to another type of that name is none: it has `::` before it.
fn mention(ty: &[TokenTree], owner: &str) -> Option<Ident> {
    let mut in_path = false;
    for token in ty {
        match token {
            TokenTree::Ident(word) => {
                let name = word.to_string();
                if name == "Self" || (name == owner && !in_path) {
                    return Some(word.clone());
                }
            }
            TokenTree::Group(group) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                if let Some(word) = mention(&inside, owner) {
                    return Some(word);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        in_path = is_punct(token, ':');
    }
    None
}

/// `T: Bound + ::tq_sdk::Schema, …`
fn impl_generics(generics: &[Generic]) -> TokenStream {
    let mut written = TokenStream::new();
    for generic in generics {
        written.extend(generic.declared.iter().cloned());
        if generic.is_type {
            let has_bounds = generic.declared.iter().any(|token| is_punct(token, ':'));
            let punct = |char, spacing| TokenTree::from(Punct::new(char, spacing));
            let path = || [punct(':', Spacing::Joint), punct(':', Spacing::Alone)];
            written.extend([punct(if has_bounds { '+' } else { ':' }, Spacing::Alone)]);
            written.extend(path());
            written.extend(keyword("tq_sdk"));
            written.extend(path());
            written.extend(keyword("Schema"));
        }
        written.extend([TokenTree::from(Punct::new(',', Spacing::Alone))]);
    }
    written
}

/// `Name<T, …>`
fn self_type(item: &Item) -> TokenStream {
    let mut written = TokenStream::from(TokenTree::from(item.name.clone()));
    written.extend([TokenTree::from(Punct::new('<', Spacing::Alone))]);
    for generic in &item.generics {
        written.extend(generic.name.iter().cloned());
        written.extend([TokenTree::from(Punct::new(',', Spacing::Alone))]);
    }
    written.extend([TokenTree::from(Punct::new('>', Spacing::Alone))]);
    written
}

/// As a JSON string, or nothing.
fn description(doc: &str) -> TokenTree {
    let json = match doc {
        "" => String::new(),
        doc => json_string(doc),
    };
    Literal::string(&json).into()
}

/// A name without `r#`.
fn plain(name: &Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}
