//! A task as JSON, where it is no answer of `/v1`.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tq_core::Task;
use tq_proto::v1;

use super::json;
use crate::api::grpc::task_out;

/// Writes tasks as `/v1` shows them, without payload, result and progress.
#[derive(Clone, Debug)]
pub(crate) struct TaskJson(MessageDescriptor);

impl TaskJson {
    /// # Panics
    /// If the generated descriptors are not what they were generated to be.
    pub(crate) fn new() -> Self {
        let task = super::pool().get_message_by_name("tq.v1.Task");
        Self(task.expect("the protocol has tasks"))
    }

    /// A task as it is kept.
    pub(crate) fn of(&self, task: &Task) -> Value {
        self.shown(&task_out(task))
    }

    /// A task as it is shown.
    pub(crate) fn shown(&self, task: &v1::Task) -> Value {
        let message = task.encode_to_vec();
        let decoded = DynamicMessage::decode(self.0.clone(), &message[..]);
        decoded.map_or(Value::Null, |message| json::of_message(&message))
    }
}
