//! What nothing that is durable can be faster than, on this machine.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use tq_client::{Client, Error};

use super::{Stopwatch, percentile};

/// About what one small task writes.
const APPEND_BYTES: usize = 300;
const APPENDS: usize = 200;
const ROUND_TRIPS: usize = 500;
/// A well-formed id that no task has.
const NO_TASK: &str = "00000000-0000-7000-8000-000000000000";

/// The floors, in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Floors {
    /// Appending 300 bytes to a file and syncing its data.
    pub(crate) sync_p50_ns: u64,
    pub(crate) sync_p99_ns: u64,
    /// One unary call: asking for a task that is not there.
    pub(crate) round_trip_p50_ns: u64,
    pub(crate) round_trip_p99_ns: u64,
}

impl Floors {
    pub(crate) async fn measure(client: &Client, folder: &Path) -> anyhow::Result<Self> {
        let mut syncs = tokio::task::block_in_place(|| syncs(folder))
            .with_context(|| format!("failed to measure syncs in `{}`", folder.display()))?;
        let mut trips = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let start = Stopwatch::start();
            match client.task(NO_TASK, false, false).await {
                Err(Error::NotFound { .. }) | Ok(_) => trips.push(start.nanos()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            sync_p50_ns: percentile(&mut syncs, 0.5),
            sync_p99_ns: percentile(&mut syncs, 0.99),
            round_trip_p50_ns: percentile(&mut trips, 0.5),
            round_trip_p99_ns: percentile(&mut trips, 0.99),
        })
    }
}

fn syncs(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut file = File::create_new(folder.join("floor"))?;
    let mut samples = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let start = Stopwatch::start();
        file.write_all(&[0x5a; APPEND_BYTES])?;
        file.sync_data()?;
        samples.push(start.nanos());
    }
    Ok(samples)
}
