//! The disk: what one append takes until it is there for good.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::ROW_BYTES;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};

const APPENDS: usize = 200;

/// What was measured.
pub(super) struct Disk {
    pub(super) sync_p50: Figure,
    pub(super) sync_p99: Figure,
}

pub(super) fn measure(folder: &Path) -> anyhow::Result<Disk> {
    let mut samples = appends(&folder.join("appends"))
        .with_context(|| format!("failed to measure syncs in `{}`", folder.display()))?;
    Ok(Disk {
        sync_p50: Figure::time("disk.sync_p50", samples.p50()),
        sync_p99: Figure::time("disk.sync_p99", samples.p99()),
    })
}

fn appends(path: &Path) -> std::io::Result<Samples> {
    let mut file = File::create_new(path)?;
    let mut samples = Samples::default();
    for _ in 0..APPENDS {
        let start = Stopwatch::start();
        file.write_all(&[0x5a; ROW_BYTES])?;
        file.sync_data()?;
        samples.push(start.elapsed());
    }
    Ok(samples)
}
