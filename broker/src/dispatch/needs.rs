//! What a task needs of its host, and what makes two tasks alike to the dispatcher.

use std::sync::Arc;

use tq_core::Digest;
use tq_core::label::Labels;
use tq_core::placement::Concurrency;
use tq_core::task::Spec;

use super::breakers::FunctionId;
use super::queues::KeyId;
use crate::tables::Namespace;
use crate::tables::key::{Lane, LaneId, QueueId};

/// What a host has to have for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The module that it holds compiled.
    pub digest: Digest,
    /// The memory that an attempt may use, in bytes.
    pub memory_bytes: u64,
    /// Labels that it has.
    pub required: Labels,
    /// Labels that it should have, if another one that is free does not.
    pub preferred: Labels,
}

/// Names [`Needs`]: a part of the BLAKE3 of all that is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeedsId([u8; 16]);

/// What the tasks of a lane have in common: all that decides whether one of them may run now.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The lane.
    pub lane: Lane,
    /// Its queue.
    pub queue: QueueId,
    /// What its hosts have.
    pub needs: Arc<Needs>,
    /// Their name.
    pub needs_id: NeedsId,
    /// What they call, for its circuit breaker.
    pub function: FunctionId,
    /// Of how many that run at once it is one.
    pub concurrency: Option<(KeyId, u32)>,
}

impl Conditions {
    /// The conditions of a task.
    pub fn of(namespace: Namespace, queue: QueueId, spec: &Spec) -> Self {
        let needs = Needs {
            digest: spec.digest,
            memory_bytes: spec.limits.memory_bytes,
            required: spec.placement.required.clone(),
            preferred: spec.placement.preferred.clone(),
        };
        let needs_id = needs.id();
        let concurrency = spec.placement.concurrency.as_ref();
        let mut hash = blake3::Hasher::new();
        hash.update(&needs_id.0);
        part(&mut hash, spec.function.as_bytes());
        part(&mut hash, spec.placement.queue().as_bytes());
        if let Some(Concurrency { key, limit }) = concurrency {
            part(&mut hash, key.as_bytes());
            hash.update(&limit.to_be_bytes());
        }
        Self {
            lane: Lane {
                namespace,
                id: LaneId(cut(&hash)),
            },
            queue,
            needs: Arc::new(needs),
            needs_id,
            function: FunctionId::of(namespace, &spec.digest, &spec.function),
            concurrency: concurrency.map(|it| (KeyId::of(&it.key), it.limit)),
        }
    }

    /// Whether they are those of a task, as [`Conditions::of`] would make them.
    pub fn are_of(&self, namespace: Namespace, queue: QueueId, last: &Spec, spec: &Spec) -> bool {
        let Needs {
            digest,
            memory_bytes,
            required: _,
            preferred: _,
        } = &*self.needs;
        self.lane.namespace == namespace
            && self.queue == queue
            && *digest == spec.digest
            && *memory_bytes == spec.limits.memory_bytes
            && last.function == spec.function
            && last.placement == spec.placement
    }
}

impl Needs {
    /// Their name.
    pub fn id(&self) -> NeedsId {
        let Self {
            digest,
            memory_bytes,
            required,
            preferred,
        } = self;
        let mut hash = blake3::Hasher::new();
        hash.update(&digest.0);
        hash.update(&memory_bytes.to_be_bytes());
        for labels in [required, preferred] {
            hash.update(&(labels.iter().len() as u32).to_be_bytes());
            for (label, value) in labels.iter() {
                part(&mut hash, label.as_bytes());
                part(&mut hash, value.as_bytes());
            }
        }
        NeedsId(cut(&hash))
    }
}

/// Adds bytes with their length, so that no two lists of parts hash alike.
fn part(hash: &mut blake3::Hasher, bytes: &[u8]) {
    hash.update(&(bytes.len() as u32).to_be_bytes());
    hash.update(bytes);
}

fn cut(hash: &blake3::Hasher) -> [u8; 16] {
    let mut cut = [0; 16];
    cut.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    cut
}
