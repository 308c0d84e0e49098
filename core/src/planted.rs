//! Bugs that can be planted, to prove that the simulation finds such bugs. Only a build with the feature `planted` has
//! them, which is that of the simulation; in every other build [`is_planted`] is `false` and leaves nothing behind.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A task gets one attempt more than its policy says.
    AttemptTooMany,
    /// A report of an attempt that was given away counts.
    StaleReportWins,
    /// A task that was told to stop is ready again when its host is lost.
    StopForgotten,
    /// A scheduled task wakes before its time.
    WakesEarly,
    /// The loss of a host counts as a failure of the task.
    LossIsFailure,
    /// Answers are given before what they rest on is on disk.
    AnswersBeforeSync,
    /// Epochs begin anew with each start of the broker.
    EpochReused,
    /// Every host's token is taken for a valid one.
    TokenUnchecked,
    /// A step is two commits.
    CommitTorn,
    /// The rows of waiting tasks are not written.
    ReadyRowForgotten,
    /// A ready row goes with its first task.
    ReadyRowGoesEarly,
    /// The next ready rows are looked for one too far.
    ReadyRowSkipped,
    /// Claims are not written.
    ClaimForgotten,
    /// A claims row goes with its first claim.
    ClaimsRowGoesEarly,
    /// A task that leaves a state is still counted in it.
    CounterDrifts,
    /// Two submits of one step do not see each other's idempotency keys.
    KeyUnseen,
    /// The timer that comes next is forgotten.
    TimerForgotten,
    /// Recovery begins after the oldest task that it has to find.
    RecoveryBeginsLate,
    /// The lease of a host that is gone does not end.
    LeaseEndless,
    /// A host is not told to stop what was cancelled.
    StopUntold,
    /// Hosts get more than they have credits for.
    CreditsIgnored,
    /// A result is not written.
    ResultLost,
    /// A host does not forget an outcome that was acknowledged.
    OutcomeKept,
    /// A host does not say on a new connection what it runs.
    HelloIncomplete,
    /// One task more runs of a queue than its limit says.
    QueueLimitOffByOne,
    /// One task more runs of a concurrency key than its limit says.
    KeyLimitOffByOne,
    /// Tasks of a paused queue start.
    PauseIgnored,
    /// A line that waits for a concurrency key is not told that one is free.
    HeldLineForgotten,
    /// A dead letter that is redriven stays in the index.
    DeadRowStays,
    /// What has ended is removed before its time.
    RemovedEarly,
    /// What is to be looked at again later is not noted.
    DueForgotten,
    /// The idempotency key of a task stays when the task is removed.
    KeyOutlivesTask,
    /// A version of a module goes although tasks need it.
    UsesUnseen,
    /// A submit is taken in of a version that was deleted since it was read.
    DeletedModuleTaken,
    /// A task goes to a host that lacks a label that it requires.
    LabelsIgnored,
    /// A host gets more than fits into its memory.
    MemoryIgnored,
    /// A task that may have crashed a runner is run beside others.
    SuspectUnmarked,
    /// Tasks start though the breaker of their function is open.
    BreakerIgnored,
    /// As many tasks as there are start as probes.
    ProbesUnbounded,
    /// The end of a probe is not noted.
    ProbeForgotten,
    /// Lines that wait for a breaker are not told that it lets tasks through.
    BreakerUntold,
    /// What an operator wants of a breaker is not written.
    OverrideForgotten,
    /// Tasks are taken in however many wait.
    OverloadIgnored,
    /// Tasks that are no longer waiting still count as such.
    WaitingDrifts,
    /// Tasks are taken in however many of their namespace wait.
    WaitingQuotaIgnored,
    /// One task more runs of a namespace than its quota says.
    RunningQuotaOffByOne,
    /// What attempts may use that run is not counted against the budget.
    FuelUnreserved,
    /// A budget begins anew with each start of the broker.
    FuelForgotten,
    /// A namespace is not told that an attempt has ended that it waited for.
    NamespaceUntold,
    /// An attempt that is reported again is counted again.
    CostTwice,
    /// A row of costs is not written.
    CostForgotten,
    /// The result of a task is not counted among what is stored.
    StoredDrifts,
    /// A task that is redriven or removed stays in the index of those that have ended.
    FinishedStays,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 53] = [
        Self::AttemptTooMany,
        Self::StaleReportWins,
        Self::StopForgotten,
        Self::WakesEarly,
        Self::LossIsFailure,
        Self::AnswersBeforeSync,
        Self::EpochReused,
        Self::TokenUnchecked,
        Self::CommitTorn,
        Self::ReadyRowForgotten,
        Self::ReadyRowGoesEarly,
        Self::ReadyRowSkipped,
        Self::ClaimForgotten,
        Self::ClaimsRowGoesEarly,
        Self::CounterDrifts,
        Self::KeyUnseen,
        Self::TimerForgotten,
        Self::RecoveryBeginsLate,
        Self::LeaseEndless,
        Self::StopUntold,
        Self::CreditsIgnored,
        Self::ResultLost,
        Self::OutcomeKept,
        Self::HelloIncomplete,
        Self::QueueLimitOffByOne,
        Self::KeyLimitOffByOne,
        Self::PauseIgnored,
        Self::HeldLineForgotten,
        Self::DeadRowStays,
        Self::RemovedEarly,
        Self::DueForgotten,
        Self::KeyOutlivesTask,
        Self::UsesUnseen,
        Self::DeletedModuleTaken,
        Self::LabelsIgnored,
        Self::MemoryIgnored,
        Self::SuspectUnmarked,
        Self::BreakerIgnored,
        Self::ProbesUnbounded,
        Self::ProbeForgotten,
        Self::BreakerUntold,
        Self::OverrideForgotten,
        Self::OverloadIgnored,
        Self::WaitingDrifts,
        Self::WaitingQuotaIgnored,
        Self::RunningQuotaOffByOne,
        Self::FuelUnreserved,
        Self::FuelForgotten,
        Self::NamespaceUntold,
        Self::CostTwice,
        Self::CostForgotten,
        Self::StoredDrifts,
        Self::FinishedStays,
    ];
}

#[cfg(feature = "planted")]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in what this thread does from now on, and takes out the one before.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is planted.
#[cfg(feature = "planted")]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether a bug is planted.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline(always)]
pub const fn is_planted(_: Bug) -> bool {
    false
}
