//! Load that comes at its own rate, however the broker keeps up.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tq_client::{Client, NewTask};

use super::guests::{Make, check};
use super::load::{next, watch_all};
use super::random::Random;
use super::sample::{Samples, Stopwatch};
use super::{STALL, within};

/// What is due is gathered for so long before it is submitted: the resolution of the timer. It counts as latency.
const GATHER: Duration = Duration::from_millis(1);
/// Tasks of one submit.
const BATCH_MAX: usize = 500;
/// Submits under way at once. What is due beyond that waits, and its latency grows.
const SUBMITS_MAX: usize = 64;

/// Tasks that arrive independently of each other.
pub(crate) struct Arrivals {
    pub(crate) make: Make,
    pub(crate) result: &'static [u8],
    pub(crate) per_second: f64,
    pub(crate) span: Duration,
    pub(crate) seed: u64,
}

impl Arrivals {
    /// Runs it in the client's namespace, in which nothing else ends meanwhile. The times are from when a task was due,
    /// and not from when it was sent, to its result: a broker that falls behind cannot hide it by being asked less.
    ///
    /// # Errors
    /// A task does not succeed, the broker refuses, or nothing happens for [`STALL`].
    pub(crate) async fn run(&self, client: &Client) -> anyhow::Result<Samples> {
        let due = self.times();
        let mut watching = watch_all(client).await?;
        let mut under_way = FuturesUnordered::new();
        let mut seen = Seen::default();
        let mut sent = 0;
        let start = Stopwatch::start();
        let mut tick = tokio::time::interval(GATHER);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while seen.samples.len() < due.len() {
            let now = start.elapsed();
            while under_way.len() < SUBMITS_MAX {
                let rest = &due[sent..];
                let count = rest
                    .iter()
                    .take(BATCH_MAX)
                    .take_while(|due| **due <= now)
                    .count();
                if count == 0 {
                    break;
                }
                let times = &rest[..count];
                sent += count;
                let tasks: Vec<NewTask> = (0..count).map(|_| (self.make)()).collect();
                under_way.push(async move {
                    let submitted = client.submit(tasks).await?;
                    let ids = submitted.into_iter().map(|task| task.id);
                    anyhow::Ok(ids.zip(times.iter().copied()).collect::<Vec<_>>())
                });
            }
            let what = format!(
                "results ({} of {sent} tasks have ended)",
                seen.samples.len()
            );
            let is_all_sent = sent == due.len();
            let step = async {
                tokio::select! {
                    Some(submitted) = under_way.next() => {
                        for (id, due) in submitted? {
                            seen.submitted(id, due);
                        }
                    }
                    ended = next(&mut watching) => {
                        let now = start.elapsed();
                        for task in ended? {
                            check(&task, Some(self.result))?;
                            seen.ended(task.id, now);
                        }
                    }
                    _ = tick.tick(), if !is_all_sent => {}
                }
                Ok(())
            };
            within(&what, STALL, step).await?;
        }
        Ok(seen.samples)
    }

    /// When each is due, from the start on.
    fn times(&self) -> Vec<Duration> {
        let mut random = Random::new(self.seed);
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        loop {
            at += random.interval(self.per_second);
            if at > self.span {
                return times;
            }
            times.push(at);
        }
    }
}

/// Tasks of which one thing is known and not yet the other: when they were due, or when they ended.
#[derive(Default)]
struct Seen {
    open: HashMap<String, Duration>,
    /// A task may end before its submit is acknowledged here.
    early: HashMap<String, Duration>,
    samples: Samples,
}

impl Seen {
    fn submitted(&mut self, id: String, due: Duration) {
        match self.early.remove(&id) {
            Some(ended) => self.samples.push(ended.saturating_sub(due)),
            None => {
                self.open.insert(id, due);
            }
        }
    }

    fn ended(&mut self, id: String, at: Duration) {
        match self.open.remove(&id) {
            Some(due) => self.samples.push(at.saturating_sub(due)),
            None => {
                self.early.insert(id, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_task_was_due_in_whatever_order_news_comes() {
        let ms = Duration::from_millis;
        let mut seen = Seen::default();
        seen.submitted("a".to_owned(), ms(10));
        seen.ended("b".to_owned(), ms(30));
        seen.ended("a".to_owned(), ms(15));
        seen.submitted("b".to_owned(), ms(10));
        assert_eq!(seen.samples.p50(), ms(5));
        assert_eq!(seen.samples.p99(), ms(20));
        assert_eq!(seen.samples.len(), 2);
    }
}
