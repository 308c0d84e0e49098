//! The store: durable commits of rows as large as a task's, by one writer, with nobody to be answered.

use std::path::Path;

use tq_broker::store::{Batch, Committed, Key, Level, OpenOptions, Space, Store as _, open};

use super::{ROW_BYTES, SPAN, best};
use crate::commands::bench::plan::Plan;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::Stopwatch;
use crate::exit::{Exit, Failure};

/// Rows of one commit.
const BATCHES: [u64; 3] = [1, 100, 1_000];

pub(super) fn measure(folder: &Path, plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut store = open(folder, &OpenOptions::default())?;
    let row = vec![0x5a; ROW_BYTES];
    let mut next: u64 = 0;
    let mut figures = Vec::new();
    for rows in BATCHES {
        let id = format!("store.rows_per_second_by_{rows}");
        figures.push(best(|| {
            let start = Stopwatch::start();
            let first = next;
            while start.elapsed() < plan.span(SPAN) {
                let mut batch = Batch::new();
                for _ in 0..rows {
                    next += 1;
                    // Keys of tasks rise too.
                    batch.put(Key::new(Space::Calls, next.to_be_bytes()), row.clone());
                }
                match store.commit(batch, Level::Disk)? {
                    Committed::Yes(_) => {}
                    Committed::No | Committed::Unknown(_) => {
                        let message = "the store did not take a commit of the measurement";
                        return Err(Failure::new(Exit::Ended, message).into());
                    }
                }
            }
            Ok(Figure::rate(id.clone(), next - first, start.elapsed()))
        })?);
    }
    Box::new(store).close()?;
    Ok(figures)
}
