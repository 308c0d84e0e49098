//! `tq config show`

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) fn run(config: &Config) -> anyhow::Result<Exit> {
    let shown = config.shown();
    match config.output.value {
        Format::Table => table::print(
            ["setting", "value", "from"],
            shown.into_iter().map(|shown| {
                let value = if shown.value.is_empty() {
                    "-".to_owned()
                } else {
                    shown.value
                };
                [shown.key.to_owned(), value, shown.origin.to_string()]
            }),
        )?,
        Format::Json => {
            #[derive(Serialize)]
            struct Value {
                value: String,
                origin: String,
            }
            let settings: BTreeMap<_, _> = shown
                .into_iter()
                .map(|shown| {
                    (
                        shown.key,
                        Value {
                            value: shown.value,
                            origin: shown.origin.to_string(),
                        },
                    )
                })
                .collect();
            json::print(&settings)?;
        }
    }
    Ok(Exit::Succeeded)
}
