//! Attempts of tasks, and what holds for them.

use serde::Serialize;
use tq_client::{Attempt, Limits, RetryPolicy};
use tq_core::each_limit;

use super::{known, named};

#[derive(Debug, Serialize)]
pub(super) struct TaskAttempt<'a> {
    number: u32,
    round: u32,
    host: &'a str,
    outcome: Option<&'a str>,
    usage: Option<Usage>,
    failure: Option<Failure<'a>>,
    started_ms: u64,
    ended_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Usage {
    fuel: u64,
    memory_bytes_peak: u64,
    wall_ns: u64,
    cpu_ns: u64,
    log_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Failure<'a> {
    pub(super) message: &'a str,
    pub(super) backtrace: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct AttemptLimits {
    fuel: u64,
    memory_bytes: u64,
    timeout_ms: u64,
    output_bytes: u64,
    log_bytes: u64,
    checkpoint_bytes: u64,
    handles: u64,
    host_calls: u64,
    random_bytes: u64,
    http_requests: u64,
    http_bytes: u64,
    http_time_ms: u64,
    scratch_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Retry {
    max_attempts: u32,
    backoff_ms: u64,
    cap_ms: u64,
}

impl<'a> From<&'a Attempt> for TaskAttempt<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let Attempt {
            number,
            host,
            outcome,
            usage,
            failure,
            started_ms,
            ended_ms,
            round,
        } = attempt;
        Self {
            number: *number,
            round: *round,
            host,
            outcome: named(outcome),
            usage: usage.as_ref().map(|usage| Usage {
                fuel: usage.fuel,
                memory_bytes_peak: usage.memory_bytes_peak,
                wall_ns: usage.wall_ns,
                cpu_ns: usage.cpu_ns,
                log_bytes: usage.log_bytes,
            }),
            failure: failure.as_ref().map(|failure| Failure {
                message: &failure.message,
                backtrace: &failure.backtrace,
            }),
            started_ms: *started_ms,
            ended_ms: known(*ended_ms),
        }
    }
}

impl From<&Limits> for AttemptLimits {
    fn from(limits: &Limits) -> Self {
        macro_rules! out {
            ($($field:ident)+) => { Self { $($field: limits.$field,)+ } };
        }
        each_limit!(out)
    }
}

impl From<&RetryPolicy> for Retry {
    fn from(retry: &RetryPolicy) -> Self {
        let RetryPolicy {
            max_attempts,
            backoff_ms,
            cap_ms,
        } = *retry;
        Self {
            max_attempts,
            backoff_ms,
            cap_ms,
        }
    }
}
