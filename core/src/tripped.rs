//! The limit at which a task died.

use crate::Outcome;
use crate::limits::{LOSSES_MAX, STACK_BYTES_MAX, STRIKES_MAX};
use crate::task::{Attempt, Spec, Task};

/// A limit that ended an attempt, with what was used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Which one.
    pub limit: Limit,
    /// What was used; none where that is not measured.
    pub used: Option<u64>,
    /// What may be used.
    pub cap: u64,
}

/// Something that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Fuel.
    Fuel,
    /// The sum of all memories and tables, in bytes.
    Memory,
    /// Wall time, in milliseconds.
    Timeout,
    /// The stack, in bytes.
    Stack,
    /// The result, in bytes.
    Output,
    /// A checkpoint, in bytes.
    Checkpoint,
    /// Handles held at once.
    Handles,
    /// Calls of the host's functions.
    HostCalls,
    /// Random bytes.
    Random,
    /// HTTP requests.
    HttpRequests,
    /// Bytes of HTTP requests and responses.
    HttpBytes,
    /// Wall time of one HTTP request, in milliseconds.
    HttpTime,
    /// What the scratch directory takes, in bytes.
    Scratch,
    /// Hosts that were lost with the task.
    Losses,
    /// Crashes of the process that ran the task alone.
    Strikes,
    /// Attempts that failed.
    Attempts,
}

impl Limit {
    /// Its name on the wire and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Timeout => "timeout",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::Checkpoint => "checkpoint",
            Self::Handles => "handles",
            Self::HostCalls => "host_calls",
            Self::Random => "random",
            Self::HttpRequests => "http_requests",
            Self::HttpBytes => "http_bytes",
            Self::HttpTime => "http_time",
            Self::Scratch => "scratch",
            Self::Losses => "losses",
            Self::Strikes => "strikes",
            Self::Attempts => "attempts",
        }
    }

    /// The unit of its numbers; empty if they count something.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Memory
            | Self::Stack
            | Self::Output
            | Self::Checkpoint
            | Self::Random
            | Self::HttpBytes
            | Self::Scratch => "bytes",
            Self::Timeout | Self::HttpTime => "ms",
            Self::HttpRequests
            | Self::Fuel
            | Self::Handles
            | Self::HostCalls
            | Self::Losses
            | Self::Strikes
            | Self::Attempts => "",
        }
    }
}

impl Tripped {
    /// The limits at which a task ended, the narrowest first: that of its last attempt, then that of the task. Empty if it
    /// ended at none.
    #[must_use]
    pub fn all(task: &Task) -> Vec<Self> {
        let attempt = task.attempts.last();
        let of_attempt = attempt.and_then(|attempt| Self::of_attempt(&task.spec, attempt));
        of_attempt.into_iter().chain(Self::of_task(task)).collect()
    }

    fn of_attempt(spec: &Spec, attempt: &Attempt) -> Option<Self> {
        let limits = &spec.limits;
        let usage = &attempt.usage;
        let (limit, used, cap) = match attempt.outcome {
            Outcome::FuelExhausted => (Limit::Fuel, Some(usage.fuel), limits.fuel),
            Outcome::MemoryLimit => (
                Limit::Memory,
                Some(usage.memory_bytes_peak),
                limits.memory_bytes,
            ),
            Outcome::Timeout => (
                Limit::Timeout,
                Some(usage.wall_ns / 1_000_000),
                limits.timeout_ms,
            ),
            Outcome::StackOverflow => (Limit::Stack, None, STACK_BYTES_MAX as u64),
            Outcome::OutputLimit => (Limit::Output, None, limits.output_bytes),
            Outcome::CheckpointLimit => (Limit::Checkpoint, None, limits.checkpoint_bytes),
            Outcome::HandleLimit => (Limit::Handles, None, limits.handles),
            Outcome::HostCallLimit => (Limit::HostCalls, None, limits.host_calls),
            Outcome::RandomLimit => (Limit::Random, None, limits.random_bytes),
            Outcome::HttpRequestLimit => (Limit::HttpRequests, None, limits.http_requests),
            Outcome::HttpByteLimit => (Limit::HttpBytes, None, limits.http_bytes),
            Outcome::HttpTimeLimit => (Limit::HttpTime, None, limits.http_time_ms),
            Outcome::ScratchLimit => (Limit::Scratch, None, limits.scratch_bytes),
            Outcome::Succeeded
            | Outcome::Trap
            | Outcome::Exit
            | Outcome::NoResult
            // What was too much is in the message.
            | Outcome::HostLimit
            | Outcome::InvalidInput
            | Outcome::RetryableError
            | Outcome::FatalError
            | Outcome::MissingExport
            | Outcome::CompileFailed
            | Outcome::Cancelled
            | Outcome::DeadlineExceeded
            | Outcome::HostLost
            | Outcome::HostError
            | Outcome::HostDrained
            | Outcome::RunnerCrashed => return None,
        };
        Some(Self { limit, used, cap })
    }

    fn of_task(task: &Task) -> Option<Self> {
        if task.losses >= LOSSES_MAX {
            return Some(Self {
                limit: Limit::Losses,
                used: Some(task.losses.into()),
                cap: LOSSES_MAX.into(),
            });
        }
        if let Some(strikes) = task.strikes
            && strikes >= STRIKES_MAX
        {
            return Some(Self {
                limit: Limit::Strikes,
                used: Some(strikes.into()),
                cap: STRIKES_MAX.into(),
            });
        }
        let max_attempts = task.spec.retry.max_attempts;
        (max_attempts > 1 && task.failures >= max_attempts).then(|| Self {
            limit: Limit::Attempts,
            used: Some(task.failures.into()),
            cap: max_attempts.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcome::Usage;
    use crate::task::{DataRef, Lease, Report};
    use crate::transition::{claim, lose, report, submit};
    use crate::{Digest, Epoch, Priority, RetryPolicy, TaskId, Timestamp};
    use crate::{Limits, Placement};

    const NOW: Timestamp = Timestamp(1_000);
    const USAGE: Usage = Usage {
        fuel: 9,
        memory_bytes_peak: 80,
        wall_ns: 31_000_000,
        cpu_ns: 1,
        log_bytes: 0,
    };

    /// A task that runs for the first time.
    fn running(max_attempts: u32) -> Task {
        let spec = Spec {
            namespace: "default".into(),
            module: "m".into(),
            version: 1,
            digest: Digest([7; 32]),
            function: "f".into(),
            payload: DataRef::Row { len: 3 },
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits {
                fuel: 10,
                memory_bytes: 100,
                timeout_ms: 30,
                ..Limits::DEFAULT
            },
            retry: RetryPolicy {
                max_attempts,
                ..RetryPolicy::DEFAULT
            },
            priority: Priority::DEFAULT,
            placement: Placement::default(),
            result_ttl: None,
            run_at: None,
            deadline: None,
            idempotency_key: String::new(),
            unique_key: String::new(),
            traceparent: String::new(),
            submitted_at: Timestamp(1),
            labels: crate::label::Labels::new(),
            redriven_from: None,
        };
        let submitted = submit(TaskId([1; 16]), Arc::new(spec), 0, NOW);
        claimed(&submitted.expect("it has no deadline").next, 1)
    }

    fn claimed(task: &Task, epoch: u64) -> Task {
        let lease = Lease {
            epoch: Epoch(epoch),
            host: "a".into(),
            started_at: NOW,
        };
        claim(task, lease).expect("it is ready").next
    }

    #[track_caller]
    fn check(max_attempts: u32, outcome: Outcome, expected: &[(Limit, Option<u64>, u64)]) {
        let report_of = Report {
            epoch: Epoch(1),
            outcome,
            result: None,
            failure: None,
            retry_after: None,
            usage: USAGE,
        };
        let dead = report(&running(max_attempts), &report_of, NOW).expect("it runs");
        let tripped: Vec<_> = Tripped::all(&dead.next)
            .into_iter()
            .map(|Tripped { limit, used, cap }| (limit, used, cap))
            .collect();
        assert_eq!(tripped, expected);
    }

    #[test]
    fn limit_is_named_with_what_was_used_of_it() {
        check(3, Outcome::FuelExhausted, &[(Limit::Fuel, Some(9), 10)]);
        check(3, Outcome::MemoryLimit, &[(Limit::Memory, Some(80), 100)]);
        check(1, Outcome::Timeout, &[(Limit::Timeout, Some(31), 30)]);
        check(3, Outcome::OutputLimit, &[(Limit::Output, None, 8 << 20)]);
        check(
            3,
            Outcome::StackOverflow,
            &[(Limit::Stack, None, 512 << 10)],
        );
        check(3, Outcome::RandomLimit, &[(Limit::Random, None, 16 << 20)]);
        check(
            3,
            Outcome::HttpRequestLimit,
            &[(Limit::HttpRequests, None, 100)],
        );
        check(
            1,
            Outcome::HttpTimeLimit,
            &[(Limit::HttpTime, None, 30_000)],
        );
        check(
            3,
            Outcome::ScratchLimit,
            &[(Limit::Scratch, None, 16 << 20)],
        );
        check(3, Outcome::FatalError, &[]);
        // One attempt that fails is no limit that somebody ran into.
        check(1, Outcome::Trap, &[]);
    }

    #[test]
    fn lost_hosts_and_used_up_attempts_are_limits_too() {
        let mut task = running(3);
        for epoch in 1..=u64::from(LOSSES_MAX) {
            task = lose(&task, Epoch(epoch), NOW).expect("it runs").next;
            if !task.state.is_terminal() {
                task = claimed(&task, epoch + 1);
            }
        }
        assert_eq!(task.state.name(), "dead");
        let losses = Tripped {
            limit: Limit::Losses,
            used: Some(u64::from(LOSSES_MAX)),
            cap: u64::from(LOSSES_MAX),
        };
        assert_eq!(Tripped::all(&task), [losses]);
        task.losses = 0;
        task.failures = 3;
        assert_eq!(Tripped::all(&task)[0].limit, Limit::Attempts);
    }
}
