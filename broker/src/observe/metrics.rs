//! Every metric of the broker. Base units; labels come from closed sets.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tq_core::breaker::Phase;
use tq_core::outcome::Usage;
use tq_core::quota::Quota;
use tq_core::{Outcome, Tier};

use crate::tables::row::Counters;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByTier {
    tier: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByQuota {
    quota: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByClass {
    class: &'static str,
}

/// The broker's counters and gauges. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Tasks taken in.
    pub submitted: Counter,
    /// Requests to submit that were refused: by the ledger, or by the checks before it.
    pub refused: Counter,
    /// Attempts handed to hosts.
    pub dispatched: Counter,
    /// Attempts taken back from hosts that were gone.
    pub lost: Counter,
    /// Reports that came too late and changed nothing.
    pub fenced: Counter,
    /// Tasks removed: because someone asked, or because their time was over.
    pub removed: Counter,
    /// Results removed before their tasks.
    pub results_removed: Counter,
    /// Files of large data removed that no row named any more.
    pub blobs_removed: Counter,
    /// Versions of modules removed: because someone asked, or because nobody had use for them.
    pub modules_removed: Counter,
    /// Commits of the store.
    pub commits: Counter,
    /// Transitions that must not be, each one a bug.
    pub invariant_violations: Counter,
    /// Hosts that have a session.
    pub hosts: Gauge,
    /// Quarantines of hosts that began, those after a probe that failed included.
    pub quarantines: Counter,
    /// How much is refused: 0 is nothing, 3 everything.
    pub overload_level: Gauge,
    /// Openings of circuit breakers, those after a probe that failed included.
    pub breaker_openings: Counter,
    breakers: Family<ByState, Gauge>,
    tasks_refused: Family<ByTier, Counter>,
    quota_refused: Family<ByQuota, Counter>,
    /// Requests with a credential that is none.
    pub credentials_refused: Counter,
    /// Ends that were removed before a webhook could tell them.
    pub webhook_events_missed: Counter,
    /// Webhooks that the broker paused because their endpoint failed for long, or wants no more.
    pub webhooks_paused: Counter,
    webhook_attempts: Family<ByOutcome, Counter>,
    webhook_seconds: Seconds,
    ledger_waits: Waits,
    ended: Family<ByState, Counter>,
    attempts: Family<ByOutcome, Counter>,
    attempt_seconds: Seconds,
    tasks: Family<ByState, Gauge>,
}

#[derive(Clone)]
struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        // From 100 µs to about half an hour.
        Self(Histogram::new(exponential_buckets(0.0001, 4.0, 13)))
    }
}

#[derive(Clone)]
struct Waits(Family<ByClass, Histogram, fn() -> Histogram>);

impl Default for Waits {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Seconds::default().0))
    }
}

impl Metrics {
    /// Counts a task that ended.
    pub fn ended(&self, state: &'static str) {
        self.ended.get_or_create(&ByState { state }).inc();
    }

    /// Counts an attempt that ended.
    pub fn attempt(&self, outcome: Outcome, usage: &Usage) {
        self.attempts
            .get_or_create(&ByOutcome {
                outcome: outcome.name(),
            })
            .inc();
        self.attempt_seconds
            .0
            .observe(std::time::Duration::from_nanos(usage.wall_ns).as_secs_f64());
    }

    /// Counts an attempt to deliver something for a webhook.
    pub fn webhook_attempt(&self, is_delivered: bool, took: std::time::Duration) {
        let outcome = match is_delivered {
            true => "delivered",
            false => "failed",
        };
        self.webhook_attempts
            .get_or_create(&ByOutcome { outcome })
            .inc();
        self.webhook_seconds.0.observe(took.as_secs_f64());
    }

    /// Counts tasks that were refused because there are too many.
    pub fn tasks_refused(&self, tier: Tier, tasks: u64) {
        let tier = tier.name();
        self.tasks_refused
            .get_or_create(&ByTier { tier })
            .inc_by(tasks);
    }

    /// Counts tasks that were refused because their namespace would have too much of something.
    pub fn quota_refused(&self, quota: Quota, tasks: u64) {
        let quota = quota.name();
        self.quota_refused
            .get_or_create(&ByQuota { quota })
            .inc_by(tasks);
    }

    /// What is told how long commands of a class wait for the ledger, in seconds. To be kept: looking it up takes longer.
    pub fn ledger_wait(&self, class: &'static str) -> Histogram {
        let class = ByClass { class };
        self.ledger_waits.0.get_or_create(&class).clone()
    }

    /// Sets how many circuit breakers are open, and how many half open.
    pub fn breakers(&self, open: usize, half_open: usize) {
        for (phase, count) in [(Phase::Open, open), (Phase::HalfOpen, half_open)] {
            let state = phase.name();
            self.breakers
                .get_or_create(&ByState { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// All metrics as OpenMetrics text, with the number of tasks in each state.
    pub fn encode(&self, counters: &Counters) -> String {
        let Counters {
            blocked,
            scheduled,
            ready,
            running,
            succeeded,
            dead,
            cancelled,
            expired,
            kept_bytes: _,
        } = *counters;
        let states = [
            ("blocked", blocked),
            ("scheduled", scheduled),
            ("ready", ready),
            ("running", running),
            ("succeeded", succeeded),
            ("dead", dead),
            ("cancelled", cancelled),
            ("expired", expired),
        ];
        for (state, count) in states {
            self.tasks
                .get_or_create(&ByState { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        match text::encode(&mut text, &self.registry()) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(),
        }
    }

    fn registry(&self) -> Registry {
        let Self {
            submitted,
            refused,
            dispatched,
            lost,
            fenced,
            removed,
            results_removed,
            blobs_removed,
            modules_removed,
            commits,
            invariant_violations,
            hosts,
            quarantines,
            breaker_openings,
            breakers,
            overload_level,
            tasks_refused,
            quota_refused,
            credentials_refused,
            webhook_events_missed,
            webhooks_paused,
            webhook_attempts,
            webhook_seconds,
            ledger_waits,
            ended,
            attempts,
            attempt_seconds,
            tasks,
        } = self.clone();
        let mut registry = Registry::with_prefix("tq");
        registry.register(
            "build",
            "The version of tq",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("tasks", "Tasks by state", tasks);
        registry.register("tasks_submitted", "Tasks taken in", submitted);
        registry.register(
            "submits_refused",
            "Requests to submit that were refused",
            refused,
        );
        registry.register("tasks_ended", "Tasks ended, by state", ended);
        registry.register(
            "attempts_dispatched",
            "Attempts handed to hosts",
            dispatched,
        );
        registry.register(
            "host_quarantines",
            "Quarantines of hosts that began",
            quarantines,
        );
        registry.register(
            "breakers",
            "Circuit breakers that are not closed, by state",
            breakers,
        );
        registry.register(
            "breaker_openings",
            "Openings of circuit breakers",
            breaker_openings,
        );
        registry.register(
            "overload_level",
            "How much is refused: 0 is nothing, 1 tasks of the low tier, 2 the normal one too, 3 everything",
            overload_level,
        );
        registry.register(
            "tasks_refused",
            "Tasks refused because of overload, by tier",
            tasks_refused,
        );
        registry.register(
            "quota_refused_tasks",
            "Tasks refused for a quota of their namespace, by quota",
            quota_refused,
        );
        registry.register(
            "credentials_refused",
            "Requests refused because their credential is none, or holds no longer",
            credentials_refused,
        );
        registry.register(
            "webhook_attempts",
            "Attempts to deliver events to endpoints of webhooks, by outcome",
            webhook_attempts,
        );
        registry.register(
            "webhook_attempt_duration_seconds",
            "How long endpoints of webhooks took to answer",
            webhook_seconds.0,
        );
        registry.register(
            "webhook_events_missed",
            "Ends removed before a webhook could tell them",
            webhook_events_missed,
        );
        registry.register(
            "webhooks_paused",
            "Webhooks paused because their endpoint failed for long, or wants no more",
            webhooks_paused,
        );
        registry.register(
            "ledger_wait_seconds",
            "How long commands waited for the ledger, by class",
            ledger_waits.0,
        );
        registry.register(
            "attempts_lost",
            "Attempts taken back from hosts that were gone",
            lost,
        );
        registry.register(
            "attempts_fenced",
            "Reports of attempts that came too late and changed nothing",
            fenced,
        );
        registry.register("attempts_settled", "Attempts settled, by outcome", attempts);
        registry.register(
            "attempt_duration_seconds",
            "Wall time of attempts as their hosts measured it",
            attempt_seconds.0,
        );
        registry.register("tasks_removed", "Ended tasks removed", removed);
        registry.register(
            "results_removed",
            "Results removed before their tasks",
            results_removed,
        );
        registry.register(
            "blobs_removed",
            "Files of large data removed that nothing named any more",
            blobs_removed,
        );
        registry.register(
            "modules_removed",
            "Versions of modules removed",
            modules_removed,
        );
        registry.register("store_commits", "Commits of the store", commits);
        registry.register(
            "invariant_violations",
            "Transitions refused because they must not be: bugs",
            invariant_violations,
        );
        registry.register("hosts_connected", "Hosts that have a session", hosts);
        registry
    }
}
