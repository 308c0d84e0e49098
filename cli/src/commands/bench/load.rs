//! Load that is bounded by what has not ended yet: it goes as fast as the broker keeps up, and no faster.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use indicatif::ProgressBar;
use tq_client::{Client, NewTask, Task, Watch, Watching};

use super::guests::{Make, check};
use super::sample::{Samples, Stopwatch};
use super::{STALL, within};
use crate::output;

/// How much is submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// So many tasks.
    Tasks(u64),
    /// As many as can be in this time.
    Time(Duration),
}

/// A closed loop: submits tasks in batches, a bounded number of submits and of tasks at once, and sees every end.
#[derive(Clone)]
pub(crate) struct Load {
    /// Makes each task.
    pub(crate) make: Make,
    /// What each has to return, if that is one thing.
    pub(crate) result: Option<&'static [u8]>,
    pub(crate) amount: Amount,
    /// Tasks of one submit.
    pub(crate) batch: u64,
    /// Submits under way at once.
    pub(crate) submits: usize,
    /// Tasks that were submitted and have not ended: beyond it, the next submit waits.
    pub(crate) outstanding_max: u64,
    /// Shows how far it is.
    pub(crate) is_shown: bool,
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) tasks: u64,
    /// From the first submit to the last result.
    pub(crate) elapsed: Duration,
    /// How long each submit took to be acknowledged.
    pub(crate) submits: Samples,
}

impl Load {
    /// The load with which throughput is measured.
    ///
    /// Batches of 500 and eight submits at once, so that the broker always has the next one in its inbox; no more than
    /// 4,000 outstanding, so that what is measured is a broker that keeps up and not one that gathers a backlog. Batches of
    /// 100 to 1,000, 4 to 32 submits and 2,000 to 8,000 outstanding were tried too, on a machine with other work: all of
    /// them came within its noise, but that 1,000 tasks a batch and 8,000 outstanding cost the broker half as much again.
    pub(crate) fn peak(make: Make, result: &'static [u8], amount: Amount) -> Self {
        Self {
            make,
            result: Some(result),
            amount,
            batch: 500,
            submits: 8,
            outstanding_max: 4_000,
            is_shown: true,
        }
    }

    /// Runs it in the client's namespace. Whatever ends there counts, so that where tasks wait already, it is over when as
    /// many have ended as it submits.
    ///
    /// # Errors
    /// A task does not succeed, the broker refuses, or nothing happens for [`STALL`].
    pub(crate) async fn run(&self, client: &Client) -> anyhow::Result<Ran> {
        let mut watching = watch_all(client).await?;
        let bar = match self.amount {
            _ if !self.is_shown => ProgressBar::hidden(),
            Amount::Tasks(tasks) => output::task_bar(tasks),
            Amount::Time(span) => output::spinner(format!("for {} s", span.as_secs())),
        };
        let start = Stopwatch::start();
        let mut under_way = FuturesUnordered::new();
        let (mut submitted, mut ended): (u64, u64) = (0, 0);
        let mut submits = Samples::default();
        loop {
            while under_way.len() < self.submits
                && submitted.saturating_sub(ended) < self.outstanding_max
            {
                let size = self.left(submitted, start).min(self.batch);
                if size == 0 {
                    break;
                }
                submitted += size;
                let tasks: Vec<NewTask> = (0..size).map(|_| (self.make)()).collect();
                under_way.push(async move {
                    let start = Stopwatch::start();
                    client.submit(tasks).await.map(|_| start.elapsed())
                });
            }
            if ended >= submitted && under_way.is_empty() && self.left(submitted, start) == 0 {
                break;
            }
            let what = format!("results ({ended} of {submitted} tasks have ended)");
            let step = async {
                Ok(tokio::select! {
                    Some(acknowledged) = under_way.next() => {
                        submits.push(acknowledged?);
                        0
                    }
                    tasks = next(&mut watching) => {
                        let tasks = tasks?;
                        tasks.iter().try_for_each(|task| check(task, self.result))?;
                        tasks.len() as u64
                    }
                })
            };
            ended += within(&what, STALL, step).await?;
            bar.set_position(ended);
        }
        let elapsed = start.elapsed();
        bar.finish_and_clear();
        Ok(Ran {
            tasks: ended,
            elapsed,
            submits,
        })
    }

    fn left(&self, submitted: u64, start: Stopwatch) -> u64 {
        match self.amount {
            Amount::Tasks(tasks) => tasks.saturating_sub(submitted),
            Amount::Time(span) if start.elapsed() < span => self.batch,
            Amount::Time(_) => 0,
        }
    }
}

/// Submits one task after the other, each when the one before has ended, and times each from its submit to its result.
///
/// # Errors
/// As [`Load::run`].
pub(crate) async fn one_at_a_time(
    client: &Client,
    make: &Make,
    result: &[u8],
    amount: Amount,
) -> anyhow::Result<Samples> {
    let mut watching = watch_all(client).await?;
    let mut samples = Samples::default();
    let start = Stopwatch::start();
    let is_enough = |samples: &Samples| match amount {
        Amount::Tasks(tasks) => samples.len() as u64 >= tasks,
        Amount::Time(span) => start.elapsed() >= span,
    };
    while !is_enough(&samples) {
        let task = make();
        let own = Stopwatch::start();
        let ended = within("the result of one task", STALL, async {
            client.submit(vec![task]).await?;
            // Nobody else submits in this namespace, and nothing else is under way.
            loop {
                if let Some(task) = next(&mut watching).await?.into_iter().next() {
                    return Ok(task);
                }
            }
        })
        .await?;
        samples.push(own.elapsed());
        check(&ended, Some(result))?;
    }
    Ok(samples)
}

/// Submits one task and waits for it by its id, as somebody does who has only this one.
///
/// # Errors
/// As [`Load::run`].
pub(crate) async fn one_call(
    client: &Client,
    task: NewTask,
    result: &[u8],
) -> anyhow::Result<Duration> {
    let start = Stopwatch::start();
    within("the result of one task", STALL, async {
        let submitted = client.submit(vec![task]).await?;
        let ids = submitted.into_iter().map(|task| task.id).collect();
        let mut watching = client.watch(Watch::Ids(ids), true);
        let mut took = Duration::ZERO;
        while let Some(ended) = watching.next().await? {
            if !ended.is_empty() {
                took = start.elapsed();
            }
            ended
                .iter()
                .try_for_each(|task| check(task, Some(result)))?;
        }
        Ok(took)
    })
    .await
}

/// Watches every task of the namespace that ends from when this returns: how it ended, and its result.
pub(crate) async fn watch_all(client: &Client) -> anyhow::Result<Watching> {
    let mut watching = client.watch_ends(Watch::All { after_seq: None }, true);
    within("a watch", STALL, next(&mut watching)).await?;
    Ok(watching)
}

/// The next tasks that ended.
pub(crate) async fn next(watching: &mut Watching) -> anyhow::Result<Vec<Task>> {
    watching
        .next()
        .await?
        .context("a watch over all tasks has ended")
}
