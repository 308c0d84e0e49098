//! Whether a broker and a host stay as they are under steady load: `soak [--minutes N] [--rate N] [--out FILE.svg] …`. Starts
//! both as processes of their own, submits at a rate that does not wait for them, and looks at what they take every few
//! seconds. Writes every look to `FILE.csv` as it is made, and the figure at the end; fails if something is not flat.
//! `cargo xtask evidence soak` calls it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;
use tq_tests::load::Steady;
use tq_tests::plot::{self, Axis, Figure, Panel, Series};
use tq_tests::usage::{Usage, folder_bytes};
use tq_tests::{Broker, Host, guest};

const SLOTS: u32 = 2;
/// The part of the run that is not judged: caches fill, and the first files are written.
const WARM_UP: f64 = 0.1;
/// Looks that have to be left to be judged: a third of them is what a median is taken of.
const LOOKS_MIN: usize = 9;
const MIB: f64 = 1024.0 * 1024.0;

/// What is asked for.
struct Plan {
    minutes: f64,
    /// Tasks a second.
    rate: f64,
    /// Seconds from one look to the next.
    every: f64,
    seed: u64,
    out: PathBuf,
    /// Where the data is while it runs.
    dir: PathBuf,
}

/// One look.
#[derive(Clone, Copy)]
struct Look {
    /// Since the load began.
    seconds: f64,
    /// Tasks a second since the last look.
    submitted: f64,
    ended: f64,
    /// Tasks that were acknowledged and have not ended.
    open: u64,
    p50: Duration,
    p99: Duration,
    broker: Usage,
    host: Usage,
    /// In the broker's data directory.
    disk_bytes: u64,
    /// Of these, for each task that was ever acknowledged.
    bytes_per_task: f64,
}

/// What has to be flat: its name and unit, how it is read, and how much the last third of the looks may be above the
/// first, as a part of that and in its unit. Small numbers need the latter: a file more is 5 % of twenty.
struct Judged {
    name: &'static str,
    unit: &'static str,
    read: fn(&Look) -> f64,
    part: f64,
    amount: f64,
}

const JUDGED: &[Judged] = &[
    judged(
        "memory of the broker",
        "MiB",
        |look| mib(look.broker),
        0.1,
        4.0,
    ),
    judged("memory of the host", "MiB", |look| mib(look.host), 0.1, 4.0),
    judged(
        "files of the broker",
        "",
        |look| look.broker.files as f64,
        0.1,
        4.0,
    ),
    judged(
        "files of the host",
        "",
        |look| look.host.files as f64,
        0.1,
        4.0,
    ),
    judged(
        "threads of the broker",
        "",
        |look| look.broker.threads as f64,
        0.1,
        2.0,
    ),
    judged(
        "threads of the host",
        "",
        |look| look.host.threads as f64,
        0.1,
        2.0,
    ),
    // The machine is shared, and time shows it.
    judged("latency, p50", "ms", |look| ms(look.p50), 0.2, 0.5),
    judged("latency, p99", "ms", |look| ms(look.p99), 0.5, 2.0),
    judged(
        "disk a task",
        "bytes",
        |look| look.bytes_per_task,
        0.1,
        16.0,
    ),
];

const fn judged(
    name: &'static str,
    unit: &'static str,
    read: fn(&Look) -> f64,
    part: f64,
    amount: f64,
) -> Judged {
    Judged {
        name,
        unit,
        read,
        part,
        amount,
    }
}

fn mib(usage: Usage) -> f64 {
    usage.resident_bytes as f64 / MIB
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn main() -> anyhow::Result<ExitCode> {
    let plan = plan()?;
    let example = guest::example("faults");
    let table = plan.out.with_extension("csv");
    let file = File::create(&table).with_context(|| format!("writing {}", table.display()))?;
    let looks = tokio::runtime::Runtime::new()?.block_on(run(&plan, &example, file))?;
    let figure = plot::svg(&figure(&plan, &looks))?;
    let out = plan.out.display();
    std::fs::write(&plan.out, figure).with_context(|| format!("writing {out}"))?;
    writeln!(io::stdout(), "{out}, {}", table.display())?;
    verdict(&looks)
}

fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan {
        minutes: 60.0,
        rate: 2_000.0,
        every: 5.0,
        seed: 1,
        out: "soak.svg".into(),
        dir: std::env::temp_dir(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        let number = || -> anyhow::Result<f64> {
            let number = value
                .parse()
                .with_context(|| format!("{flag} `{value}` is not a number"))?;
            ensure!(number > 0.0, "{flag} is {value}; it is above 0");
            Ok(number)
        };
        match flag.as_str() {
            "--minutes" => plan.minutes = number()?,
            "--rate" => plan.rate = number()?,
            "--every" => plan.every = number()?,
            "--seed" => plan.seed = number()? as u64,
            "--out" => plan.out = value.into(),
            "--dir" => plan.dir = value.into(),
            _ => bail!(
                "`{flag}` is not a flag; there are --minutes, --rate, --every (seconds), --seed, --out and --dir"
            ),
        }
    }
    ensure!(
        plan.out.extension().is_some_and(|kind| kind == "svg"),
        "--out `{}` does not end in .svg",
        plan.out.display()
    );
    Ok(plan)
}

async fn run(plan: &Plan, example: &Path, mut table: File) -> anyhow::Result<Vec<Look>> {
    let folder = tempfile::Builder::new()
        .prefix("tq-soak-")
        .tempdir_in(&plan.dir)?;
    let broker = Broker::start(&folder.path().join("broker")).await;
    let host = Host::start(&broker, &folder.path().join("host"), "soak", SLOTS).await;
    broker.tq().deploy(example, "faults", &[]).await;
    broker.tq().run(["run", "faults/echo", "warm"]).await.ok();

    writeln!(
        table,
        "seconds,submitted_per_second,ended_per_second,open,p50_us,p99_us,\
         broker_resident_bytes,broker_files,broker_threads,broker_cpu_ms,\
         host_resident_bytes,host_files,host_threads,host_cpu_ms,disk_bytes,bytes_per_task"
    )?;
    let mut load =
        Steady::start(broker.client().await, "faults/echo", plan.rate, plan.seed).await?;
    let began = Instant::now();
    let over = began + Duration::from_secs_f64(plan.minutes * 60.0);
    let (mut looks, mut submitted, mut standstill) = (Vec::new(), 0, Duration::ZERO);
    let mut last = began;
    while last < over {
        // From the last look on and not by a plan: after a standstill, looks that are late would follow on each other.
        let mut passed = load.run(last + Duration::from_secs_f64(plan.every)).await?;
        let now = Instant::now();
        let seconds = (now - last).as_secs_f64();
        last = now;
        submitted += passed.submitted;
        standstill += passed.standstill;
        let disk_bytes = folder_bytes(broker.data_dir())?;
        let look = Look {
            seconds: (now - began).as_secs_f64(),
            submitted: passed.submitted as f64 / seconds,
            ended: passed.ended as f64 / seconds,
            open: load.open(),
            p50: passed.latency(0.5),
            p99: passed.latency(0.99),
            broker: Usage::of(&broker.process)?,
            host: Usage::of(&host.process)?,
            disk_bytes,
            bytes_per_task: disk_bytes as f64 / submitted.max(1) as f64,
        };
        write(&mut table, &look)?;
        looks.push(look);
    }
    host.process.stop().await;
    broker.process.stop().await;
    if !standstill.is_zero() {
        writeln!(
            io::stdout(),
            "the machine stood still for {:.1} s in all; nothing was submitted then",
            standstill.as_secs_f64()
        )?;
    }
    Ok(looks)
}

fn write(table: &mut File, look: &Look) -> io::Result<()> {
    let Look {
        seconds,
        submitted,
        ended,
        open,
        p50,
        p99,
        broker,
        host,
        disk_bytes,
        bytes_per_task,
    } = look;
    let of = |usage: &Usage| {
        let Usage {
            resident_bytes,
            files,
            threads,
            cpu,
        } = usage;
        format!("{resident_bytes},{files},{threads},{}", cpu.as_millis())
    };
    writeln!(
        table,
        "{seconds:.1},{submitted:.1},{ended:.1},{open},{},{},{},{},{disk_bytes},{bytes_per_task:.1}",
        p50.as_micros(),
        p99.as_micros(),
        of(broker),
        of(host),
    )
}

fn figure(plan: &Plan, looks: &[Look]) -> Figure {
    let line = |name: &str, read: fn(&Look) -> f64| {
        Series::new(
            name,
            looks.iter().map(|look| (look.seconds / 60.0, read(look))),
        )
    };
    let panel = |title: &str, y: &str, series: Vec<Series>| Panel {
        title: title.to_owned(),
        x: Axis::Number("minutes".to_owned()),
        y: y.to_owned(),
        series,
    };
    Figure {
        title: format!(
            "{} minutes of {} tasks a second",
            plot::short(plan.minutes),
            plan.rate
        ),
        subtitle: format!(
            "one broker, one host of {SLOTS} slots and the load on one machine; every {} s, seed {}. \
             Ended tasks are kept for ever, so the disk is shown by the task.",
            plot::short(plan.every),
            plan.seed
        ),
        columns: 2,
        panels: vec![
            panel(
                "Resident memory",
                "MiB",
                vec![
                    line("broker", |look| mib(look.broker)),
                    line("host", |look| mib(look.host)),
                ],
            ),
            panel(
                "Latency, from due to known as ended",
                "ms",
                vec![
                    line("p99", |look| ms(look.p99)),
                    line("p50", |look| ms(look.p50)),
                ],
            ),
            panel(
                "Open file descriptors",
                "descriptors",
                vec![
                    line("broker", |look| look.broker.files as f64),
                    line("host", |look| look.host.files as f64),
                ],
            ),
            panel(
                "Threads",
                "threads",
                vec![
                    line("broker", |look| look.broker.threads as f64),
                    line("host", |look| look.host.threads as f64),
                ],
            ),
            panel(
                "Data directory, for each task submitted so far",
                "bytes a task",
                vec![line("disk", |look| look.bytes_per_task)],
            ),
            panel(
                "Tasks",
                "tasks a second",
                vec![
                    line("submitted", |look| look.submitted),
                    line("ended", |look| look.ended),
                ],
            ),
        ],
    }
}

/// Compares the medians of the first and the last third of the looks after the warm-up.
fn verdict(looks: &[Look]) -> anyhow::Result<ExitCode> {
    let judged = &looks[(looks.len() as f64 * WARM_UP).ceil() as usize..];
    let mut out = io::stdout();
    if judged.len() < LOOKS_MIN {
        writeln!(out, "{} looks are too few to say what is flat", looks.len())?;
        return Ok(ExitCode::SUCCESS);
    }
    let third = judged.len() / 3;
    let (first, last) = (&judged[..third], &judged[judged.len() - third..]);
    writeln!(
        out,
        "medians of the first and the last third, after a warm-up of {:.0} %; flat is what has not risen over the allowance",
        WARM_UP * 100.0
    )?;
    writeln!(
        out,
        "{:<24}{:>10}{:>10}{:>10}  {:<8}",
        "", "first", "last", "allowed", "unit"
    )?;
    let mut is_flat = true;
    for Judged {
        name,
        unit,
        read,
        part,
        amount,
    } in JUDGED
    {
        let (before, after) = (median(first, *read), median(last, *read));
        let allowed = before + (before * part).max(*amount);
        is_flat &= after <= allowed;
        let verdict = if after <= allowed { "flat" } else { "RISEN" };
        writeln!(
            out,
            "{name:<24}{before:>10.2}{after:>10.2}{allowed:>10.2}  {unit:<8}{verdict}"
        )?;
    }
    Ok(if is_flat {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn median(looks: &[Look], read: fn(&Look) -> f64) -> f64 {
    let mut values: Vec<f64> = looks.iter().map(read).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
