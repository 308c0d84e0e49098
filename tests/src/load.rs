//! Load for measurements: at a steady rate, whatever the broker makes of it, or as much as it takes.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tq_client::{Client, Error, NewTask, Submitted, Task, TaskState, Watch, Watching};

use crate::Random;

/// Tasks of one submit of [`Flood`].
const BATCH: u64 = 500;
/// Its submits that are under way at once.
const SUBMITS: usize = 8;
/// Tasks of one submit of [`Steady`], on average: they come in small groups, as from many who submit.
const GROUP: u64 = 10;
/// The timer of the run time wakes so much late at most. That is not the broker's doing; a group that goes out later than
/// this was held up, and its waiting counts, or else a load that stalls would hide what it is to show.
const TIMER: Duration = Duration::from_millis(2);
/// Nothing that the broker does makes the load so late: the machine stood still. What was due meanwhile is left out, since
/// all of it at once would be another load.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Payloads, in bytes.
const PAYLOAD_BYTES: std::ops::Range<u64> = 32..512;

type Submit = BoxFuture<'static, Result<(Vec<Submitted>, Instant), Error>>;

/// What became of the tasks since the last look.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Tasks that were acknowledged.
    pub submitted: u64,
    /// Tasks that ended, all of them with success.
    pub ended: u64,
    /// From when each was due to its end as the client learns of it; if none ended, what the oldest has waited so far. Of
    /// [`Steady`] alone.
    pub latencies: Vec<Duration>,
    /// How long the machine stood still, as far as the load noticed; of [`Steady`] alone.
    pub standstill: Duration,
}

impl Passed {
    /// The latency that this part of the tasks does not exceed; zero if there are none.
    pub fn latency(&mut self, part: f64) -> Duration {
        self.latencies.sort_unstable();
        let index = (part * self.latencies.len() as f64).ceil() as usize;
        let found = self.latencies.get(index.saturating_sub(1));
        found.copied().unwrap_or_default()
    }
}

/// Tasks at a rate that does not depend on how they fare: groups of random sizes at random times, as a Poisson process
/// makes them. Which ones is decided by the seed.
pub struct Steady {
    client: Client,
    ends: Watching,
    template: NewTask,
    random: Random,
    /// Groups a second.
    rate: f64,
    due: Instant,
    submits: FuturesUnordered<Submit>,
    /// Tasks that one of the two is known of, the acknowledgement or the end: either may come first.
    half_known: HashMap<String, Instant>,
    open_max: u64,
    passed: Passed,
    submitted: u64,
    ended: u64,
}

impl Steady {
    /// Begins to submit `rate` tasks a second of `function`, which returns what it is given.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn start(
        client: Client,
        function: &str,
        rate: f64,
        seed: u64,
    ) -> anyhow::Result<Self> {
        ensure!(rate > 0.0, "a rate of {rate} tasks a second is none");
        let ends = watch(&client).await?;
        Ok(Self {
            client,
            ends,
            template: template(function),
            random: Random::new(seed),
            rate: rate / GROUP as f64,
            due: Instant::now(),
            submits: FuturesUnordered::new(),
            half_known: HashMap::new(),
            // Half a minute behind: it will not catch up.
            open_max: (rate * 30.0) as u64 + 1_000,
            passed: Passed::default(),
            submitted: 0,
            ended: 0,
        })
    }

    /// Goes on until `until`, and returns what happened since the last time.
    ///
    /// # Errors
    /// A submit is refused, a task fails, or the broker does not keep up with the rate.
    pub async fn run(&mut self, until: Instant) -> anyhow::Result<Passed> {
        loop {
            let open = self.open();
            ensure!(
                open <= self.open_max,
                "{open} tasks have not ended: the broker does not keep up with the rate"
            );
            tokio::select! {
                () = sleep_until(until) => return Ok(self.take()),
                () = sleep_until(self.due) => self.submit(),
                Some(acknowledged) = self.submits.next() => {
                    let (tasks, since) = acknowledged?;
                    self.submitted += tasks.len() as u64;
                    self.passed.submitted += tasks.len() as u64;
                    for task in tasks {
                        self.know(task.id, since);
                    }
                }
                ended = self.ends.next() => {
                    let now = Instant::now();
                    for task in ended?.context("a watch over all does not end")? {
                        check(&task)?;
                        self.ended += 1;
                        self.passed.ended += 1;
                        self.know(task.id, now);
                    }
                }
            }
        }
    }

    /// Tasks that were acknowledged and have not ended, as far as is known.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.submitted.saturating_sub(self.ended)
    }

    /// Both ends of a task's time are known once this was called twice.
    fn know(&mut self, id: String, at: Instant) {
        match self.half_known.remove(&id) {
            Some(other) => {
                let (from, to) = (other.min(at), other.max(at));
                self.passed.latencies.push(to - from);
            }
            None => {
                self.half_known.insert(id, at);
            }
        }
    }

    fn take(&mut self) -> Passed {
        let mut passed = std::mem::take(&mut self.passed);
        if passed.latencies.is_empty() {
            let oldest = self.half_known.values().min().map(Instant::elapsed);
            passed.latencies.extend(oldest);
        }
        passed
    }

    fn submit(&mut self) {
        let size = self.random.between(1..2 * GROUP);
        let tasks = (0..size).map(|_| self.task()).collect();
        let now = Instant::now();
        if now - self.due > STANDSTILL {
            self.passed.standstill += now - self.due;
            self.due = now;
        }
        let since = if now - self.due <= TIMER {
            now
        } else {
            self.due
        };
        // The distance to the next is exponential, with a logarithm of 53 random bits in (0, 1].
        let uniform = ((self.random.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.due += Duration::from_secs_f64(-uniform.ln() / self.rate);
        let client = self.client.clone();
        self.submits.push(Box::pin(
            async move { Ok((client.submit(tasks).await?, since)) },
        ));
    }

    fn task(&mut self) -> NewTask {
        let bytes = self.random.between(PAYLOAD_BYTES);
        let letters = (0..bytes).map(|_| b'a' + (self.random.draw() % 26) as u8);
        NewTask {
            payload: letters.collect::<Vec<u8>>().into(),
            ..self.template.clone()
        }
    }
}

/// As many tasks as the broker takes, with a constant number of them open: as one ends, another one is submitted.
pub struct Flood {
    client: Client,
    ends: Watching,
    template: NewTask,
    submits: FuturesUnordered<Submit>,
    /// Tasks that were sent and have not ended.
    open: u64,
    passed: Passed,
}

impl Flood {
    /// Gets ready to submit tasks of `function`, which returns what it is given.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn start(client: Client, function: &str) -> anyhow::Result<Self> {
        Self::of(client, function, Bytes::from_static(&[b'x'; 100])).await
    }

    /// Gets ready to submit tasks of any function that succeeds with this payload.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn of(client: Client, function: &str, payload: Bytes) -> anyhow::Result<Self> {
        Ok(Self {
            ends: watch(&client).await?,
            client,
            template: NewTask {
                payload,
                ..template(function)
            },
            submits: FuturesUnordered::new(),
            open: 0,
            passed: Passed::default(),
        })
    }

    /// Submits until `open` tasks are open, to the batch, and acknowledged. Nothing is to run them meanwhile.
    ///
    /// # Errors
    /// A submit is refused.
    pub async fn fill(&mut self, open: u64) -> anyhow::Result<()> {
        loop {
            self.top_up(open);
            match self.submits.next().await {
                Some(acknowledged) => self.acknowledged(acknowledged)?,
                None => return Ok(()),
            }
        }
    }

    /// Goes on until `until`, with `open` tasks open, and returns what happened since the last time.
    ///
    /// # Errors
    /// A submit is refused, or a task fails.
    pub async fn run(&mut self, open: u64, until: Instant) -> anyhow::Result<Passed> {
        loop {
            self.top_up(open);
            tokio::select! {
                () = sleep_until(until) => return Ok(std::mem::take(&mut self.passed)),
                Some(acknowledged) = self.submits.next() => self.acknowledged(acknowledged)?,
                ended = self.ends.next() => {
                    let ended = ended?.context("a watch over all does not end")?;
                    ended.iter().try_for_each(check)?;
                    self.passed.ended += ended.len() as u64;
                    self.open = self.open.saturating_sub(ended.len() as u64);
                }
            }
        }
    }

    fn top_up(&mut self, open: u64) {
        // Whole batches only: what a task costs depends on how many come together.
        while self.submits.len() < SUBMITS && self.open + BATCH <= open {
            self.open += BATCH;
            let tasks = vec![self.template.clone(); BATCH as usize];
            let client = self.client.clone();
            let since = Instant::now();
            self.submits.push(Box::pin(
                async move { Ok((client.submit(tasks).await?, since)) },
            ));
        }
    }

    fn acknowledged(
        &mut self,
        acknowledged: Result<(Vec<Submitted>, Instant), Error>,
    ) -> anyhow::Result<()> {
        let (tasks, _) = acknowledged?;
        self.passed.submitted += tasks.len() as u64;
        Ok(())
    }
}

fn template(function: &str) -> NewTask {
    NewTask {
        function: function.to_owned(),
        content_type: "text/plain".to_owned(),
        ..NewTask::default()
    }
}

/// A watch over every end from now on.
async fn watch(client: &Client) -> anyhow::Result<Watching> {
    let mut ends = client.watch(Watch::All { after_seq: None }, false);
    ends.next().await?;
    Ok(ends)
}

fn check(task: &Task) -> anyhow::Result<()> {
    let is_success = task.state() == TaskState::Succeeded;
    ensure!(is_success, "task {} ended as {}", task.id, task.outcome);
    Ok(())
}
