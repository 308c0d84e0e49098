//! `tq submit`

use std::io;
use std::pin::pin;
use std::time::Duration;

use tq_client::NewTask;

use crate::args::SubmitArgs;
use crate::commands::{call, connect, task};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

/// How long a broker may take before it is said that it is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn run(config: &Config, args: SubmitArgs) -> anyhow::Result<Exit> {
    let SubmitArgs {
        call,
        count,
        delay,
        run_at,
        wait,
    } = args;
    let task = NewTask {
        delay_ms: delay.map(|span| span.0),
        run_at_ms: run_at.map(|moment| moment.0),
        ..call::task(call)?
    };
    let client = connect(config).await?;
    let mut ids = Vec::new();
    let mut made = Vec::new();
    let mut printed = Ok(());
    let sending = client.submit_many(tasks(task, count), |submitted| {
        match config.output.value {
            // As they come: an id that is printed is a task on disk, whatever happens to the next batch.
            Format::Table if printed.is_ok() => {
                printed = print_ids(submitted.iter().map(|task| task.id.as_str()));
            }
            Format::Table => {}
            Format::Json => made.extend(submitted.iter().map(|task| json::Submitted {
                id: task.id.clone(),
                existed: task.existed,
            })),
        }
        if wait {
            ids.extend(submitted.into_iter().map(|task| task.id));
        }
    });
    let sent = with_note(sending).await;
    if config.output.value == Format::Json {
        json::print(&made)?;
    }
    sent?;
    printed?;
    if wait {
        return task::wait::until_ended(config, &client, ids).await;
    }
    Ok(Exit::Succeeded)
}

/// Waits, and says so if it takes long: a broker that is overloaded, or away, is asked again.
async fn with_note<T>(sending: impl Future<Output = T>) -> T {
    let mut sending = pin!(sending);
    match tokio::time::timeout(PATIENCE, &mut sending).await {
        Ok(sent) => sent,
        Err(_) => {
            output::note("not everything is submitted yet; going on as the broker takes it in");
            sending.await
        }
    }
}

fn print_ids<'a>(ids: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let mut text = String::new();
    for id in ids {
        text.push_str(id);
        text.push('\n');
    }
    output::data(text.as_bytes())
}

/// The task, `count` times over if that is given; then each has a key of its own, so that a repeated submit finds each again.
fn tasks(task: NewTask, count: Option<u32>) -> impl Iterator<Item = NewTask> {
    let key = task.idempotency_key.clone();
    (0..count.unwrap_or(1)).map(move |index| NewTask {
        idempotency_key: match count {
            Some(_) if !key.is_empty() => format!("{key}-{index}"),
            _ => key.clone(),
        },
        ..task.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, count: Option<u32>, expected: &[&str]) {
        let task = NewTask {
            idempotency_key: key.to_owned(),
            ..NewTask::default()
        };
        let keys: Vec<String> = tasks(task, count)
            .map(|task| task.idempotency_key)
            .collect();
        assert_eq!(keys, expected);
    }

    #[test]
    fn several_tasks_have_keys_of_their_own() {
        check("k", None, &["k"]);
        check("k", Some(1), &["k-0"]);
        check("k", Some(3), &["k-0", "k-1", "k-2"]);
        check("", Some(2), &["", ""]);
    }
}
