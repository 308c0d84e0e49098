//! JSON for programs. What is here is an interface: fields are added, never renamed or removed.

mod access;
mod attempt;
mod breaker;
mod cost;
mod dead;
mod host;
mod kv;
mod module;
mod namespace;
mod overload;
mod queue;
mod secret;
mod task;
mod test;
mod webhook;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use crate::output;

pub(crate) use access::{
    AuditInfo, AuditList, AuditVerified, IdentityInfo, KeyInfoList, KeyWithText, role,
};
pub(crate) use breaker::{BreakerInfo, BreakerList, breaker_state};
pub(crate) use cost::CostList;
pub(crate) use dead::{Card, DeadLetterList, Discarded, Redriven, SignatureList};
pub(crate) use host::{HostInfo, HostList, HostRemoved, host_health, host_state};
pub(crate) use kv::{BucketList, KeyDeleted, KeyList, KeySet, KeyValue};
pub(crate) use module::{Deployed, ModuleInfo, ModuleList, Retyped, entry};
pub(crate) use namespace::NamespaceInfo;
pub(crate) use overload::{OverloadInfo, tier};
pub(crate) use queue::{QueueInfo, QueueList, order};
pub(crate) use secret::SecretList;
pub(crate) use task::{LogChunk, Submitted, Task, TaskChange, TaskList, state};
pub(crate) use test::{TestReport, TestedCase};
pub(crate) use webhook::{DeliveryList, Ping, WebhookInfo, WebhookList, WebhookWithSecret};

/// Prints a value, indented, with a line feed behind it.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(output::data(&text)?)
}

/// Bytes: a string if they are UTF-8, else `{"base64": …}`.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Encoded {
            base64: String,
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Encoded {
                base64: STANDARD.encode(self.0),
            }
            .serialize(serializer),
        }
    }
}

fn labels(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let pairs = labels.iter();
    pairs
        .map(|(label, value)| (label.as_str(), value.as_str()))
        .collect()
}

/// On the wire, nothing is the empty string.
fn named(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// On the wire, no time is 0.
fn known(ms: u64) -> Option<u64> {
    (ms != 0).then_some(ms)
}
