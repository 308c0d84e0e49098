//! Objects of a JSON file whose every key is known: reading them, with errors that name the file, the key and the nearest key.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Content, FILE_BYTES_MAX};
use crate::document;
use crate::exit::Failure;

/// An object of the file.
pub(super) struct Object<'a> {
    file: &'a Path,
    /// Where it is in the file; empty for the file itself.
    at: String,
    entries: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The object that a value at this place of the file is.
    pub(super) fn of(file: &'a Path, at: &str, value: &'a Value) -> Result<Self, Failure> {
        match value {
            Value::Object(entries) => Ok(Self {
                file,
                at: at.to_owned(),
                entries,
            }),
            _ => Err(mistyped(file, at, value, "an object")),
        }
    }

    pub(super) fn file(&self) -> &'a Path {
        self.file
    }

    /// The keys, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(String::as_str)
    }

    /// Refuses keys that are not in `known`, naming the nearest that is.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        for name in self.names() {
            if known.contains(&name) {
                continue;
            }
            let refused = refuse(self.file, &self.place(name), "is not a key");
            return Err(match document::nearest(name, known) {
                Some(near) => refused.hint(format!("did you mean `{near}`?")),
                None => refused.hint(format!("known here: {}", known.join(", "))),
            });
        }
        Ok(())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mistyped(self.file, &self.place(key), other, "a string")),
        }
    }

    /// The status of an HTTP response.
    pub(super) fn status(&self, key: &str) -> Result<Option<u16>, Failure> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let status = number.filter(|status| (200..600).contains(status));
        match status {
            Some(status) => Ok(Some(status)),
            None => Err(self.invalid(key, "it has to be a whole number from 200 to 599")),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<String>>, Failure> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        let texts = value.as_array().and_then(|values| {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.invalid(key, "it has to be a list of strings")),
        }
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, Failure> {
        let value = self.entries.get(key);
        let object = value.map(|value| Self::of(self.file, &self.place(key), value));
        object.transpose()
    }

    /// The object under `key`, whose values are all strings.
    pub(super) fn texts(&self, key: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
        let Some(texts) = self.object(key)? else {
            return Ok(None);
        };
        let pairs = texts.names().map(|name| {
            let text = texts.text(name)?.unwrap_or_default();
            Ok((name.to_owned(), text.to_owned()))
        });
        pairs.collect::<Result<_, _>>().map(Some)
    }

    /// What `read` makes of each object of the list under `key`.
    pub(super) fn each<T>(
        &self,
        key: &str,
        read: impl Fn(Object<'a>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let values = match self.entries.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => {
                return Err(mistyped(self.file, &self.place(key), other, "a list"));
            }
        };
        let objects = values.iter().enumerate().map(|(index, value)| {
            let at = format!("{}[{index}]", self.place(key));
            read(Self::of(self.file, &at, value)?)
        });
        objects.collect()
    }

    /// JSON under `key`, or else text, base64 or a file under `key` with that behind it.
    pub(super) fn content(&self, key: &str) -> Result<Option<Content>, Failure> {
        let keys = [
            key.to_owned(),
            format!("{key}_text"),
            format!("{key}_base64"),
            format!("{key}_file"),
        ];
        let mut there = keys.iter().filter(|key| self.entries.contains_key(*key));
        let (first, second) = (there.next(), there.next());
        if let (Some(first), Some(second)) = (first, second) {
            let message = format!("stands beside `{first}`; leave one of the two out");
            return Err(refuse(self.file, &self.place(second), &message));
        }
        let [json, text, base64, file] = &keys;
        if let Some(value) = self.entries.get(json) {
            return Ok(Some(Content::Json(value.clone())));
        }
        if let Some(text) = self.text(text)? {
            return Ok(Some(Content::Bytes(text.to_owned().into())));
        }
        if let Some(digits) = self.text(base64)? {
            return self.decoded(base64, digits).map(Some);
        }
        match self.text(file)? {
            Some(name) => self.read(file, name).map(Some),
            None => Ok(None),
        }
    }

    /// The value of a key of a bucket.
    pub(super) fn value(&self, key: &str) -> Result<Content, Failure> {
        const FORM: &str = "a string, `{\"json\": …}`, `{\"base64\": …}` or `{\"file\": …}`";
        let value = self.entries.get(key).unwrap_or(&Value::Null);
        let mistyped = || mistyped(self.file, &self.place(key), value, FORM);
        match value {
            Value::String(text) => Ok(Content::Bytes(text.clone().into())),
            Value::Object(entries) if entries.len() == 1 => {
                let object = Self::of(self.file, &self.place(key), value)?;
                object.only(&["json", "base64", "file"])?;
                match (
                    entries.get("json"),
                    object.text("base64")?,
                    object.text("file")?,
                ) {
                    (Some(json), _, _) => Ok(Content::Json(json.clone())),
                    (None, Some(digits), _) => object.decoded("base64", digits),
                    (None, None, Some(name)) => object.read("file", name),
                    (None, None, None) => Err(mistyped()),
                }
            }
            _ => Err(mistyped()),
        }
    }

    /// An error about this object.
    pub(super) fn refuse(&self, what: &str) -> Failure {
        refuse(self.file, &self.at, what)
    }

    /// An error about the value under `key`.
    pub(super) fn invalid(&self, key: &str, why: &str) -> Failure {
        Failure::usage(format!(
            "{}: `{}`: {why}",
            self.file.display(),
            self.place(key)
        ))
    }

    /// An error about the value under `key`, if there is one.
    pub(super) fn refuse_if_there(&self, key: &str, why: &str) -> Option<Failure> {
        self.entries.get(key).map(|_| self.invalid(key, why))
    }

    fn decoded(&self, key: &str, digits: &str) -> Result<Content, Failure> {
        let bytes = STANDARD.decode(digits);
        let bytes =
            bytes.map_err(|error| self.invalid(key, &format!("it is not base64: {error}")))?;
        Ok(Content::Bytes(bytes.into()))
    }

    /// A file beside the one of the case.
    fn read(&self, key: &str, name: &str) -> Result<Content, Failure> {
        let path = self.file.with_file_name(name);
        let shown = path.display();
        let unreadable =
            |error: io::Error| self.invalid(key, &format!("failed to read `{shown}`: {error}"));
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(self.invalid(key, &format!("`{shown}` is no file")));
        }
        let len = metadata.len();
        if len > FILE_BYTES_MAX {
            let why =
                format!("`{shown}` has {len} bytes, over the limit of {FILE_BYTES_MAX} bytes");
            return Err(self.invalid(key, &why));
        }
        Ok(Content::Bytes(fs::read(&path).map_err(unreadable)?.into()))
    }

    fn place(&self, key: &str) -> String {
        match self.at.as_str() {
            "" => key.to_owned(),
            at => format!("{at}.{key}"),
        }
    }
}

fn refuse(file: &Path, at: &str, what: &str) -> Failure {
    let subject = match at {
        "" => "it".to_owned(),
        at => format!("`{at}`"),
    };
    Failure::usage(format!("{}: {subject} {what}", file.display()))
}

fn mistyped(file: &Path, at: &str, value: &Value, expected: &str) -> Failure {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    refuse(file, at, &format!("is {found}, and has to be {expected}"))
}
