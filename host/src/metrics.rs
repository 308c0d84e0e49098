//! What a host counts and measures, in one place.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tq_core::outcome::{Outcome, Usage};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// The metrics of one host.
pub(crate) struct Metrics {
    registry: Registry,
    attempts: Family<OutcomeLabel, Counter>,
    attempt_duration: Histogram,
    guest_memory: Histogram,
    compile_duration: Histogram,
    http_requests: Family<OutcomeLabel, Counter>,
    secrets_asked: Family<OutcomeLabel, Counter>,
    keyvalue_calls: Family<OutcomeLabel, Counter>,
    tcp_connections: Family<OutcomeLabel, Counter>,
    pub(crate) slots_busy: Gauge,
    pub(crate) outcomes_kept: Gauge,
    pub(crate) modules_ready: Gauge,
    pub(crate) session_up: Gauge,
    pub(crate) outcomes_fenced: Counter,
    pub(crate) runners: Gauge,
    pub(crate) runners_started: Counter,
    pub(crate) runner_crashes: Counter,
    pub(crate) log_dropped_bytes: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(slots: u32) -> Self {
        // From 100 µs to 7 minutes, and from 64 KiB to 4 GiB.
        let attempt_duration = Histogram::new(exponential_buckets(0.000_1, 4.0, 12));
        let guest_memory = Histogram::new(exponential_buckets(65_536.0, 4.0, 9));
        let compile_duration = Histogram::new(exponential_buckets(0.05, 2.0, 13));
        let mut metrics = Self {
            registry: Registry::with_prefix("tq"),
            attempts: Family::default(),
            attempt_duration,
            guest_memory,
            compile_duration,
            http_requests: Family::default(),
            secrets_asked: Family::default(),
            keyvalue_calls: Family::default(),
            tcp_connections: Family::default(),
            slots_busy: Gauge::default(),
            outcomes_kept: Gauge::default(),
            modules_ready: Gauge::default(),
            session_up: Gauge::default(),
            outcomes_fenced: Counter::default(),
            runners: Gauge::default(),
            runners_started: Counter::default(),
            runner_crashes: Counter::default(),
            log_dropped_bytes: Counter::default(),
        };
        let slots_offered = Gauge::<i64>::default();
        slots_offered.set(i64::from(slots));
        let registry = &mut metrics.registry;
        registry.register(
            "attempts",
            "Attempts that ended on this host, by outcome",
            metrics.attempts.clone(),
        );
        registry.register_with_unit(
            "attempt_duration",
            "Wall time of attempts, from instantiation to the result",
            Unit::Seconds,
            metrics.attempt_duration.clone(),
        );
        registry.register_with_unit(
            "guest_memory",
            "Highest sum of memories and tables of each attempt",
            Unit::Bytes,
            metrics.guest_memory.clone(),
        );
        registry.register_with_unit(
            "compile_duration",
            "Time to verify, compile and load a module",
            Unit::Seconds,
            metrics.compile_duration.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests of guests, by what they came to",
            metrics.http_requests.clone(),
        );
        registry.register(
            "secrets_asked",
            "Secrets that guests asked for, or named in headers, by what they got",
            metrics.secrets_asked.clone(),
        );
        registry.register(
            "keyvalue_calls",
            "Calls of guests to buckets, by what they came to",
            metrics.keyvalue_calls.clone(),
        );
        registry.register(
            "tcp_connections",
            "TCP connections of guests, by what they came to",
            metrics.tcp_connections.clone(),
        );
        registry.register(
            "slots",
            "Attempts that this host runs at once",
            slots_offered,
        );
        registry.register(
            "slots_busy",
            "Slots with an attempt",
            metrics.slots_busy.clone(),
        );
        registry.register(
            "outcomes_kept",
            "Outcomes that the broker has not acknowledged",
            metrics.outcomes_kept.clone(),
        );
        registry.register(
            "modules_ready",
            "Modules that this host holds compiled",
            metrics.modules_ready.clone(),
        );
        registry.register(
            "session_up",
            "1 while the broker has this host's session",
            metrics.session_up.clone(),
        );
        registry.register(
            "outcomes_fenced",
            "Outcomes that came after their lease had ended",
            metrics.outcomes_fenced.clone(),
        );
        registry.register(
            "runners",
            "Runner processes, with the one that waits for its first attempt",
            metrics.runners.clone(),
        );
        registry.register(
            "runners_started",
            "Runner processes that were started",
            metrics.runners_started.clone(),
        );
        registry.register(
            "runner_crashes",
            "Runner processes that ended with attempts in them",
            metrics.runner_crashes.clone(),
        );
        registry.register_with_unit(
            "log_dropped",
            "Log bytes of attempts that the broker did not take in time",
            Unit::Bytes,
            metrics.log_dropped_bytes.clone(),
        );
        registry.register(
            "build",
            "What this program is",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        metrics
    }

    /// An attempt ended.
    pub(crate) fn ended(&self, outcome: Outcome, usage: &Usage) {
        let label = OutcomeLabel {
            outcome: outcome.name(),
        };
        self.attempts.get_or_create(&label).inc();
        // One that never ran says nothing about how long attempts take.
        if usage.wall_ns > 0 {
            self.attempt_duration
                .observe(Duration::from_nanos(usage.wall_ns).as_secs_f64());
            self.guest_memory.observe(usage.memory_bytes_peak as f64);
        }
    }

    /// A guest asked for a secret, or named one in a header.
    pub(crate) fn asked_for_secret(&self, outcome: &'static str) {
        self.secrets_asked
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// A request of a guest came to its end.
    pub(crate) fn requested(&self, outcome: &'static str) {
        self.http_requests
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// A guest read or changed a bucket, or wanted to.
    pub(crate) fn called_keyvalue(&self, outcome: &'static str) {
        self.keyvalue_calls
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// A guest wanted a connection.
    pub(crate) fn connected(&self, outcome: &'static str) {
        self.tcp_connections
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// A module was compiled and loaded.
    pub(crate) fn compiled(&self, took: Duration) {
        self.compile_duration.observe(took.as_secs_f64());
    }

    /// All of it in the OpenMetrics text format.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_each_metric_with_its_unit() {
        let metrics = Metrics::new(4);
        let usage = Usage {
            wall_ns: 2_000_000,
            memory_bytes_peak: 1 << 20,
            ..Usage::default()
        };
        metrics.ended(Outcome::Succeeded, &usage);
        metrics.compiled(Duration::from_secs(1));
        metrics.log_dropped_bytes.inc_by(7);
        metrics.requested("answered");
        metrics.asked_for_secret("given");
        metrics.called_keyvalue("done");
        metrics.connected("connected");
        let text = metrics.text().unwrap();
        for line in [
            "tq_attempts_total{outcome=\"succeeded\"} 1",
            "tq_attempt_duration_seconds_count 1",
            "tq_guest_memory_bytes_sum 1048576.0",
            "tq_compile_duration_seconds_sum 1.0",
            "tq_http_requests_total{outcome=\"answered\"} 1",
            "tq_secrets_asked_total{outcome=\"given\"} 1",
            "tq_keyvalue_calls_total{outcome=\"done\"} 1",
            "tq_tcp_connections_total{outcome=\"connected\"} 1",
            "tq_slots 4",
            "tq_slots_busy 0",
            "tq_outcomes_kept 0",
            "tq_modules_ready 0",
            "tq_session_up 0",
            "tq_outcomes_fenced_total 0",
            "tq_runners 0",
            "tq_runners_started_total 0",
            "tq_runner_crashes_total 0",
            "tq_log_dropped_bytes_total 7",
            "tq_build_info{version=\"",
        ] {
            assert!(text.contains(line), "`{line}` is not in\n{text}");
        }
    }
}
