//! `tq.toml`: a module's manifest, and nothing else.

mod schema;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tq_client::{
    ConcurrencyRule, Environment, FunctionSettings, GrantList, Grants, LimitOverrides,
    PlacementSettings, RetryOverrides,
};
use tq_core::grant::{BucketName, HttpGrant, SecretGrant, TcpGrant};

use crate::document::{self, Table};
use crate::exit::Failure;
use crate::limits::{self, Amount};
use crate::toolchain::Language;
use crate::units::Span;

pub(crate) use schema::{SCHEMA_FILE, schema};

/// The name of the file.
pub(crate) const FILE: &str = "tq.toml";

/// What a manifest says. What it leaves out has the defaults.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    /// The module's name.
    pub(crate) name: Option<String>,
    /// The language that it is built as; without it, a crate where there is a Cargo.toml.
    pub(crate) language: Option<Language>,
    /// A command that builds the component, run by `sh` in the manifest's folder.
    pub(crate) build: Option<String>,
    /// Where the component is, relative to the folder.
    pub(crate) artifact: Option<PathBuf>,
    /// Limits of every function.
    pub(crate) limits: LimitOverrides,
    /// Retry policy of every function.
    pub(crate) retry: RetryOverrides,
    /// Where every function may run, and beside what.
    pub(crate) placement: PlacementSettings,
    /// What every function may do beside computing.
    pub(crate) grants: Grants,
    /// Functions with settings of their own.
    pub(crate) functions: Vec<FunctionSettings>,
}

const MODULE: &[&str] = &["name", "language", "build", "artifact"];
const RETRY: &[&str] = &["max_attempts", "backoff", "cap"];
const PLACEMENT: &[&str] = &[
    "queue",
    "require",
    "prefer",
    "concurrency",
    "concurrency_key",
];
const CAPABILITIES: &[&str] = &[
    "env",
    "deterministic",
    "http",
    "scratch",
    "keyvalue",
    "tcp",
    "secrets",
];
const RESULTS: &[&str] = &["result_ttl"];

impl Manifest {
    /// Reads the manifest in `folder`; `None` if there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::usage(format!(
                "failed to read `{}`: {error}",
                path.display()
            ))),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        document::parse(path, text, |root| {
            root.only(&[
                "module",
                "limits",
                "retry",
                "placement",
                "capabilities",
                "function",
            ])?;
            let mut manifest = Self::default();
            root.table("module", |module| {
                module.only(MODULE)?;
                manifest.name = module.value("name")?;
                if let Some(name) = &manifest.name {
                    tq_core::name::check("module name", name)
                        .map_err(|error| module.invalid("name", &error.to_string()))?;
                }
                manifest.language = module.value("language")?;
                manifest.build = module.value("build")?;
                manifest.artifact = module.value("artifact")?;
                if manifest.build.is_some() && manifest.artifact.is_none() {
                    return Err(module.invalid(
                        "build",
                        "a build command needs `artifact`, the path of the component that it makes",
                    ));
                }
                if manifest.language.is_some() && manifest.artifact.is_some() {
                    return Err(module.invalid(
                        "language",
                        "it is how the component is built; leave it out, or `artifact` and `build`",
                    ));
                }
                Ok(())
            })?;
            root.table("limits", |table| {
                table.only(&limits::names().collect::<Vec<_>>())?;
                manifest.limits = limits(&table)?;
                Ok(())
            })?;
            root.table("retry", |table| {
                table.only(RETRY)?;
                manifest.retry = retry(table)?;
                Ok(())
            })?;
            root.table("placement", |table| {
                table.only(PLACEMENT)?;
                manifest.placement = placement(&table)?;
                Ok(())
            })?;
            root.table("capabilities", |table| {
                table.only(CAPABILITIES)?;
                manifest.grants = grants(&table)?;
                Ok(())
            })?;
            root.table("function", |functions| {
                for name in functions.names() {
                    functions.table(name, |table| {
                        table.only(
                            &limits::names()
                                .chain([RETRY, PLACEMENT, CAPABILITIES, RESULTS].concat())
                                .collect::<Vec<_>>(),
                        )?;
                        manifest.functions.push(FunctionSettings {
                            name: name.to_owned(),
                            placement: Some(placement(&table)?),
                            limits: Some(limits(&table)?),
                            grants: Some(grants(&table)?),
                            retry: Some(retry(table)?),
                            result_ttl_ms: table.value::<Span>("result_ttl")?.map(|span| span.0),
                        });
                        Ok(())
                    })?;
                }
                Ok(())
            })?;
            Ok(manifest)
        })
    }
}

fn limits(table: &Table<'_>) -> Result<LimitOverrides, Failure> {
    let mut named = LimitOverrides::default();
    for (name, unit, slot) in limits::slots(&mut named) {
        if let Some(text) = table.value::<String>(name)? {
            let amount = Amount::parse(unit, &text);
            *slot = Some(amount.map_err(|error| table.invalid(name, &error))?.0);
        }
    }
    Ok(named)
}

fn retry(table: Table<'_>) -> Result<RetryOverrides, Failure> {
    Ok(RetryOverrides {
        max_attempts: table.value("max_attempts")?,
        backoff_ms: table.value::<Span>("backoff")?.map(|span| span.0),
        cap_ms: table.value::<Span>("cap")?.map(|span| span.0),
    })
}

fn placement(table: &Table<'_>) -> Result<PlacementSettings, Failure> {
    let pointer: Option<String> = table.value("concurrency_key")?;
    let limit: Option<u32> = table.value("concurrency")?;
    if limit.is_none() && pointer.is_some() {
        return Err(table.invalid(
            "concurrency_key",
            "it needs `concurrency`, the number of tasks of one key that run at once",
        ));
    }
    Ok(PlacementSettings {
        queue: table.value("queue")?.unwrap_or_default(),
        required_labels: texts(table, "require")?.unwrap_or_default(),
        preferred_labels: texts(table, "prefer")?.unwrap_or_default(),
        concurrency: limit.map(|limit| ConcurrencyRule {
            payload_pointer: pointer.unwrap_or_default(),
            limit,
        }),
    })
}

fn grants(table: &Table<'_>) -> Result<Grants, Failure> {
    Ok(Grants {
        env: texts(table, "env")?.map(|variables| Environment { variables }),
        deterministic: table.flag("deterministic")?,
        http: grant_list::<HttpGrant>(table, "http")?,
        scratch: table.flag("scratch")?,
        keyvalue: grant_list::<BucketName>(table, "keyvalue")?,
        tcp: grant_list::<TcpGrant>(table, "tcp")?,
        secrets: grant_list::<SecretGrant>(table, "secrets")?,
    })
}

/// What a capability is granted for, each checked here, where its line is known.
fn grant_list<T: FromStr<Err: Display>>(
    table: &Table<'_>,
    capability: &str,
) -> Result<Option<GrantList>, Failure> {
    let Some(texts) = table.list(capability)? else {
        return Ok(None);
    };
    for text in &texts {
        text.parse::<T>()
            .map_err(|error| table.invalid(capability, &error.to_string()))?;
    }
    let grants = texts.into_iter().map(str::to_owned).collect();
    Ok(Some(GrantList { grants }))
}

/// The table under `key`, whose values are all texts; `None` if there is none.
fn texts(table: &Table<'_>, key: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
    table.table(key, |texts| {
        let names = texts.names().into_iter();
        let pairs = names.map(|name| {
            let value = texts.value(name)?.unwrap_or_default();
            Ok((name.to_owned(), value))
        });
        pairs.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_place() {
        let text = r#"
            [module]
            name = "images"
            build = "make"
            artifact = "out/images.wasm"
            [limits]
            fuel = 50_000_000_000
            memory = "256MiB"
            timeout = "30s"
            random = "1MiB"
            handles = 50
            [retry]
            max_attempts = 5
            backoff = "2s"
            cap = "1m"
            [placement]
            queue = "images"
            require = { gpu = "a100" }
            [capabilities]
            env = { LANG = "C" }
            http = ["GET https://a.example", "http://*.b.example:8080"]
            scratch = true
            keyvalue = ["cache"]
            tcp = ["db.example:5432"]
            secrets = ["db-password", "key for https://a.example"]
            [function.resize]
            deterministic = true
            http = []
            timeout = "90s"
            max_attempts = 1
            concurrency = 2
            concurrency_key = "/customer"
            prefer = { zone = "eu" }
            result_ttl = "24h"
        "#;
        let list = |grants: &[&str]| {
            let grants = grants.iter().map(|grant| (*grant).to_owned());
            Some(GrantList {
                grants: grants.collect(),
            })
        };
        let resize = FunctionSettings {
            name: "resize".into(),
            limits: Some(LimitOverrides {
                timeout_ms: Some(90_000),
                ..LimitOverrides::default()
            }),
            retry: Some(RetryOverrides {
                max_attempts: Some(1),
                ..RetryOverrides::default()
            }),
            placement: Some(PlacementSettings {
                preferred_labels: BTreeMap::from([("zone".into(), "eu".into())]),
                concurrency: Some(ConcurrencyRule {
                    payload_pointer: "/customer".into(),
                    limit: 2,
                }),
                ..PlacementSettings::default()
            }),
            grants: Some(Grants {
                deterministic: Some(true),
                http: Some(GrantList::default()),
                ..Grants::default()
            }),
            result_ttl_ms: Some(86_400_000),
        };
        let expected = Manifest {
            name: Some("images".into()),
            language: None,
            build: Some("make".into()),
            artifact: Some("out/images.wasm".into()),
            limits: LimitOverrides {
                fuel: Some(50_000_000_000),
                memory_bytes: Some(256 << 20),
                timeout_ms: Some(30_000),
                random_bytes: Some(1 << 20),
                handles: Some(50),
                ..LimitOverrides::default()
            },
            retry: RetryOverrides {
                max_attempts: Some(5),
                backoff_ms: Some(2_000),
                cap_ms: Some(60_000),
            },
            placement: PlacementSettings {
                queue: "images".into(),
                required_labels: BTreeMap::from([("gpu".into(), "a100".into())]),
                ..PlacementSettings::default()
            },
            grants: Grants {
                env: Some(Environment {
                    variables: BTreeMap::from([("LANG".into(), "C".into())]),
                }),
                deterministic: None,
                http: list(&["GET https://a.example", "http://*.b.example:8080"]),
                scratch: Some(true),
                keyvalue: list(&["cache"]),
                tcp: list(&["db.example:5432"]),
                secrets: list(&["db-password", "key for https://a.example"]),
            },
            functions: vec![resize],
        };
        assert_eq!(
            Manifest::parse(Path::new(FILE), text).expect("it is valid"),
            expected
        );
    }

    #[test]
    fn languages_go_by_each_of_their_names() {
        for (name, expected) in [
            ("rust", Language::Rust),
            ("js", Language::JavaScript),
            ("typescript", Language::JavaScript),
            ("python", Language::Python),
            ("c", Language::C),
            ("go", Language::Go),
        ] {
            let text = format!("[module]\nlanguage = \"{name}\"");
            let manifest = Manifest::parse(Path::new(FILE), &text).expect("it is valid");
            assert_eq!(manifest.language, Some(expected));
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let refused = Manifest::parse(Path::new(FILE), text).expect_err("it is not valid");
        let printed = crate::exit::text(&refused.into());
        assert_eq!(printed, expected);
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_key() {
        check(
            "[limits]\nmemroy = \"1MiB\"",
            "error: tq.toml:2: `limits.memroy` is not a key\nhint: did you mean `memory`?",
        );
        check(
            "[function.f]\n\ntimeuot = \"1s\"",
            "error: tq.toml:3: `function.f.timeuot` is not a key\nhint: did you mean `timeout`?",
        );
        check(
            "[zzz]",
            "error: tq.toml:1: `zzz` is not a key\nhint: known here: module, limits, retry, placement, capabilities, function",
        );
        check(
            "[placement]\nconcurrency_key = \"/a\"",
            "error: tq.toml:2: `placement.concurrency_key`: it needs `concurrency`, the number of tasks of one key that run at once",
        );
        check(
            "[capabilities]\nhttp = [\"https://127.1\"]",
            "error: tq.toml:2: `capabilities.http`: `https://127.1` cannot be granted: its host ends with a number; write an IPv4 address as four decimal numbers, such as `10.1.2.3`",
        );
        check(
            "[capabilities]\nhttp = \"https://a.example\"",
            "error: tq.toml:2: `capabilities.http` is of type string, and has to be a list of strings",
        );
        check(
            "[limits]\ntimeout = 30",
            "error: tq.toml:2: `limits.timeout`: `30` is not a duration; write it like `30s`, `200ms` or `1.5h`",
        );
        check(
            "[limits]\nfuel = true",
            "error: tq.toml:2: `limits.fuel` is of type boolean, and has to be a string or a whole number",
        );
        check(
            "limits = 1",
            "error: tq.toml:1: `limits` is of type integer, and has to be a table",
        );
        check(
            "[module]\nname = \"a b\"",
            "error: tq.toml:2: `module.name`: module name `a b` has the character ` `; use letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
        );
        check(
            "[module]\nlanguage = \"perl\"",
            "error: tq.toml:2: `module.language`: `perl` is no language that is known here; known are `rust`, `js`, `python`, `c`, `go`; for others there are `build` and `artifact`",
        );
        check(
            "[module]\nlanguage = \"c\"\nartifact = \"a.wasm\"",
            "error: tq.toml:2: `module.language`: it is how the component is built; leave it out, or `artifact` and `build`",
        );
        check(
            "[module]\nbuild = \"make\"",
            "error: tq.toml:2: `module.build`: a build command needs `artifact`, the path of the component that it makes",
        );
    }
}
