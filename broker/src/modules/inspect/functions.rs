//! Which functions a module has.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tq_core::limits::{MODULE_DESCRIPTIONS_BYTES_MAX, MODULE_FUNCTIONS_MAX};
use tq_core::name;

use super::error::{cut, start_of};
use super::{Entry, Error, Function, Kind};
use crate::modules::{Schemas, nearest};

/// The name of the one function of a plain program, and of a handler of which nothing names any.
const MAIN: &str = "main";

/// The functions of a module, by name.
///
/// A handler's come from its descriptions (sections `tq:functions`, which the Rust SDK writes: JSON objects, one a line) or, where
/// there are none, from the manifest; `declared` are the names that the manifest has a section for. One that nothing names
/// a function of has one, `main`. Where the exports of a component are its functions, `exported` are those.
///
/// # Errors
/// If a description cannot be read, a name cannot be used or is there twice, or the manifest names a function that is not
/// there.
pub(super) fn of(
    entry: Entry,
    described: &[&[u8]],
    exported: Vec<Function>,
    declared: &[String],
) -> Result<Vec<Function>, Error> {
    let mut functions = BTreeMap::new();
    match entry {
        Entry::Program => add(&mut functions, Function::named(MAIN))?,
        Entry::Typed => exported
            .into_iter()
            .try_for_each(|function| add(&mut functions, function))?,
        Entry::Handler => {
            let len = described.iter().map(|section| section.len()).sum();
            if len > MODULE_DESCRIPTIONS_BYTES_MAX {
                return Err(Error::DescriptionsTooLarge { len });
            }
            let lines = described
                .iter()
                .flat_map(|section| section.split(|byte| *byte == b'\n'));
            for (index, line) in lines.enumerate() {
                if !line.trim_ascii().is_empty() {
                    add(&mut functions, describe(index + 1, line)?)?;
                }
            }
            if functions.is_empty() {
                for name in declared {
                    add(&mut functions, Function::named(name))?;
                }
            }
            if functions.is_empty() {
                add(&mut functions, Function::named(MAIN))?;
            }
        }
    }
    if functions.len() > MODULE_FUNCTIONS_MAX {
        return Err(Error::TooManyFunctions {
            found: functions.len(),
        });
    }
    match declared.iter().find(|name| !functions.contains_key(*name)) {
        Some(name) => Err(Error::UnknownFunction {
            name: name.clone(),
            nearest: nearest(name, functions.keys().map(String::as_str))
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }),
        None => Ok(functions.into_values().collect()),
    }
}

fn add(functions: &mut BTreeMap<String, Function>, function: Function) -> Result<(), Error> {
    if !name::is_function(&function.name) {
        return Err(Error::FunctionName(function.name));
    }
    match functions.insert(function.name.clone(), function) {
        Some(twin) => Err(Error::DuplicateFunction(twin.name)),
        None => Ok(()),
    }
}

fn describe(number: usize, line: &[u8]) -> Result<Function, Error> {
    let error = |reason: String| Error::Description {
        line: number,
        reason: cut(&reason, 200),
        start: start_of(line),
    };
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|cause| error(reason(&cause)))?;
    let text = |key: &'static str| match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(error(format!("`{key}` is not a string"))),
    };
    let schema = |key: &'static str| match object.get(key) {
        None => Ok(None),
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(schema.to_string())),
        Some(_) => Err(error(format!("`{key}` is no schema"))),
    };
    Ok(Function {
        name: text("name")?
            .ok_or_else(|| error("`name` is missing".to_owned()))?
            .to_owned(),
        doc: text("doc")?.unwrap_or_default().to_owned(),
        input: kind(text("input")?),
        output: kind(text("output")?),
        schemas: Schemas {
            input: schema("input_schema")?,
            output: schema("output_schema")?,
        },
        typed: None,
    })
}

/// The words of a JSON error, with its column alone: to the parser, each line is the first.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or(&text);
    format!("{words} (column {})", error.column())
}

/// A kind that a newer SDK knows and this broker does not is no reason to refuse the module: it is a hint.
fn kind(text: Option<&str>) -> Kind {
    Kind::ALL
        .into_iter()
        .find(|kind| Some(kind.as_str()) == text)
        .unwrap_or(Kind::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entry: Entry, described: &[&str], declared: &[&str], expected: Result<&[&str], &str>) {
        let described: Vec<&[u8]> = described.iter().map(|text| text.as_bytes()).collect();
        let declared: Vec<String> = declared.iter().map(|&name| name.to_owned()).collect();
        let got = of(entry, &described, Vec::new(), &declared)
            .map(|functions| {
                functions
                    .iter()
                    .map(|f| {
                        format!(
                            "{} {}>{} {}",
                            f.name,
                            f.input.as_str(),
                            f.output.as_str(),
                            f.doc
                        )
                    })
                    .collect::<Vec<_>>()
            })
            .map_err(|error| error.to_string());
        assert_eq!(
            got.as_ref()
                .map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>())
                .map_err(String::as_str),
            expected.map(<[_]>::to_vec)
        );
    }

    #[test]
    fn functions_come_from_the_descriptions() {
        check(
            Entry::Handler,
            &[
                "{\"name\":\"shrink\",\"doc\":\"Makes it smaller.\",\"input\":\"json\",\"output\":\"bytes\"}\n{\"name\":\"crop\",\"input\":\"cbor\",\"later\":1}\n",
                "\n{\"name\":\"about\",\"doc\":\"\",\"input\":\"none\",\"output\":\"text\"}\n",
            ],
            &["crop"],
            Ok(&[
                "about none>text ",
                "crop > ",
                "shrink json>bytes Makes it smaller.",
            ]),
        );
    }

    #[test]
    fn schemas_are_kept_as_they_are() {
        let line = br#"{"name":"f","input_schema":{"type":"object"},"output_schema":true}"#;
        let functions = of(Entry::Handler, &[line], Vec::new(), &[]).expect("it is described");
        let expected = Schemas {
            input: Some("{\"type\":\"object\"}".to_owned()),
            output: Some("true".to_owned()),
        };
        assert_eq!(functions[0].schemas, expected);
    }

    #[test]
    fn functions_come_from_the_manifest_where_the_module_has_none() {
        check(Entry::Handler, &[], &["b", "a"], Ok(&["a > ", "b > "]));
        check(Entry::Handler, &[], &[], Ok(&["main > "]));
    }

    #[test]
    fn programs_have_one_function() {
        check(Entry::Program, &[], &["main"], Ok(&["main > "]));
        // The handler that these belong to is not exported.
        check(Entry::Program, &["{\"name\":\"a\"}"], &[], Ok(&["main > "]));
        check(
            Entry::Program,
            &[],
            &["mian"],
            Err(
                "tq.toml has a section for the function `mian`, which is not in the module; did you mean `main`?",
            ),
        );
    }

    #[test]
    fn manifest_names_only_functions_that_are_there() {
        check(
            Entry::Handler,
            &["{\"name\":\"crop\"}"],
            &["delete"],
            Err("tq.toml has a section for the function `delete`, which is not in the module"),
        );
    }

    #[test]
    fn bad_descriptions_are_refused_with_their_line() {
        let refused = |described: &str, expected: &str| {
            check(Entry::Handler, &[described], &[], Err(expected));
        };
        refused(
            "{\"name\":\"a\"}\nname=b",
            "line 2 of the section `tq:functions` does not describe a function: expected ident (column 2): `name=b`",
        );
        refused(
            "{\"doc\":\"x\"}",
            "line 1 of the section `tq:functions` does not describe a function: `name` is missing: `{\"doc\":\"x\"}`",
        );
        refused(
            "{\"name\":7}",
            "line 1 of the section `tq:functions` does not describe a function: `name` is not a string: `{\"name\":7}`",
        );
        refused(
            "{\"name\":\"a\",\"input_schema\":\"object\"}",
            "line 1 of the section `tq:functions` does not describe a function: `input_schema` is no schema: `{\"name\":\"a\",\"input_schema\":\"object\"}`",
        );
        refused(
            "{\"name\":\"a b\\n\"}",
            "function name `a b\\n` cannot be used; names have 1 to 128 printable ASCII characters and no spaces",
        );
        refused(
            "{\"name\":\"a\"}\n{\"name\":\"a\"}",
            "module has two functions named `a`",
        );
        refused(
            &" ".repeat(262_145),
            "descriptions of functions (section `tq:functions`) have 262145 bytes, over the limit of 262144 bytes",
        );
        let many: String = (0..1001)
            .map(|n| format!("{{\"name\":\"f{n}\"}}\n"))
            .collect();
        refused(&many, "module has 1001 functions, over the limit of 1000");
    }
}
