//! A task as JSON, for those who tell of it without being asked.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tq_core::Task;

use super::json;
use crate::api::grpc::task_out;

/// Writes tasks as `/v1` shows them, without payload, result and progress.
#[derive(Clone, Debug)]
pub(crate) struct TaskJson(MessageDescriptor);

impl TaskJson {
    /// # Panics
    /// If the generated descriptors are not what they were generated to be.
    pub(crate) fn new() -> Self {
        let pool = DescriptorPool::decode(tq_proto::DESCRIPTORS);
        let pool = pool.expect("generated descriptors decode");
        let task = pool.get_message_by_name("tq.v1.Task");
        Self(task.expect("the protocol has tasks"))
    }

    pub(crate) fn of(&self, task: &Task) -> Value {
        let message = task_out(task).encode_to_vec();
        let decoded = DynamicMessage::decode(self.0.clone(), &message[..]);
        decoded.map_or(Value::Null, |message| json::of_message(&message))
    }
}
