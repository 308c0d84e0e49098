//! `tq task list`

use clap::ValueEnum as _;
use tq_client::{ListTasksResponse, TaskSearch, TaskState};
use tq_core::limits::LIST_PAGE_MAX;

use crate::args::{FilterArgs, StateArg, TaskListArgs};
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

pub(crate) async fn run(config: &Config, args: TaskListArgs) -> anyhow::Result<Exit> {
    let TaskListArgs {
        which,
        state,
        sort,
        limit,
        all,
        cursor,
    } = args;
    let client = connect(config).await?;
    let search = search(which, state, sort);
    let mut wanted = if all { u32::MAX } else { limit };
    let mut next = cursor.unwrap_or_default();
    let mut tasks = Vec::new();
    // Pages may be short or empty, and yet have a next one.
    loop {
        let page_limit = wanted.min(u32::try_from(LIST_PAGE_MAX).unwrap_or(u32::MAX));
        let page = client.search_page(&search, page_limit, &next).await?;
        let ListTasksResponse {
            tasks: found,
            next: further,
        } = page;
        wanted = wanted.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        next = further;
        match config.output.value {
            // Everything there is may be more than fits into memory, and into the widths of one table.
            Format::Table if all => table::print_tasks(&found)?,
            Format::Table | Format::Json => tasks.extend(found),
        }
        if wanted == 0 || next.is_empty() {
            break;
        }
    }
    match config.output.value {
        Format::Json => json::print(&json::TaskList::new(&tasks, &next))?,
        Format::Table if all => {}
        Format::Table => {
            table::print_tasks(&tasks)?;
            if !next.is_empty() {
                output::note(format!("there are more; go on with --cursor {next}"));
            }
        }
    }
    Ok(Exit::Succeeded)
}

/// A search as it was typed.
pub(super) fn search(
    which: FilterArgs,
    state: Option<StateArg>,
    sort: Option<String>,
) -> TaskSearch {
    let FilterArgs { filter, preset } = which;
    // Its name here is the broker's.
    let preset = preset.and_then(|preset| preset.to_possible_value());
    TaskSearch {
        state: state.map(wire),
        filter: filter.unwrap_or_default(),
        preset: preset.map_or(String::new(), |preset| preset.get_name().to_owned()),
        sort: sort.unwrap_or_default(),
    }
}

fn wire(state: StateArg) -> TaskState {
    match state {
        StateArg::Blocked => TaskState::Blocked,
        StateArg::Scheduled => TaskState::Scheduled,
        StateArg::Ready => TaskState::Ready,
        StateArg::Running => TaskState::Running,
        StateArg::Succeeded => TaskState::Succeeded,
        StateArg::Dead => TaskState::Dead,
        StateArg::Cancelled => TaskState::Cancelled,
        StateArg::Expired => TaskState::Expired,
    }
}
