//! `tq bench`

mod floor;
mod measure;
mod nodes;
mod setting;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use serde::Serialize;
use tq_client::{Client, Component, Upload};

use self::floor::Floors;
use self::measure::{Amount, Latency, Throughput};
use self::nodes::Nodes;
use self::setting::Setting;
use crate::args::BenchArgs;
use crate::commands::connect;
use crate::config::{Config, Origin};
use crate::exit::Exit;
use crate::output::{self, Format, json, table};
use crate::units::{Count, nanoseconds};

/// A component that returns its payload: `bench/echo.wat`, assembled.
const ECHO: &[u8] = include_bytes!("../../../bench/echo.wasm");
/// The module's name.
const MODULE: &str = "tq-bench-echo";

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    setting: Setting,
    floors: Floors,
    throughput: Throughput,
    latency: Latency,
    /// The 50th percentile of the latency over the least that a durable call can take here: two synced appends (its submit and
    /// its settlement) and two round trips (client to broker, broker to host).
    latency_p50_over_floor: f64,
    /// Tasks in the time of one synced append: how well submits and settlements share their syncs.
    tasks_per_sync: f64,
}

pub(crate) async fn run(config: &Config, args: BenchArgs) -> anyhow::Result<Exit> {
    let BenchArgs {
        tasks,
        seconds,
        dir,
    } = args;
    let amount = match seconds {
        Some(seconds) => Amount::Time(Duration::from_secs(seconds.into())),
        None => Amount::Tasks(tasks.into()),
    };
    let base = dir.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("tq-bench-")
        .tempdir_in(&base)
        .with_context(|| format!("failed to make a folder in `{}`", base.display()))?;
    let report = match config.broker.origin {
        Origin::Default => {
            let mut nodes = Nodes::start(folder.path(), config.host_slots.value).await?;
            let client = Client::connect(nodes.url()).await?;
            let report = tokio::select! {
                report = measure(&client, folder.path(), amount, Some(config.host_slots.value)) => report,
                error = nodes.failed() => Err(error),
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    nodes.stop().await?;
                    return Ok(Exit::Interrupted);
                }
            };
            nodes.stop().await?;
            report?
        }
        Origin::Flag | Origin::Variable(_) | Origin::File(_) => {
            let client = connect(config).await?;
            // A namespace of its own, so that its watch sees nobody else's tasks.
            let namespace = format!("bench-{}-{}", std::process::id(), crate::units::now_ms());
            measure(
                &client.with_namespace(&namespace),
                folder.path(),
                amount,
                None,
            )
            .await?
        }
    };
    match config.output.value {
        Format::Json => json::print(&report)?,
        Format::Table => print(&report)?,
    }
    Ok(Exit::Succeeded)
}

async fn measure(
    client: &Client,
    folder: &Path,
    amount: Amount,
    slots: Option<u32>,
) -> anyhow::Result<Report> {
    let setting = Setting::of_this_machine(folder, slots, client.url());
    let upload = Upload {
        name: MODULE.to_owned(),
        ..Upload::default()
    };
    client
        .upload_module(
            Component::from_bytes(Bytes::from_static(ECHO))?,
            upload,
            |_| {},
        )
        .await?;
    let spinner = output::spinner("measuring the floors");
    let floors = Floors::measure(client, folder).await?;
    spinner.set_message("measuring latency");
    let latency = measure::latency(client).await?;
    spinner.finish_and_clear();
    let throughput = measure::throughput(client, amount).await?;
    let floor_ns = 2 * (floors.sync_p50_ns + floors.round_trip_p50_ns);
    Ok(Report {
        latency_p50_over_floor: latency.p50_ns as f64 / floor_ns.max(1) as f64,
        tasks_per_sync: throughput.tasks_per_second * floors.sync_p50_ns as f64 / 1e9,
        setting,
        floors,
        throughput,
        latency,
    })
}

fn print(report: &Report) -> anyhow::Result<()> {
    let Report {
        setting,
        floors,
        throughput,
        latency,
        latency_p50_over_floor,
        tasks_per_sync,
    } = report;
    setting.print()?;
    output::line("")?;
    let row = |what: &str, value: String, floor: String| [what.to_owned(), value, floor];
    table::print(
        ["measured", "value", "beside the floor"],
        [
            row(
                "synced append of 300 bytes, p50",
                nanoseconds(floors.sync_p50_ns),
                "(a floor)".to_owned(),
            ),
            row(
                "synced append of 300 bytes, p99",
                nanoseconds(floors.sync_p99_ns),
                String::new(),
            ),
            row(
                "round trip to the broker, p50",
                nanoseconds(floors.round_trip_p50_ns),
                "(a floor)".to_owned(),
            ),
            row(
                "round trip to the broker, p99",
                nanoseconds(floors.round_trip_p99_ns),
                String::new(),
            ),
            row(
                "one task at a time, p50",
                nanoseconds(latency.p50_ns),
                format!("{latency_p50_over_floor:.1} × two syncs and two round trips"),
            ),
            row(
                "one task at a time, p99",
                nanoseconds(latency.p99_ns),
                String::new(),
            ),
            row(
                "durable tasks per second",
                Count(throughput.tasks_per_second as u64).to_string(),
                format!("{tasks_per_sync:.1} tasks in the time of one sync"),
            ),
            row("tasks", Count(throughput.tasks).to_string(), String::new()),
            row(
                "submit of a batch acknowledged, p50",
                nanoseconds(throughput.submit_p50_ns),
                String::new(),
            ),
            row(
                "submit of a batch acknowledged, p99",
                nanoseconds(throughput.submit_p99_ns),
                String::new(),
            ),
        ],
    )
}

/// The value that this share of the samples does not exceed; 0 without samples.
fn percentile(samples: &mut [u64], share: f64) -> u64 {
    samples.sort_unstable();
    let rank = (samples.len() as f64 * share).ceil() as usize;
    samples.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// A watch that was started. The one clock of the measurement.
#[derive(Clone, Copy)]
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a measurement is about real time"
    )]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    fn nanos(self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_component_is_the_text_assembled() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/echo.wat");
        let assembled = wat::parse_file(&path).expect("the text is valid");
        let committed = path.with_extension("wasm");
        if std::env::var_os("TQ_BLESS").is_some() {
            std::fs::write(&committed, &assembled).expect("the tree can be written");
            return;
        }
        assert!(
            assembled == ECHO,
            "bench/echo.wasm is stale; run this test with TQ_BLESS=1"
        );
    }

    #[track_caller]
    fn check(samples: &[u64], share: f64, expected: u64) {
        assert_eq!(percentile(&mut samples.to_vec(), share), expected);
    }

    #[test]
    fn percentiles_are_samples() {
        check(&[], 0.5, 0);
        check(&[7], 0.99, 7);
        check(&[4, 1, 3, 2], 0.5, 2);
        check(&[4, 1, 3, 2], 1.0, 4);
        let hundred: Vec<u64> = (1..=100).collect();
        check(&hundred, 0.99, 99);
    }
}
