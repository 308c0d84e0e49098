//! `tq task bulk`

use anyhow::bail;
use serde_json::json;
use tq_client::Bulk;

use super::list::search;
use crate::args::{BulkArg, TaskBulkArgs};
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};
use crate::units::Count;

pub(crate) async fn run(config: &Config, args: TaskBulkArgs) -> anyhow::Result<Exit> {
    let TaskBulkArgs {
        action,
        which,
        priority,
        dry_run,
    } = args;
    let bulk = match (action, priority) {
        (BulkArg::Cancel, None) => Bulk::Cancel,
        (BulkArg::Retry, None) => Bulk::Retry,
        (BulkArg::Redrive, None) => Bulk::Redrive,
        (BulkArg::Reprioritise, priority) => Bulk::Reprioritise(priority.unwrap_or_default()),
        (BulkArg::Delete, None) => Bulk::Delete,
        (_, Some(_)) => bail!("--priority goes with `reprioritise` alone"),
    };
    let search = search(which, None, None);
    let client = connect(config).await?;
    // Counted first: so that there is an end to get to, and so that it is settled which tasks they are before anything is done.
    let (mut total, mut as_of, mut next) = (0, None, String::new());
    loop {
        let counted = client
            .apply_to_tasks(&search, bulk, true, as_of, &next)
            .await?;
        total += u64::from(counted.applied);
        as_of = Some(counted.as_of_ms);
        next = counted.next;
        if next.is_empty() {
            break;
        }
    }
    if dry_run {
        return say(
            config,
            action,
            &Done {
                applied: total,
                skipped: 0,
                dry_run,
            },
        );
    }
    let bar = output::task_bar(total);
    let (mut applied, mut skipped) = (0, 0);
    loop {
        let done = client
            .apply_to_tasks(&search, bulk, false, as_of, &next)
            .await;
        let done = done.inspect_err(|_| {
            bar.finish_and_clear();
            output::note(format!(
                "{} of {} {}; the same command goes on with the others",
                Count(applied),
                Count(total),
                past(action)
            ));
        })?;
        applied += u64::from(done.applied);
        skipped += u64::from(done.skipped);
        bar.inc(u64::from(done.applied + done.skipped));
        next = done.next;
        if next.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    say(
        config,
        action,
        &Done {
            applied,
            skipped,
            dry_run,
        },
    )
}

struct Done {
    applied: u64,
    skipped: u64,
    dry_run: bool,
}

fn say(config: &Config, action: BulkArg, done: &Done) -> anyhow::Result<Exit> {
    let Done {
        applied,
        skipped,
        dry_run,
    } = *done;
    match config.output.value {
        Format::Json => {
            json::print(&json!({"applied": applied, "skipped": skipped, "dry_run": dry_run}))?;
        }
        Format::Table => {
            let tasks = if applied == 1 { "task" } else { "tasks" };
            let would = if dry_run { "would be " } else { "" };
            let left = match skipped {
                0 => String::new(),
                skipped => format!(", {} left as they had become since", Count(skipped)),
            };
            let what = past(action);
            output::line(format!("{} {tasks} {would}{what}{left}", Count(applied)))?;
        }
    }
    Ok(Exit::Succeeded)
}

fn past(action: BulkArg) -> &'static str {
    match action {
        BulkArg::Cancel => "cancelled",
        BulkArg::Retry => "retried",
        BulkArg::Redrive => "redriven",
        BulkArg::Reprioritise => "reprioritised",
        BulkArg::Delete => "deleted",
    }
}
