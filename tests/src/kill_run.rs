//! Thousands of tasks with nodes that are killed in the middle, or lose their power, after a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tq_client::{Client, Error, NewTask, QueueSettings, Submitted, Task, TaskState, Watch};

use crate::history::{CancelAnswer, Seen, violations};
use crate::process::Sleeps;
use crate::random::Random;
use crate::wait::{LOOK, PATIENCE, within};
use crate::{Broker, Disk, Host, guest, metrics};

/// Tasks of one submit.
const BATCH: usize = 200;
/// Tasks of one batch that are cancelled right after they were acknowledged, so that the cancel races their success.
const CANCELS_PER_BATCH: u64 = 4;
/// One task in so many sleeps, so that hosts are killed with attempts on them.
const SLEEPER: usize = 50;
/// Tasks that are submitted a second time after a fault.
const RESUBMITTED: u64 = 50;

/// Bytes of the disk that loses its power.
const DISK_BYTES: u64 = 2 << 30;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides when which node is killed, and which tasks are cancelled and submitted again.
    pub seed: u64,
    /// How many tasks.
    pub tasks: usize,
    /// What befalls the nodes.
    pub faults: Faults,
}

/// What befalls the nodes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Their processes are killed. What they wrote stays, synced or not.
    Kills,
    /// The machine of the broker loses its power, and on it, in half of the runs, its host. What was not synced is gone.
    PowerLosses,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The plan's.
    pub seed: u64,
    /// Tasks that were acknowledged.
    pub acknowledged: usize,
    /// Kills of the broker.
    pub broker_kills: u32,
    /// Times that the broker's machine lost its power.
    pub power_losses: u32,
    /// Kills of the host.
    pub host_kills: u32,
    /// Attempts that were lost with their host.
    pub attempts_lost: usize,
    /// Tasks that ended as cancelled.
    pub cancelled: usize,
    /// Tasks that were submitted again with their key.
    pub resubmitted: usize,
    /// What went wrong, a line each.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            acknowledged,
            broker_kills,
            power_losses,
            host_kills,
            attempts_lost,
            cancelled,
            resubmitted,
            violations,
        } = self;
        write!(
            f,
            "seed {seed}: {acknowledged} tasks acknowledged, {broker_kills} kills of the broker, {host_kills} of the host, \
             {power_losses} losses of power, {attempts_lost} attempts lost, {cancelled} tasks cancelled, {resubmitted} submitted again, {} violations",
            violations.len()
        )?;
        violations
            .iter()
            .take(20)
            .try_for_each(|what| write!(f, "\n  {what}"))
    }
}

/// When a node is killed: when so many tasks were acknowledged, or have ended, and a little later.
#[derive(Clone, Copy, Debug)]
struct Fault {
    at: At,
    then: Duration,
    kill: Kill,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Acknowledged(usize),
    Ended(usize),
}

#[derive(Clone, Copy, Debug)]
enum Kill {
    Broker,
    Host,
    Both,
    /// The machine stops at once.
    Power,
    /// The disk is gone, and the broker ends by itself as soon as it has noticed.
    Disk,
}

impl Fault {
    /// At least one kill of the broker and one of the host, or one loss of power, all after a tenth of the tasks and before
    /// nine tenths.
    fn schedule(random: &mut Random, tasks: usize, faults: Faults) -> Vec<Self> {
        let (mut kills, further) = match faults {
            Faults::Kills => (
                vec![Kill::Broker, Kill::Host],
                [Kill::Broker, Kill::Host, Kill::Both],
            ),
            Faults::PowerLosses => (vec![Kill::Power], [Kill::Power, Kill::Disk, Kill::Host]),
        };
        kills.extend(further.get(index(random.between(0..4))));
        // Any order: each kill may be the first.
        for last in (1..kills.len()).rev() {
            kills.swap(last, index(random.between(0..last as u64 + 1)));
        }
        let mut when: Vec<usize> = kills
            .iter()
            .map(|_| index(random.between(10..90)) * tasks / 100)
            .collect();
        when.sort_unstable();
        let fault = |(kill, count)| Self {
            at: if random.one_in(2) {
                At::Acknowledged(count)
            } else {
                At::Ended(count)
            },
            then: Duration::from_micros(random.between(0..20_000)),
            kill,
        };
        kills.into_iter().zip(when).map(fault).collect()
    }
}

/// Submits the tasks of `plan` while its seed has nodes killed and started again, waits until all have ended, and compares
/// what clients saw with what is there.
///
/// # Panics
/// A node does not come back, or a submit is refused.
pub async fn kill_run(plan: Plan) -> Report {
    let Plan {
        seed,
        tasks,
        faults,
    } = plan;
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let disk = (faults == Faults::PowerLosses)
        .then(|| Disk::mount(folder.path(), DISK_BYTES).expect(Disk::LACKING));
    let machine = disk.as_ref().map_or(folder.path(), Disk::path);
    // A host elsewhere outlives its broker, and knows of attempts of which the broker's disk may not.
    let is_host_elsewhere = disk.is_some() && random.one_in(2);
    let host_dir = if is_host_elsewhere {
        folder.path().join("host")
    } else {
        machine.join("host")
    };
    let mut broker = Broker::start(&machine.join("broker")).await;
    let mut host = Host::start(&broker, &host_dir, "a", 4).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    broker.holds("faults", &["a"]).await;
    let client = broker.client().await;

    let (ended_count, ended) = watch::channel(0);
    let (acknowledged_count, acknowledged) = watch::channel(0);
    let ends = Arc::new(Mutex::new(Vec::new()));
    let mut watcher = JoinSet::new();
    let mut watching = client.watch(Watch::All { after_seq: None }, true);
    within("the watch", watching.next())
        .await
        .expect("the broker is there");
    watcher.spawn({
        let ends = Arc::clone(&ends);
        async move {
            while let Some(new) = watching
                .next()
                .await
                .unwrap_or_else(|error| panic!("the watch ended: {error}"))
            {
                let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                ends.extend(new);
                ended_count.send_replace(ends.len());
            }
        }
    });

    let mut report = Report {
        seed,
        ..Report::default()
    };
    let schedule = Fault::schedule(&mut random, tasks, faults);
    let (mut submit_random, mut again_random) =
        (Random::new(random.draw()), Random::new(random.draw()));
    let again = Mutex::new((0, Vec::new()));
    let submits = submit_all(&client, tasks, &mut submit_random, &acknowledged_count);
    let faults = async {
        for Fault { at, then, kill } in schedule {
            let (mut progress, count) = match at {
                At::Acknowledged(count) => (acknowledged.clone(), count),
                At::Ended(count) => (ended.clone(), count),
            };
            within(
                &format!("seed {seed}: {at:?}"),
                progress.wait_for(|now| *now >= count),
            )
            .await
            .expect("the run goes on");
            tokio::time::sleep(then).await;
            match kill {
                Kill::Broker => broker.kill9_and_restart().await,
                Kill::Host => host.kill9_and_restart().await,
                Kill::Both => {
                    broker.process.kill9().await;
                    host.kill9_and_restart().await;
                    broker.restart().await;
                }
                Kill::Power | Kill::Disk => {
                    let disk = disk.as_ref().expect("the run has a disk");
                    if matches!(kill, Kill::Disk) {
                        broker.process.stand_still(Sleeps::Nowhere).await;
                        disk.lose_power();
                        broker.process.sigcont();
                        // It may have nothing left to write, and then it has nothing to fail with.
                        let status = tokio::select! {
                            status = broker.process.end() => status,
                            () = keep_writing(&client) => unreachable!("it goes on for ever"),
                        };
                        assert!(!status.success(), "a broker without a disk: {status}");
                    } else {
                        broker.process.stand_still(Sleeps::InTheKernel).await;
                        disk.lose_power();
                        broker.process.kill9().await;
                    }
                    if is_host_elsewhere {
                        disk.restore_power().await;
                    } else {
                        host.process.kill9().await;
                        disk.restore_power().await;
                        host.restart();
                    }
                    broker.restart().await;
                }
            }
            let (broker_killed, host_killed, lost_power) = match kill {
                Kill::Broker => (true, false, false),
                Kill::Host => (false, true, false),
                Kill::Both => (true, true, false),
                Kill::Power | Kill::Disk => (false, false, true),
            };
            report.broker_kills += u32::from(broker_killed);
            report.host_kills += u32::from(host_killed);
            report.power_losses += u32::from(lost_power);
            let known = *acknowledged.borrow();
            let sample: Vec<usize> = (0..RESUBMITTED)
                .map(|_| index(again_random.between(0..known.max(1) as u64)))
                .collect();
            if known > 0 {
                let submitted = submit(&client, sample.iter().map(|n| task(*n))).await;
                let mut again = again.lock().unwrap_or_else(PoisonError::into_inner);
                again.0 += submitted.len();
                again.1.extend(sample.into_iter().zip(submitted));
            }
        }
    };
    let ((acknowledged_ids, cancels), ()) = tokio::join!(submits, faults);
    let mut ended = ended;
    // If they do not all end, the checker says which did not.
    if tokio::time::timeout(PATIENCE, ended.wait_for(|now| *now >= tasks))
        .await
        .is_err()
    {
        let hosts = client.hosts().await;
        report.violations.push(format!(
            "only {} of {tasks} tasks were seen to end within {PATIENCE:?}, on {hosts:?}",
            *ended.borrow()
        ));
        report
            .violations
            .push(format!("the broker wrote: {}", broker.process.log()));
        report
            .violations
            .push(format!("the host wrote: {}", host.process.log()));
    }

    let listed: Vec<Task> = client
        .list_tasks(None)
        .try_collect()
        .await
        .expect("the broker is there");
    let seen = Seen {
        acknowledged: acknowledged_ids
            .iter()
            .enumerate()
            .map(|(n, id)| (key(n), id.clone()))
            .collect(),
        ended: std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner)),
        cancels,
    };
    report.violations.extend(violations(&seen, &listed, |key| {
        payload(number(key)).into_bytes()
    }));
    let (resubmitted, again) = again.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (n, Submitted { id, existed }) in again {
        if acknowledged_ids[n] != id || !existed {
            report.violations.push(format!(
                "key `{}` was task {}, and after a kill it is {id}",
                key(n),
                acknowledged_ids[n]
            ));
        }
    }
    report.acknowledged = acknowledged_ids.len();
    report.resubmitted = resubmitted;
    report.cancelled = listed
        .iter()
        .filter(|task| task.state() == TaskState::Cancelled)
        .count();
    report.attempts_lost = listed
        .iter()
        .flat_map(|task| &task.attempts)
        .filter(|attempt| attempt.outcome == "host_lost")
        .count();
    report
        .violations
        .extend(wrong_counts(broker.url(), &report).await);
    report
}

/// The broker's own counts, which it kept over its restarts, against what was listed.
async fn wrong_counts(url: &str, report: &Report) -> Vec<String> {
    let expected = [
        (
            "tq_tasks{state=\"succeeded\"}",
            report.acknowledged - report.cancelled,
        ),
        ("tq_tasks{state=\"cancelled\"}", report.cancelled),
        ("tq_tasks{state=\"ready\"}", 0),
        ("tq_tasks{state=\"running\"}", 0),
        ("tq_invariant_violations_total", 0),
    ];
    let mut wrong = Vec::new();
    for (name, expected) in expected {
        let counted = metrics::sample(url, name).await;
        if counted.to_string() != expected.to_string() {
            wrong.push(format!("metric {name} is {counted}, not {expected}"));
        }
    }
    wrong
}

/// Has the broker write, again and again, whatever it answers.
async fn keep_writing(client: &Client) {
    for concurrency in 1.. {
        let settings = QueueSettings {
            concurrency: Some(concurrency),
            ..QueueSettings::default()
        };
        drop(client.set_queue("spare", settings).await);
        tokio::time::sleep(LOOK).await;
    }
}

/// Submits all tasks in batches, and has some cancelled. Returns the ids in order, and what was answered to the cancels.
async fn submit_all(
    client: &Client,
    tasks: usize,
    random: &mut Random,
    count: &watch::Sender<usize>,
) -> (Vec<String>, BTreeMap<String, CancelAnswer>) {
    let mut ids = Vec::with_capacity(tasks);
    let mut cancels = BTreeMap::new();
    while ids.len() < tasks {
        let first = ids.len();
        let submitted = submit(client, (first..tasks.min(first + BATCH)).map(task)).await;
        ids.extend(submitted.into_iter().map(|task| task.id));
        count.send_replace(ids.len());
        for _ in 0..random.between(0..CANCELS_PER_BATCH) {
            let id = &ids[index(random.between(first as u64..ids.len() as u64))];
            let answer = cancel(client, id).await;
            // Asked for twice, the first answer is the one that the second must not contradict.
            cancels.entry(id.clone()).or_insert(answer);
        }
    }
    (ids, cancels)
}

async fn submit(client: &Client, tasks: impl Iterator<Item = NewTask>) -> Vec<Submitted> {
    // The client repeats it for as long as the broker is away, since every task has a key.
    client
        .submit(tasks.collect())
        .await
        .unwrap_or_else(|error| panic!("submit failed: {error}"))
}

async fn cancel(client: &Client, id: &str) -> CancelAnswer {
    match client.cancel_task(id).await {
        Ok(task) if task.state() == TaskState::Cancelled => CancelAnswer::Cancelled,
        Ok(_) => CancelAnswer::Told,
        Err(Error::Unreachable { .. }) => CancelAnswer::Unknown,
        Err(error) if error.is_retryable() => CancelAnswer::Unknown,
        Err(Error::Refused { .. }) => CancelAnswer::Ended,
        Err(error) => panic!("cancel of task {id} failed: {error}"),
    }
}

fn task(n: usize) -> NewTask {
    let function = if n.is_multiple_of(SLEEPER) {
        "faults/sleep"
    } else {
        "faults/echo"
    };
    NewTask {
        function: function.to_owned(),
        payload: payload(n).into(),
        idempotency_key: key(n),
        ..NewTask::default()
    }
}

/// What task `n` is given, and what it returns.
fn payload(n: usize) -> String {
    if n.is_multiple_of(SLEEPER) {
        "20".to_owned()
    } else {
        format!("payload {n}")
    }
}

fn key(n: usize) -> String {
    format!("task-{n}")
}

fn number(key: &str) -> usize {
    key.trim_start_matches("task-")
        .parse()
        .unwrap_or(usize::MAX)
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("indices fit")
}
