//! What passes between a broker and a host, as the domain sees it. The wire format is `api/grpc`'s matter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tq_core::label::Labels;
use tq_core::outcome::{Outcome, Usage};
use tq_core::task::{Failure, Spec, Stop};
use tq_core::{Digest, Epoch, Grants, TaskId};

use crate::store::StoreId;

/// Bytes that travel inside a message, or a reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// The bytes.
    Inline(Bytes),
    /// A file of the broker's.
    Blob {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Their number.
        len: u64,
    },
}

/// Proof that this broker's store gave an attempt to a host: a MAC over task, epoch and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);

/// An attempt as a host names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRef {
    /// The namespace's name.
    pub namespace: String,
    /// The task.
    pub id: TaskId,
    /// The attempt.
    pub epoch: Epoch,
    /// The proof that it is the host's.
    pub token: Token,
}

/// The first words of a host.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its name.
    pub name: String,
    /// Its process.
    pub incarnation: [u8; 16],
    /// How many attempts it runs at once.
    pub slots: u32,
    /// Modules that it holds compiled.
    pub ready: Vec<Digest>,
    /// Attempts that it holds.
    pub held: Vec<AttemptRef>,
    /// Outcomes that were not acknowledged.
    pub outcomes: Vec<AttemptOutcome>,
    /// What the memory limits of its attempts may add up to; none if only its slots limit it.
    pub memory_bytes: Option<u64>,
    /// The store and sequence that it saw last.
    pub seen: Option<(StoreId, u64)>,
    /// Its version of tq.
    pub version: String,
    /// What it says of itself.
    pub labels: Labels,
}

/// How an attempt ended, as its host reports it.
#[derive(Clone, Debug)]
pub struct AttemptOutcome {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// How it ended.
    pub outcome: Outcome,
    /// What it returned.
    pub result: Option<Data>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When the guest wants its next attempt.
    pub retry_after: Option<Duration>,
    /// What it used.
    pub usage: Usage,
}

/// What a host says after its hello.
#[derive(Clone, Debug)]
pub enum FromHost {
    /// It takes so many assignments in all.
    Credits(u64),
    /// Attempts ended.
    Outcomes(Vec<AttemptOutcome>),
    /// How far attempts are: the task, its epoch, a fraction from 0 to 1, a note.
    Progress(Vec<(TaskId, Epoch, f64, String)>),
    /// Modules that it holds from now on, and no longer.
    Ready {
        /// Held.
        held: Vec<Digest>,
        /// No longer held.
        dropped: Vec<Digest>,
    },
    /// It could not prepare a module.
    PrepareFailed {
        /// Which.
        digest: Digest,
        /// Why.
        message: String,
        /// Another try would end alike.
        permanent: bool,
    },
    /// An attempt saved a state.
    Checkpoint {
        /// Which attempt.
        attempt: AttemptRef,
        /// Its state.
        state: Data,
    },
    /// It is there.
    Heartbeat,
    /// It takes nothing new and will end the session when it has nothing left.
    Draining,
}

/// What a broker says to a host.
#[derive(Clone, Debug)]
pub enum ToHost {
    /// The answer to a hello.
    Welcome {
        /// Which store this broker serves.
        store: StoreId,
        /// The broker's generation.
        generation: u32,
        /// Attempts that are not the host's any more.
        fenced: Vec<Epoch>,
        /// What is durable.
        seq: u64,
    },
    /// Attempts to run.
    Assignments {
        /// The attempts.
        assignments: Vec<Assignment>,
        /// What is durable.
        seq: u64,
    },
    /// Outcomes that need not be kept any longer, and whether each was fenced.
    Acks {
        /// The attempts.
        acks: Vec<(Epoch, bool)>,
        /// What is durable.
        seq: u64,
    },
    /// A module to fetch and compile.
    Prepare {
        /// Which.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
    },
    /// An attempt to stop.
    Stop {
        /// Which.
        epoch: Epoch,
        /// Why; none if it is fenced.
        stop: Option<Stop>,
    },
    /// The answer to a heartbeat.
    Heartbeat,
    /// It is to give back what it has not begun.
    HandBack,
    /// It is no host of this broker any more, and ends.
    Removed,
}

/// An attempt to run.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The task.
    pub id: TaskId,
    /// The attempt.
    pub epoch: Epoch,
    /// The proof that it is the host's.
    pub token: Token,
    /// What was asked for.
    pub spec: Arc<Spec>,
    /// From 1.
    pub number: u32,
    /// The payload.
    pub payload: Data,
    /// The newest state that an attempt of the task saved.
    pub checkpoint: Option<Data>,
    /// It is suspected of crashing runners, and is to run in one of its own.
    pub alone: bool,
    /// What it may do beside computing; none is nothing.
    pub grants: Option<Arc<Grants>>,
}

impl Assignment {
    /// The attempt as its host names it.
    pub fn attempt(&self) -> AttemptRef {
        AttemptRef {
            namespace: self.spec.namespace.clone(),
            id: self.id,
            epoch: self.epoch,
            token: self.token,
        }
    }
}
