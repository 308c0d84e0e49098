//! What a task costs against the backlog that it passes through, and against the number of hosts:
//! `costs [--rounds N] [--seconds N] [--backlogs N,N,…] [--hosts N,N,…] [--out DIR]`. Starts a broker and hosts as processes of their own,
//! keeps as many tasks open as the backlog says, and reads how long each process was on a processor. Writes
//! `costs-backlog.svg`, `costs-hosts.svg` and the data of both, `costs.json`. `cargo xtask evidence costs` calls it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use tq_tests::load::Flood;
use tq_tests::plot::{self, Axis, Figure, Panel, Series};
use tq_tests::usage::Usage;
use tq_tests::{Broker, Host, PATIENCE, guest};

/// Slots of the one host that works on a backlog.
const SLOTS_OF_ONE: u32 = 2;
/// Slots of each of many.
const SLOTS_OF_MANY: u32 = 1;
/// Tasks that are open beside the backlog, so that the hosts never wait.
const AHEAD: u64 = 4_000;
/// Before it is measured: caches fill, hosts take their first tasks.
const WARM_UP: Duration = Duration::from_secs(2);

/// A broker is idle that did next to nothing for so long.
const QUIET: Duration = Duration::from_secs(1);

/// What is asked for.
struct Plan {
    /// How often each is measured. They take turns, so that all of them meet the same machine.
    rounds: u64,
    /// How long each is measured in a round.
    seconds: u64,
    backlogs: Vec<u64>,
    hosts: Vec<u64>,
    out: PathBuf,
    /// Where the data is while it runs.
    dir: PathBuf,
}

/// One measurement, or the medians of some.
#[derive(Clone, Copy)]
struct Cost {
    hosts: u64,
    slots: u32,
    backlog: u64,
    /// Tasks that ended, a second.
    tasks_per_second: f64,
    /// Processor time of each of these tasks, in microseconds.
    broker_us: f64,
    /// Of all hosts together.
    hosts_us: f64,
}

fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    let example = guest::example("faults");
    let runtime = tokio::runtime::Runtime::new()?;
    let mut out = io::stdout();
    writeln!(
        out,
        "{:>6}{:>7}{:>10}{:>12}{:>18}{:>18}",
        "hosts", "slots", "backlog", "tasks/s", "broker, µs/task", "hosts, µs/task"
    )?;
    let on_backlogs = plan
        .backlogs
        .iter()
        .map(|backlog| (1, SLOTS_OF_ONE, *backlog));
    let on_hosts = plan.hosts.iter().map(|hosts| (*hosts, SLOTS_OF_MANY, 0));
    let settings: Vec<_> = on_backlogs.chain(on_hosts).collect();
    let mut rounds = vec![Vec::new(); settings.len()];
    for _ in 0..plan.rounds {
        for ((hosts, slots, backlog), costs) in settings.iter().zip(&mut rounds) {
            let cost = runtime.block_on(measure(&plan, &example, *hosts, *slots, *backlog))?;
            writeln!(
                out,
                "{hosts:>6}{slots:>7}{backlog:>10}{:>12.0}{:>18.1}{:>18.1}",
                cost.tasks_per_second, cost.broker_us, cost.hosts_us,
            )?;
            costs.push(cost);
        }
    }
    let medians: Vec<Cost> = rounds.iter().filter_map(|costs| medians(costs)).collect();
    let (backlogs, hosts) = medians.split_at(plan.backlogs.len());

    let write = |name: &str, text: &str| {
        let path = plan.out.join(name);
        writeln!(io::stdout(), "{}", path.display())?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    let data = json!({
        "seconds": plan.seconds,
        "backlogs": backlogs.iter().map(data).collect::<Vec<_>>(),
        "hosts": hosts.iter().map(data).collect::<Vec<_>>(),
        "rounds": rounds.iter().flatten().map(data).collect::<Vec<_>>(),
    });
    write("costs.json", &format!("{data:#}\n"))?;
    if !backlogs.is_empty() {
        let figure = figure(
            &plan,
            "What a task costs against the backlog",
            &format!("1 host of {SLOTS_OF_ONE} slots"),
            "tasks that wait, oldest first",
            backlogs,
            |cost| cost.backlog,
        );
        write("costs-backlog.svg", &plot::svg(&figure)?)?;
    }
    if !hosts.is_empty() {
        let figure = figure(
            &plan,
            "What a task costs against the number of hosts",
            &format!("hosts of {SLOTS_OF_MANY} slot"),
            "hosts",
            hosts,
            |cost| cost.hosts,
        );
        write("costs-hosts.svg", &plot::svg(&figure)?)?;
    }
    Ok(())
}

fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan {
        rounds: 3,
        seconds: 5,
        backlogs: vec![0, 10_000, 100_000, 1_000_000],
        hosts: vec![1, 2, 4, 8, 16, 32],
        out: ".".into(),
        dir: std::env::temp_dir(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        let number = || -> anyhow::Result<u64> {
            let number = value
                .parse()
                .with_context(|| format!("{flag} `{value}` is not a number"))?;
            ensure!(number > 0, "{flag} is 0; it is at least 1");
            Ok(number)
        };
        let numbers = || -> anyhow::Result<Vec<u64>> {
            let words = value.split(',').filter(|word| !word.is_empty());
            let numbers = words.map(str::parse).collect::<Result<_, _>>();
            numbers.with_context(|| format!("{flag} `{value}` is not a list of numbers"))
        };
        match flag.as_str() {
            "--rounds" => plan.rounds = number()?,
            "--seconds" => plan.seconds = number()?,
            "--backlogs" => plan.backlogs = numbers()?,
            "--hosts" => plan.hosts = numbers()?,
            "--out" => plan.out = value.into(),
            "--dir" => plan.dir = value.into(),
            _ => bail!(
                "`{flag}` is not a flag; there are --rounds, --seconds, --backlogs, --hosts, --out and --dir"
            ),
        }
    }
    ensure!(!plan.hosts.contains(&0), "--hosts has 0; it is at least 1");
    std::fs::create_dir_all(&plan.out)
        .with_context(|| format!("making the folder {}", plan.out.display()))?;
    Ok(plan)
}

async fn measure(
    plan: &Plan,
    example: &Path,
    hosts: u64,
    slots: u32,
    backlog: u64,
) -> anyhow::Result<Cost> {
    let folder = tempfile::Builder::new()
        .prefix("tq-costs-")
        .tempdir_in(&plan.dir)?;
    let broker = Broker::start(&folder.path().join("broker")).await;
    let names: Vec<String> = (1..=hosts).map(|number| format!("host-{number}")).collect();
    let start = async || {
        let mut started = Vec::new();
        for name in &names {
            started.push(Host::start(&broker, &folder.path().join(name), name, slots).await);
        }
        started
    };
    // Each compiles the module once, which is not what a task costs.
    let compilers = start().await;
    broker.tq().deploy(example, "faults", &[]).await;
    let held_by: Vec<&str> = names.iter().map(String::as_str).collect();
    broker.holds("faults", &held_by).await;
    for host in compilers {
        host.process.stop().await;
    }
    let mut load = Flood::start(broker.client().await, "faults/echo").await?;
    load.fill(backlog).await?;
    settled(&broker).await?;
    let started = start().await;

    let open = backlog + AHEAD;
    load.run(open, Instant::now() + WARM_UP).await?;
    let usage = || -> anyhow::Result<(Duration, Duration)> {
        let hosts = started.iter().map(|host| Usage::of(&host.process));
        let hosts = hosts.map(|usage| Ok(usage?.cpu));
        let hosts = hosts.collect::<anyhow::Result<Vec<_>>>()?.iter().sum();
        Ok((Usage::of(&broker.process)?.cpu, hosts))
    };
    let (broker_before, hosts_before) = usage()?;
    let began = Instant::now();
    let until = began + Duration::from_secs(plan.seconds);
    let tasks = load.run(open, until).await?.ended;
    let seconds = began.elapsed().as_secs_f64();
    let (broker_after, hosts_after) = usage()?;
    ensure!(tasks > 0, "no task ended in {seconds:.0} s");
    let us = |span: Duration| span.as_secs_f64() * 1e6 / tasks as f64;
    let cost = Cost {
        hosts,
        slots,
        backlog,
        tasks_per_second: tasks as f64 / seconds,
        broker_us: us(broker_after - broker_before),
        hosts_us: us(hosts_after - hosts_before),
    };
    // What is open is of no use to anybody, and a host that drains would run it.
    drop(started);
    drop(broker);
    Ok(cost)
}

/// Waits until the broker has nothing left to do: what a backlog leaves to be merged on disk belongs to its making.
async fn settled(broker: &Broker) -> anyhow::Result<()> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let before = Usage::of(&broker.process)?.cpu;
        tokio::time::sleep(QUIET).await;
        if Usage::of(&broker.process)?.cpu - before <= QUIET / 50 || Instant::now() >= give_up {
            return Ok(());
        }
    }
}

/// The median of each value. None if nothing was measured.
fn medians(costs: &[Cost]) -> Option<Cost> {
    let median = |read: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(read).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Cost {
        tasks_per_second: median(|cost| cost.tasks_per_second)?,
        broker_us: median(|cost| cost.broker_us)?,
        hosts_us: median(|cost| cost.hosts_us)?,
        ..*costs.first()?
    })
}

fn data(cost: &Cost) -> Value {
    json!({
        "hosts": cost.hosts,
        "slots": cost.slots,
        "backlog": cost.backlog,
        "tasks_per_second": cost.tasks_per_second,
        "broker_cpu_us_per_task": cost.broker_us,
        "hosts_cpu_us_per_task": cost.hosts_us,
    })
}

fn figure(
    plan: &Plan,
    title: &str,
    setting: &str,
    label: &str,
    costs: &[Cost],
    step: fn(&Cost) -> u64,
) -> Figure {
    let names: Vec<String> = (costs.iter())
        .map(|cost| plot::short(step(cost) as f64))
        .collect();
    let line = |name: &str, read: fn(&Cost) -> f64| {
        let values = costs.iter().map(read).enumerate();
        Series::new(name, values.map(|(index, value)| (index as f64, value)))
    };
    let panel = |title: &str, y: &str, series: Vec<Series>| Panel {
        title: title.to_owned(),
        x: Axis::Steps(label.to_owned(), names.clone()),
        y: y.to_owned(),
        series,
    };
    Figure {
        title: title.to_owned(),
        subtitle: format!(
            "{setting}, one broker and the load on one machine of {} processors; \
             medians of {} × {} s, {AHEAD} tasks open beside the backlog",
            std::thread::available_parallelism().map_or(1, usize::from),
            plan.rounds,
            plan.seconds
        ),
        columns: 2,
        panels: vec![
            panel(
                "Processor time of a task",
                "µs a task",
                vec![
                    line("broker", |cost| cost.broker_us),
                    line("hosts together", |cost| cost.hosts_us),
                ],
            ),
            panel(
                "Tasks submitted, run and settled",
                "tasks a second",
                vec![line("tasks", |cost| cost.tasks_per_second)],
            ),
        ],
    }
}
