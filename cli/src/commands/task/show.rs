//! `tq task show`

use tq_client::{BreakerState, Client, Task, TaskState};

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

pub(crate) async fn run(config: &Config, id: &str, with_payload: bool) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let task = client.task(id, true, with_payload).await?;
    match config.output.value {
        Format::Table => {
            table::print_task(&task)?;
            say_what_holds_it(&client, &task).await;
            say_which_quota_holds_it(&client, &task).await;
        }
        Format::Json => json::print(&json::Task::from(&task))?,
    }
    Ok(Exit::Succeeded)
}

/// Says so if a task is ready and its function's breaker holds it back: nothing about the task itself shows that.
async fn say_what_holds_it(client: &Client, task: &Task) {
    let Some((module, function)) = task.function.split_once('/') else {
        return;
    };
    if task.state() != TaskState::Ready {
        return;
    }
    let function = format!("{module}@{}/{function}", task.module_version);
    // The task was shown; a module that is gone meanwhile has no breaker to speak of.
    let Ok(breaker) = client.breaker(&function).await else {
        return;
    };
    let state = breaker.state();
    if state == BreakerState::Open || state == BreakerState::HalfOpen {
        let state = json::breaker_state(state);
        output::note(format!(
            "it waits: the circuit breaker of `{function}` is {state}; `tq breaker show {function}` says why"
        ));
    }
}

/// Likewise, if its namespace has as much as its quotas let it have.
async fn say_which_quota_holds_it(client: &Client, task: &Task) {
    if task.state() != TaskState::Ready {
        return;
    }
    // The task was shown; whoever may not look at the settings is told no more.
    let Ok(settings) = client.namespace_settings(client.namespace()).await else {
        return;
    };
    let (namespace, quota_use) = (settings.name, settings.quota_use);
    let budget = settings.quotas.and_then(|quotas| quotas.fuel_per_day);
    let fuel = task.limits.map_or(0, |limits| limits.fuel);
    let reason = match budget.filter(|budget| fuel > *budget) {
        Some(budget) => Some(format!(
            "an attempt may use {fuel} fuel, which is more than the whole budget of its namespace, {budget} a day, so that it never starts under it"
        )),
        None => quota_use.map(|used| used.reason),
    };
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        let reason = output::escaped(&reason);
        output::note(format!(
            "it waits: {reason}; `tq namespace show {namespace}` shows its quotas"
        ));
    }
}
