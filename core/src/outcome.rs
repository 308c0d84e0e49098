//! How an attempt ended.

use std::fmt;
use std::str::FromStr;

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $class:ident;)+) => {
        /// How an attempt ended. The names are part of the interface: scripts and alerts match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Outcome {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Outcome {
            /// Every outcome there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name on the wire, on disk and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it means for the task.
            #[must_use]
            pub fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)+ }
            }
        }
    };
}

outcomes! {
    /// The function returned a result, or the program exited with 0.
    Succeeded = "succeeded", Success;
    /// The attempt used all of its fuel.
    FuelExhausted = "fuel_exhausted", Permanent;
    /// The attempt ran longer than its time limit.
    Timeout = "timeout", Retryable;
    /// The attempt failed after its sum of memories reached the limit.
    MemoryLimit = "memory_limit", Permanent;
    /// The guest's stack overflowed.
    StackOverflow = "stack_overflow", Permanent;
    /// The guest did what WebAssembly forbids, or panicked.
    Trap = "trap", Retryable;
    /// The program exited with a code other than 0.
    Exit = "exit", Retryable;
    /// The result is larger than the limit.
    OutputLimit = "output_limit", Permanent;
    /// A handler or a typed function exited instead of returning a result.
    NoResult = "no_result", Permanent;
    /// One call of the guest passed more to the host, or asked for more, than one call may.
    HostLimit = "host_limit", Permanent;
    /// The attempt held more handles at once than it may.
    HandleLimit = "handle_limit", Permanent;
    /// The attempt called the host more often than it may.
    HostCallLimit = "host_call_limit", Permanent;
    /// The attempt asked for more random bytes than it may.
    RandomLimit = "random_limit", Permanent;
    /// The attempt failed after it was refused a request because it had sent as many as it may.
    HttpRequestLimit = "http_request_limit", Permanent;
    /// The attempt failed after its requests and their responses had more bytes than they may.
    HttpByteLimit = "http_byte_limit", Permanent;
    /// The attempt failed after a request took longer than it may.
    HttpTimeLimit = "http_time_limit", Retryable;
    /// The attempt failed after its scratch directory was full.
    ScratchLimit = "scratch_limit", Permanent;
    /// The attempt failed after it was refused a checkpoint that is larger than the limit.
    CheckpointLimit = "checkpoint_limit", Permanent;
    /// The function said that its payload is wrong, or the payload does not fit its types.
    InvalidInput = "invalid_input", Permanent;
    /// The function asked to be tried again.
    RetryableError = "retryable_error", Retryable;
    /// The function said that no retry can help, or a typed function returned an error.
    FatalError = "fatal_error", Permanent;
    /// The component does not export what the task calls.
    MissingExport = "missing_export", Permanent;
    /// The component cannot be compiled or linked.
    CompileFailed = "compile_failed", Permanent;
    /// The task was cancelled.
    Cancelled = "cancelled", Stopped;
    /// The task's deadline passed.
    DeadlineExceeded = "deadline_exceeded", Stopped;
    /// The host went away with the attempt on it. Counted apart from the task's own failures.
    HostLost = "host_lost", HostLost;
    /// The host could not run the attempt, through no fault of the task.
    HostError = "host_error", HostLost;
    /// The host was emptied before the attempt began or ended. Counts against nobody.
    HostDrained = "host_drained", HostLost;
    /// The process that ran the attempt came to its end: by this attempt or by one that ran beside it.
    RunnerCrashed = "runner_crashed", Crash;
}

/// What an outcome means for the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The task has succeeded.
    Success,
    /// A further attempt may go better.
    Retryable,
    /// A further attempt would end alike: what the sandbox proves to be deterministic, and what the guest says is so.
    Permanent,
    /// The attempt was told to stop.
    Stopped,
    /// Not the task's doing; it goes back to its queue without using up an attempt.
    HostLost,
    /// Perhaps the task's doing; it goes back to its queue, to run alone from then on.
    Crash,
}

/// What an outcome says of the function that was called, to its circuit breaker ([`crate::breaker`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    For,
    /// It fails, or what it depends on does.
    Against,
    /// It fails, if the attempt ran alone. Otherwise whatever ran beside it may be the cause.
    AgainstIfAlone,
    /// Nothing.
    Neither,
}

impl Outcome {
    /// What it says of the function that was called.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Succeeded => Verdict::For,
            Self::FuelExhausted
            | Self::Timeout
            | Self::MemoryLimit
            | Self::StackOverflow
            | Self::Trap
            | Self::Exit
            | Self::OutputLimit
            | Self::NoResult
            | Self::HostLimit
            | Self::HandleLimit
            | Self::HostCallLimit
            | Self::RandomLimit
            | Self::HttpRequestLimit
            | Self::HttpByteLimit
            | Self::HttpTimeLimit
            | Self::ScratchLimit
            | Self::CheckpointLimit
            | Self::RetryableError
            | Self::FatalError
            | Self::MissingExport => Verdict::Against,
            Self::RunnerCrashed => Verdict::AgainstIfAlone,
            // Its caller's fault: the function did what it should.
            Self::InvalidInput
            // Nothing of it ran. All tasks of such a module end by themselves, and should not wait for that.
            | Self::CompileFailed
            // Somebody else's will.
            | Self::Cancelled
            | Self::DeadlineExceeded
            // The host's doing.
            | Self::HostLost
            | Self::HostError
            | Self::HostDrained => Verdict::Neither,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an outcome")]
pub struct UnknownOutcome(String);

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL
            .iter()
            .copied()
            .find(|outcome| outcome.name() == text)
            .ok_or_else(|| UnknownOutcome(text.to_owned()))
    }
}

/// What an attempt used. Zero where it did not come to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel, about one for each WebAssembly instruction. Comparable only within one version of the engine.
    pub fuel: u64,
    /// The highest sum of all memories and tables, in bytes.
    pub memory_bytes_peak: u64,
    /// From the start of the attempt to its end, in nanoseconds.
    pub wall_ns: u64,
    /// Time on a processor, in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of its log, after what is over the limit was cut out.
    pub log_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_outcome() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.name().parse(), Ok(*outcome));
        }
        assert!("success".parse::<Outcome>().is_err());
    }
}
