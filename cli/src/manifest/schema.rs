//! The JSON Schema of `tq.toml`, by which editors complete and check it.

use serde_json::{Map, Value, json};
use tq_core::Limits;
use tq_core::limits::Unit;

use crate::limits::Amount;
use crate::toolchain::Language;

/// The file that it is in, beside a manifest whose first line names it.
pub(crate) const SCHEMA_FILE: &str = "tq.schema.json";

/// The schema, in draft 2020-12. It takes what [`Manifest::parse`](super::Manifest::parse) takes, but for what only makes sense together.
pub(crate) fn schema() -> Value {
    let function = [limits(), retry(), placement(), capabilities(), results()];
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tq.toml",
        "description": "The manifest of a tq module.",
        "type": "object",
        "properties": {
            "module": table("What the module is, and how it is built.", module()),
            "limits": table("What one attempt of a function may use, unless the function says otherwise.", limits()),
            "retry": table("How often and how soon a task is tried again. What is left out is the namespace's.", retry()),
            "placement": table("Where tasks may run, and beside what.", placement()),
            "capabilities": table("What functions may do beside computing. What is not here is refused.", capabilities()),
            "function": {
                "description": "Functions with settings of their own.",
                "type": "object",
                "additionalProperties": table("What is otherwise for this function.", function.into_iter().flatten().collect()),
            },
        },
        "additionalProperties": false,
    })
}

fn table(description: &str, properties: Map<String, Value>) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn properties(of: Value) -> Map<String, Value> {
    match of {
        Value::Object(properties) => properties,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn module() -> Map<String, Value> {
    properties(json!({
        "name": {
            "description": "The module's name: letters, digits, `-`, `_` and `.`, beginning with a letter or digit. Without it, the component's.",
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
            "maxLength": tq_core::limits::NAME_BYTES_MAX,
            "examples": ["images"],
        },
        "language": {
            "description": "The language whose tools build the component. Without it, a folder with a Cargo.toml is a crate.",
            "enum": Language::names(),
            "examples": ["python"],
        },
        "build": {
            "description": "A command that builds the component, run by `sh` in the folder of this file. Needs `artifact`.",
            "type": "string",
            "examples": ["make"],
        },
        "artifact": {
            "description": "The component, relative to the folder of this file. Without it, the folder is a crate.",
            "type": "string",
            "examples": ["out/images.wasm"],
        },
    }))
}

fn limits() -> Map<String, Value> {
    let rows = Limits::DEFAULT.rows();
    let named = rows.map(|(name, unit, default)| {
        let shown = Amount(default).shown(unit);
        let description = format!("At most, in one attempt. The default is {shown}.");
        (name.to_owned(), amount(unit, &description))
    });
    named.collect()
}

fn amount(unit: Unit, description: &str) -> Value {
    let (units, example) = match unit {
        Unit::Count => ("[kKmMgGtT]?", "10_000_000"),
        Unit::Bytes => ("([kKmMgG]?[iI]?[bB])?", "64MiB"),
        Unit::Millis => return span(description),
    };
    json!({
        "description": description,
        "type": ["string", "integer"],
        "minimum": 0,
        "pattern": format!("^[0-9][0-9_]*([.][0-9][0-9_]*)? *{units}$"),
        "examples": [example],
    })
}

fn span(description: &str) -> Value {
    json!({
        "description": description,
        "type": "string",
        "pattern": "^[0-9][0-9_]*([.][0-9][0-9_]*)? *([mM][sS]|[mM][iI][nN]|[sSmMhHdD])$",
        "examples": ["30s"],
    })
}

fn retry() -> Map<String, Value> {
    properties(json!({
        "max_attempts": {
            "description": "How often a task is tried, the first time included.",
            "type": "integer",
            "minimum": 1,
            "examples": [3],
        },
        "backoff": span("The longest pause before the second attempt; it doubles with each."),
        "cap": span("The longest pause there is."),
    }))
}

fn placement() -> Map<String, Value> {
    let labels = |description: &str| {
        json!({
            "description": description,
            "type": "object",
            "additionalProperties": { "type": "string" },
            "examples": [{ "zone": "eu" }],
        })
    };
    properties(json!({
        "queue": {
            "description": "The queue that tasks wait in, if they name none.",
            "type": "string",
            "examples": ["mail"],
        },
        "require": labels("Labels that a host has to have."),
        "prefer": labels("Labels that a host should have."),
        "concurrency": {
            "description": "How many tasks of one concurrency key run at once.",
            "type": "integer",
            "minimum": 1,
            "examples": [2],
        },
        "concurrency_key": {
            "description": "Where the payload has the concurrency key, as a JSON pointer. Needs `concurrency`.",
            "type": "string",
            "examples": ["/customer"],
        },
    }))
}

fn capabilities() -> Map<String, Value> {
    let list = |description: &str, examples: &[&str]| {
        json!({
            "description": description,
            "type": "array",
            "items": { "type": "string" },
            "examples": [examples],
        })
    };
    properties(json!({
        "env": {
            "description": "Environment variables.",
            "type": "object",
            "additionalProperties": { "type": "string" },
            "examples": [{ "LANG": "C" }],
        },
        "deterministic": {
            "description": "Clocks and random numbers come from the task's id, so that an attempt does the same each time.",
            "type": "boolean",
            "examples": [true],
        },
        "http": list("URLs that may be asked: `[METHODS] https://HOST[:PORT][/PATH]`.", &["GET https://api.example"]),
        "scratch": {
            "description": "A folder in memory at `/scratch`, empty at the start of each attempt.",
            "type": "boolean",
            "examples": [true],
        },
        "keyvalue": list("Buckets of keys and values.", &["cache"]),
        "tcp": list("Addresses that may be dialled: `HOST:PORT`.", &["db.example:5432"]),
        "secrets": list("Secrets: by name, or `NAME for URL` to have one put into a request.", &["db-password"]),
    }))
}

fn results() -> Map<String, Value> {
    properties(json!({
        "result_ttl": span("Results are removed so long after their tasks' ends."),
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::{CAPABILITIES, FILE, MODULE, Manifest, PLACEMENT, RESULTS, RETRY};

    #[track_caller]
    fn has(properties: &Map<String, Value>, keys: &[&str]) {
        let mut keys: Vec<&str> = keys.to_vec();
        keys.sort_unstable();
        let mut found: Vec<_> = properties.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, keys);
    }

    #[test]
    fn every_key_is_in_it_and_no_other() {
        has(&module(), MODULE);
        has(&retry(), RETRY);
        has(&placement(), PLACEMENT);
        has(&capabilities(), CAPABILITIES);
        has(&results(), RESULTS);
        has(&limits(), &crate::limits::names().collect::<Vec<_>>());
    }

    #[test]
    fn every_example_is_taken() {
        let needs = |key: &str| match key {
            "build" => "artifact = \"a.wasm\"\n",
            "concurrency_key" => "concurrency = 1\n",
            _ => "",
        };
        for (table, properties) in [
            ("module", module()),
            ("limits", limits()),
            ("retry", retry()),
            ("placement", placement()),
            ("capabilities", capabilities()),
            ("function.f", results()),
        ] {
            for (key, schema) in properties {
                let examples = schema["examples"].as_array().expect("there are examples");
                for example in examples {
                    let value = toml_of(example);
                    let text = format!("[{table}]\n{}{key} = {value}\n", needs(&key));
                    let read = Manifest::parse(Path::new(FILE), &text);
                    assert!(
                        read.is_ok(),
                        "{text}: {:?}",
                        read.err().map(|error| crate::exit::text(&error.into()))
                    );
                }
            }
        }
    }

    /// The few shapes that examples have.
    fn toml_of(value: &Value) -> String {
        match value {
            Value::Object(members) => {
                let members = members.iter();
                let members = members.map(|(key, value)| format!("{key} = {}", toml_of(value)));
                format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        }
    }
}
