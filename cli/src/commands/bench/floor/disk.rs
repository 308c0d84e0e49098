//! The disk: what one append takes until it is there for good.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::{ROW_BYTES, best};
use crate::commands::bench::plan::Plan;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};

/// Appends of one round.
const APPENDS: u64 = 60;

/// What was measured.
pub(super) struct Disk {
    pub(super) sync_p50: Figure,
    pub(super) sync_p99: Figure,
}

pub(super) fn measure(folder: &Path, plan: &Plan) -> anyhow::Result<Disk> {
    let mut file = File::create_new(folder.join("appends"))?;
    let mut all = Samples::default();
    let sync_p50 = best(|| {
        let samples = appends(&mut file, plan.count(APPENDS));
        let mut samples = samples
            .with_context(|| format!("failed to measure syncs in `{}`", folder.display()))?;
        all.extend(samples.clone());
        Ok(Figure::time("disk.sync_p50", samples.p50()))
    })?;
    Ok(Disk {
        sync_p50,
        sync_p99: Figure::time("disk.sync_p99", all.p99()),
    })
}

fn appends(file: &mut File, count: u64) -> std::io::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let start = Stopwatch::start();
        file.write_all(&[0x5a; ROW_BYTES])?;
        file.sync_data()?;
        samples.push(start.elapsed());
    }
    Ok(samples)
}
