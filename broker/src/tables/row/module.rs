//! Rows of modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use tq_core::{Grants, Timestamp};

use super::task::{PlacementRow, labels};
use super::typed::{TypedRow, typed, typed_row};
use super::{
    Error, LimitsRow, RetryOverridesRow, digest, limits, limits_row, millis, overrides,
    overrides_row,
};
use crate::modules::placement::{ConcurrencyRule, FunctionPlacement};
use crate::modules::registry::{Function, Module};
use crate::modules::{Entry, Schemas, Uncallable};
use crate::tables::Namespace;

#[derive(Clone, PartialEq, Eq, Message)]
struct FunctionRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    doc: String,
    #[prost(string, tag = "3")]
    input: String,
    #[prost(string, tag = "4")]
    output: String,
    #[prost(message, optional, tag = "5")]
    limits: Option<LimitsRow>,
    // 6 was a whole retry policy, which did not say what of it was named.
    /// Its concurrency key is a pointer into the payload.
    #[prost(message, optional, tag = "20")]
    placement: Option<PlacementRow>,
    #[prost(message, optional, tag = "30")]
    grants: Option<GrantsRow>,
    #[prost(message, optional, tag = "40")]
    retry: Option<RetryOverridesRow>,
    #[prost(uint64, optional, tag = "60")]
    result_ttl_ms: Option<u64>,
    #[prost(message, optional, tag = "70")]
    typed: Option<TypedRow>,
    #[prost(string, optional, tag = "71")]
    input_schema: Option<String>,
    #[prost(string, optional, tag = "72")]
    output_schema: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct UncallableRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    why: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct GrantsRow {
    #[prost(btree_map = "string, string", tag = "1")]
    env: BTreeMap<String, String>,
    #[prost(bool, tag = "2")]
    is_deterministic: bool,
    #[prost(string, repeated, tag = "3")]
    http: Vec<String>,
    #[prost(bool, tag = "4")]
    has_scratch: bool,
    #[prost(string, repeated, tag = "5")]
    keyvalue: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    tcp: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    secrets: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ModuleRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "4")]
    size_bytes: u64,
    #[prost(uint32, tag = "5")]
    entry: u32,
    #[prost(message, repeated, tag = "6")]
    functions: Vec<FunctionRow>,
    #[prost(uint64, tag = "7")]
    uploaded_ms: u64,
    #[prost(uint32, tag = "8")]
    namespace: u32,
    #[prost(string, repeated, tag = "9")]
    not_granted: Vec<String>,
    #[prost(uint64, tag = "10")]
    retired_ms: u64,
    #[prost(message, repeated, tag = "11")]
    uncallable: Vec<UncallableRow>,
}

/// Encodes which version of a module is current, and the highest that there ever was.
pub fn encode_current(version: u32, last: u32) -> Vec<u8> {
    [version.to_be_bytes(), last.to_be_bytes()].concat()
}

/// Decodes both. None if the bytes are no such row.
pub fn decode_current(bytes: &[u8]) -> Option<(u32, u32)> {
    let (version, last) = bytes.split_first_chunk()?;
    let last = last.try_into().ok()?;
    Some((u32::from_be_bytes(*version), u32::from_be_bytes(last)))
}

/// Encodes one version of a module.
pub fn encode_module(namespace: Namespace, module: &Module) -> Vec<u8> {
    let Module {
        name,
        version,
        digest,
        size_bytes,
        entry,
        functions,
        uploaded_at,
        retired_at,
        not_granted,
        uncallable,
    } = module;
    let functions = functions.iter().map(|function| {
        let Function {
            name,
            doc,
            input,
            output,
            limits,
            retry,
            placement,
            grants,
            result_ttl,
            schemas,
            typed,
        } = function;
        FunctionRow {
            name: name.clone(),
            doc: doc.clone(),
            input: input.clone(),
            output: output.clone(),
            limits: Some(limits_row(limits)),
            retry: Some(overrides_row(retry)),
            placement: Some(function_placement_row(placement)),
            grants: (!grants.is_empty()).then(|| grants_row(grants)),
            result_ttl_ms: result_ttl.map(millis),
            typed: typed.as_deref().map(typed_row),
            input_schema: schemas.input.clone(),
            output_schema: schemas.output.clone(),
        }
    });
    let uncallable = uncallable
        .iter()
        .map(|Uncallable { name, why }| UncallableRow {
            name: name.clone(),
            why: why.clone(),
        });
    ModuleRow {
        name: name.clone(),
        version: *version,
        digest: digest.0.to_vec(),
        size_bytes: *size_bytes,
        entry: match entry {
            Entry::Handler => 1,
            Entry::Program => 2,
            Entry::Typed => 3,
        },
        functions: functions.collect(),
        uploaded_ms: uploaded_at.0,
        namespace: namespace.0,
        not_granted: not_granted.clone(),
        retired_ms: retired_at.0,
        uncallable: uncallable.collect(),
    }
    .encode_to_vec()
}

/// Decodes one version of a module.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_module(bytes: &[u8]) -> Result<(Namespace, Module), Error> {
    const KIND: &str = "module";
    let row = ModuleRow::decode(bytes).map_err(|source| Error::Decode { kind: KIND, source })?;
    let functions = row.functions.into_iter().map(|row| {
        Ok(Function {
            name: row.name,
            doc: row.doc,
            input: row.input,
            output: row.output,
            limits: limits(&row.limits.unwrap_or_default()),
            retry: overrides(&row.retry.unwrap_or_default()),
            placement: function_placement(row.placement.unwrap_or_default())?,
            grants: Arc::new(grants(row.grants.unwrap_or_default())?),
            result_ttl: row.result_ttl_ms.map(Duration::from_millis),
            schemas: Arc::new(Schemas {
                input: row.input_schema,
                output: row.output_schema,
            }),
            typed: row.typed.map(typed).transpose()?.map(Arc::new),
        })
    });
    let uncallable = row.uncallable.into_iter();
    let uncallable = uncallable.map(|UncallableRow { name, why }| Uncallable { name, why });
    let module = Module {
        name: row.name,
        version: row.version,
        digest: digest(&row.digest).ok_or(Error::Field {
            kind: KIND,
            field: "digest",
        })?,
        size_bytes: row.size_bytes,
        entry: match row.entry {
            1 => Entry::Handler,
            2 => Entry::Program,
            3 => Entry::Typed,
            _ => {
                return Err(Error::Field {
                    kind: KIND,
                    field: "entry",
                });
            }
        },
        functions: functions.collect::<Result<_, _>>()?,
        uploaded_at: Timestamp(row.uploaded_ms),
        retired_at: Timestamp(row.retired_ms),
        not_granted: row.not_granted,
        uncallable: uncallable.collect(),
    };
    Ok((Namespace(row.namespace), module))
}

fn grants_row(grants: &Grants) -> GrantsRow {
    let Grants {
        env,
        is_deterministic,
        http,
        has_scratch,
        keyvalue,
        tcp,
        secrets,
    } = grants;
    GrantsRow {
        env: env.clone(),
        is_deterministic: *is_deterministic,
        http: grant_texts(http),
        has_scratch: *has_scratch,
        keyvalue: grant_texts(keyvalue),
        tcp: grant_texts(tcp),
        secrets: grant_texts(secrets),
    }
}

fn grant_texts<T: Display>(grants: &BTreeSet<T>) -> Vec<String> {
    grants.iter().map(T::to_string).collect()
}

fn grants(row: GrantsRow) -> Result<Grants, Error> {
    let GrantsRow {
        env,
        is_deterministic,
        http,
        has_scratch,
        keyvalue,
        tcp,
        secrets,
    } = row;
    Ok(Grants {
        env,
        is_deterministic,
        http: grant_list("http", &http)?,
        has_scratch,
        keyvalue: grant_list("keyvalue", &keyvalue)?,
        tcp: grant_list("tcp", &tcp)?,
        secrets: grant_list("secrets", &secrets)?,
    })
}

fn grant_list<T: FromStr + Ord>(
    field: &'static str,
    texts: &[String],
) -> Result<BTreeSet<T>, Error> {
    let grants = texts.iter().map(|text| text.parse());
    grants.collect::<Result<_, _>>().map_err(|_| Error::Field {
        kind: "module",
        field,
    })
}

fn function_placement_row(placement: &FunctionPlacement) -> PlacementRow {
    let FunctionPlacement {
        queue,
        required,
        preferred,
        concurrency,
    } = placement;
    let concurrency = concurrency.as_ref();
    let concurrency = concurrency.map(|rule| (&*rule.payload_pointer, rule.limit));
    PlacementRow::of(queue, required, preferred, concurrency)
}

fn function_placement(row: PlacementRow) -> Result<FunctionPlacement, Error> {
    Ok(FunctionPlacement {
        queue: row.queue,
        required: labels(row.required)?,
        preferred: labels(row.preferred)?,
        concurrency: (row.concurrency_limit > 0).then_some(ConcurrencyRule {
            payload_pointer: row.concurrency_key,
            limit: row.concurrency_limit,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of a build that knew no typed functions.
    #[test]
    fn earlier_row_is_read() {
        let row = ModuleRow {
            name: "m".to_owned(),
            version: 1,
            digest: vec![7; 32],
            entry: 1,
            functions: vec![FunctionRow {
                name: "f".to_owned(),
                ..FunctionRow::default()
            }],
            ..ModuleRow::default()
        };
        let (_, module) = decode_module(&row.encode_to_vec()).expect("it is a row");
        assert_eq!(module.entry, Entry::Handler);
        assert_eq!(module.functions[0].typed, None);
        assert!(module.uncallable.is_empty());
        // Nothing is written for them either.
        let again = encode_module(Namespace(0), &module);
        let again = ModuleRow::decode(&*again).expect("it is a row");
        assert_eq!(
            (again.uncallable, &again.functions[0].typed),
            (Vec::new(), &None)
        );
    }
}
