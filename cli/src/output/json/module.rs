//! Modules.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tq_client::{Entry, Function, GrantList, Grants, Module, TypedFunction, UncallableFunction};

use super::attempt::{AttemptLimits, Retry};
use super::{labels, named};

/// A module.
#[derive(Debug, Serialize)]
pub(crate) struct ModuleInfo<'a> {
    namespace: &'a str,
    name: &'a str,
    version: u32,
    current: bool,
    versions: &'a [u32],
    digest: &'a str,
    size_bytes: u64,
    entry: &'static str,
    functions: Vec<FunctionInfo<'a>>,
    uploaded_ms: u64,
    ready_on: &'a [String],
    compile_error: Option<&'a str>,
    uncallable: Vec<Uncallable<'a>>,
}

/// A function that it exports and no task can call.
#[derive(Debug, Serialize)]
struct Uncallable<'a> {
    name: &'a str,
    why: &'a str,
}

#[derive(Debug, Serialize)]
struct FunctionInfo<'a> {
    name: &'a str,
    doc: &'a str,
    input: Option<&'a str>,
    output: Option<&'a str>,
    limits: Option<AttemptLimits>,
    retry: Option<Retry>,
    placement: Option<FunctionPlacement<'a>>,
    capabilities: Capabilities<'a>,
    result_ttl_ms: Option<u64>,
    typed: Option<Typed<'a>>,
    /// Here and below: not where modules are listed.
    example: Option<Value>,
    input_schema: Option<Value>,
    output_schema: Option<Value>,
    error_schema: Option<Value>,
}

/// What a typed function takes and gives, as WIT has it.
#[derive(Debug, Serialize)]
struct Typed<'a> {
    signature: &'a str,
    full_name: &'a str,
    /// Not where modules are listed.
    definitions: &'a [String],
}

/// The names of environment variables, not their values, which may be private.
#[derive(Debug, Default, Serialize)]
struct Capabilities<'a> {
    env: Vec<&'a str>,
    deterministic: bool,
    http: Vec<&'a str>,
    scratch: bool,
    keyvalue: Vec<&'a str>,
    tcp: Vec<&'a str>,
    secrets: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct FunctionPlacement<'a> {
    queue: Option<&'a str>,
    required_labels: BTreeMap<&'a str, &'a str>,
    preferred_labels: BTreeMap<&'a str, &'a str>,
    concurrency: Option<u32>,
    concurrency_key: Option<&'a str>,
}

impl<'a> From<&'a Module> for ModuleInfo<'a> {
    fn from(module: &'a Module) -> Self {
        let Module {
            namespace,
            name,
            version,
            digest,
            size_bytes,
            entry: _,
            functions,
            uploaded_ms,
            current,
            versions,
            ready_on,
            compile_error,
            uncallable,
        } = module;
        Self {
            namespace,
            name,
            version: *version,
            current: *current,
            versions,
            digest,
            size_bytes: *size_bytes,
            entry: entry(module.entry()),
            functions: functions.iter().map(FunctionInfo::from).collect(),
            uploaded_ms: *uploaded_ms,
            ready_on,
            compile_error: named(compile_error),
            uncallable: uncallable
                .iter()
                .map(|UncallableFunction { name, why }| Uncallable { name, why })
                .collect(),
        }
    }
}

impl<'a> From<&'a Function> for FunctionInfo<'a> {
    fn from(function: &'a Function) -> Self {
        let Function {
            name,
            doc,
            input,
            output,
            limits,
            retry,
            placement,
            grants,
            result_ttl_ms,
            typed,
            example,
            input_schema,
            output_schema,
            error_schema,
        } = function;
        // The broker writes JSON, or nothing.
        let json = |text: &str| serde_json::from_str(text).ok();
        Self {
            name,
            doc,
            input: named(input),
            output: named(output),
            limits: limits.as_ref().map(AttemptLimits::from),
            retry: retry.as_ref().map(Retry::from),
            placement: placement.as_ref().map(|placement| FunctionPlacement {
                queue: named(&placement.queue),
                required_labels: labels(&placement.required_labels),
                preferred_labels: labels(&placement.preferred_labels),
                concurrency: placement.concurrency.as_ref().map(|rule| rule.limit),
                concurrency_key: placement
                    .concurrency
                    .as_ref()
                    .and_then(|rule| named(&rule.payload_pointer)),
            }),
            capabilities: grants.as_ref().map(Capabilities::from).unwrap_or_default(),
            result_ttl_ms: *result_ttl_ms,
            typed: typed.as_ref().map(Typed::from),
            example: json(example),
            input_schema: json(input_schema),
            output_schema: json(output_schema),
            error_schema: json(error_schema),
        }
    }
}

impl<'a> From<&'a TypedFunction> for Typed<'a> {
    fn from(typed: &'a TypedFunction) -> Self {
        let TypedFunction {
            signature,
            full_name,
            definitions,
        } = typed;
        Self {
            signature,
            full_name,
            definitions,
        }
    }
}

impl<'a> From<&'a Grants> for Capabilities<'a> {
    fn from(grants: &'a Grants) -> Self {
        let Grants {
            env,
            deterministic,
            http,
            scratch,
            keyvalue,
            tcp,
            secrets,
        } = grants;
        let env = env.iter().flat_map(|env| env.variables.keys());
        let list = |list: &'a Option<GrantList>| {
            let grants = list.iter().flat_map(|list| &list.grants);
            grants.map(String::as_str).collect()
        };
        Self {
            env: env.map(String::as_str).collect(),
            deterministic: deterministic.unwrap_or_default(),
            http: list(http),
            scratch: scratch.unwrap_or_default(),
            keyvalue: list(keyvalue),
            tcp: list(tcp),
            secrets: list(secrets),
        }
    }
}

/// All modules.
#[derive(Debug, Serialize)]
pub(crate) struct ModuleList<'a> {
    modules: Vec<ModuleInfo<'a>>,
}

impl<'a> ModuleList<'a> {
    /// In the order given.
    pub(crate) fn new(modules: &'a [Module]) -> Self {
        Self {
            modules: modules.iter().map(ModuleInfo::from).collect(),
        }
    }
}

/// What a deploy did.
#[derive(Debug, Serialize)]
pub(crate) struct Deployed<'a> {
    /// The module as it is now.
    pub(crate) module: ModuleInfo<'a>,
    /// It was this already.
    pub(crate) unchanged: bool,
    /// What it may ask for and was not granted.
    pub(crate) not_granted: &'a [String],
    /// What functions got that they did not have in the version before.
    pub(crate) newly_granted: &'a [String],
    /// It was a program for WASI preview 1, of which the broker made the component that is kept.
    pub(crate) adapted: bool,
    /// Functions that tasks wait for, and that take or give something else than in the version before.
    pub(crate) retyped: &'a [Retyped],
}

/// A function that takes or gives something else than in the version before.
#[derive(Debug, Serialize)]
pub(crate) struct Retyped {
    pub(crate) function: String,
    /// What it took and gave.
    pub(crate) before: String,
    /// What it takes and gives; `null` if it is gone.
    pub(crate) after: Option<String>,
    /// Tasks that wait for it, in any version.
    pub(crate) waiting: u64,
    /// There are more of them, which were not counted.
    pub(crate) are_more: bool,
}

/// How a module is entered.
pub(crate) fn entry(entry: Entry) -> &'static str {
    match entry {
        Entry::Unspecified => "unknown",
        Entry::Handler => "handler",
        Entry::Program => "program",
        Entry::Typed => "typed",
    }
}
