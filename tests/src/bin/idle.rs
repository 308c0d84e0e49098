//! What nodes do when there is nothing to do: `idle [--seconds N]`. Starts `tq dev`, and then a broker and a host of their own,
//! each on an empty data directory; runs one task on them, and counts what each thread does from then on. Fails if
//! anything wakes that heartbeats do not explain. `cargo xtask evidence idle` calls it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tq_core::limits::HEARTBEAT;
use tq_tests::{Broker, Dev, Host, Process, Tq, guest, only_number};

/// What follows a task is over after this: acknowledgements, and the mark that follows the last commit.
const SETTLED: Duration = Duration::from_secs(3);
/// Wake-ups that one heartbeat may take in one process: the timer that fires, on its way through the wheel of timers, and
/// the threads of the run time that hand the socket over to each other.
const WAKES_A_HEARTBEAT: u64 = 20;

fn main() -> anyhow::Result<ExitCode> {
    let seconds = only_number("--seconds", 10)?;
    let example = guest::example("faults");
    let span = Duration::from_secs(seconds);
    let beats = u64::try_from(span.as_nanos() / HEARTBEAT.as_nanos())? + 1;
    let runtime = tokio::runtime::Runtime::new()?;
    let is_idle = runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let dev = Dev::start(&folder.path().join("dev"), 4).await;
        run_one(&dev.tq(), &example).await;
        let mut is_idle = watch(&[("tq dev", &dev.process)], span, beats).await?;
        dev.process.stop().await;

        let broker = Broker::start(&folder.path().join("broker")).await;
        let host = Host::start(&broker, &folder.path().join("host"), "idle", 4).await;
        run_one(&broker.tq(), &example).await;
        let nodes = [("tq broker", &broker.process), ("tq host", &host.process)];
        is_idle &= watch(&nodes, span, beats).await?;
        host.process.stop().await;
        broker.process.stop().await;
        anyhow::Ok(is_idle)
    })?;
    Ok(if is_idle {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run_one(tq: &Tq, example: &std::path::Path) {
    tq.deploy(example, "faults", &[]).await;
    tq.run(["run", "faults/echo", "once"]).await.ok();
}

/// What a thread has done since it started.
#[derive(Clone, Copy, Default)]
struct Done {
    /// Times that it waited and was woken: voluntary context switches.
    wakes: u64,
    /// Times that something else took its processor: involuntary ones.
    preempted: u64,
    on_cpu: Duration,
}

/// What threads of one name have done together.
#[derive(Default)]
struct Group {
    threads: u64,
    done: Done,
}

/// Counts what the processes do for `span`, prints it, and says whether heartbeats explain it.
async fn watch(nodes: &[(&str, &Process)], span: Duration, beats: u64) -> anyhow::Result<bool> {
    tokio::time::sleep(SETTLED).await;
    let threads_of = |nodes: &[(&str, &Process)]| -> anyhow::Result<Vec<_>> {
        nodes.iter().map(|(_, node)| threads(node.pid())).collect()
    };
    let before = threads_of(nodes)?;
    tokio::time::sleep(span).await;
    let after = threads_of(nodes)?;

    let mut stdout = io::stdout();
    let mut is_idle = true;
    for (((name, node), before), after) in nodes.iter().zip(before).zip(after) {
        writeln!(
            stdout,
            "\n{name}: {} s with nothing to do, {:.1} MiB resident\n{:<24}{:>8}{:>8}{:>11}{:>10}",
            span.as_secs(),
            resident_kib(node.pid())? as f64 / 1024.0,
            "thread",
            "threads",
            "woken",
            "preempted",
            "CPU ms"
        )?;
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for (id, (thread, after)) in after {
            // A thread that is new has done all of it meanwhile.
            let before = before.get(&id).map(|(_, done)| *done).unwrap_or_default();
            let group = groups.entry(without_number(&thread)).or_default();
            group.threads += 1;
            group.done.wakes += after.wakes - before.wakes;
            group.done.preempted += after.preempted - before.preempted;
            group.done.on_cpu += after.on_cpu.saturating_sub(before.on_cpu);
        }
        for (thread, Group { threads, done }) in groups {
            let allowed = match thread.as_str() {
                "tokio-rt-worker" => beats * WAKES_A_HEARTBEAT,
                // It hears that the host lives.
                "ledger" => beats,
                _ => 0,
            };
            let verdict = if done.wakes > allowed {
                is_idle = false;
                format!("   over {allowed}")
            } else {
                String::new()
            };
            writeln!(
                stdout,
                "{thread:<24}{threads:>8}{:>8}{:>11}{:>10.2}{verdict}",
                done.wakes,
                done.preempted,
                done.on_cpu.as_secs_f64() * 1e3
            )?;
        }
    }
    Ok(is_idle)
}

/// What each thread of a process has done, by its id.
fn threads(pid: u32) -> anyhow::Result<BTreeMap<u64, (String, Done)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = entry?.path();
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let status = read("status")?;
        let number = |name: &str| -> anyhow::Result<u64> { Ok(field(&status, name)?.parse()?) };
        // The first number is the time on a processor in nanoseconds; `stat` has it in hundredths of a second.
        let schedule = read("schedstat")?;
        let on_cpu = schedule.split(' ').next().unwrap_or_default();
        let done = Done {
            wakes: number("voluntary_ctxt_switches")?,
            preempted: number("nonvoluntary_ctxt_switches")?,
            on_cpu: Duration::from_nanos(on_cpu.parse()?),
        };
        let id = number("Pid")?;
        found.insert(id, (field(&status, "Name")?.to_owned(), done));
    }
    Ok(found)
}

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = field(&status, "VmRSS")?;
    Ok(resident.trim_end_matches(" kB").parse()?)
}

/// The value of `Name:\tvalue`.
fn field<'a>(status: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let value = status.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found == name).then(|| value.trim())
    });
    value.with_context(|| format!("the status of a thread has no `{name}`"))
}

/// `tq-slot-3` as `tq-slot`.
fn without_number(name: &str) -> String {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name.trim_end_matches('-').to_owned()
}
