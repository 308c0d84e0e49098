//! Finding tasks, exporting them, and doing one thing to all of them.

use futures_util::{Stream, StreamExt as _};
use tq_proto::v1::{
    ApplyToTasksRequest, ApplyToTasksResponse, ExportFormat, ExportTasksRequest, ListTasksRequest,
    ListTasksResponse, TaskAction, TaskState,
};

use crate::patience::Patience;
use crate::{Client, Error};

/// Which tasks, and in which order. What is empty or none is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSearch {
    /// In this state.
    pub state: Option<TaskState>,
    /// In the language of filters, such as `module = mail AND duration > 5s`.
    pub filter: String,
    /// A filter and a sort that have a name, such as `failed_today`.
    pub preset: String,
    /// Such as `-ended`.
    pub sort: String,
}

/// What is done to tasks that are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// Those that have not ended are cancelled.
    Cancel,
    /// Those that wait for a time become ready at once.
    Retry,
    /// Those that ended without success get another round of attempts.
    Redrive,
    /// Those that have not ended get another priority, 0 to 255.
    Reprioritise(u8),
    /// Those that have ended are removed.
    Delete,
}

impl TaskSearch {
    /// The filter, with the state in it.
    fn whole_filter(&self) -> String {
        let Some(state) = self.state else {
            return self.filter.clone();
        };
        let name = state.as_str_name().trim_start_matches("TASK_STATE_");
        let state = format!("state = {}", name.to_lowercase());
        match self.filter.trim().is_empty() {
            true => state,
            false => format!("{state} AND ({})", self.filter),
        }
    }
}

impl Client {
    /// One page of tasks that a search finds, without results. `limit` is at most 1,000; `cursor` is the `next` of the page
    /// before, or empty. A page may have fewer tasks than asked for, or none, and yet a next one.
    ///
    /// # Errors
    /// [`Error::Refused`] for a search that cannot be read and a cursor that is none of it, [`Error::Unreachable`].
    pub async fn search_page(
        &self,
        search: &TaskSearch,
        limit: u32,
        cursor: &str,
    ) -> Result<ListTasksResponse, Error> {
        let TaskSearch {
            state,
            filter,
            preset,
            sort,
        } = search.clone();
        let request = ListTasksRequest {
            namespace: self.namespace.to_string(),
            state: state.unwrap_or_default().into(),
            limit,
            cursor: cursor.to_owned(),
            filter,
            preset,
            sort,
        };
        let answer = self.tasks().list_tasks(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// All tasks that a filter, a preset or both take, as lines of CSV or JSON: whole lines at a time. Sorted by `submitted` or
    /// `ended`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a search that cannot be read or a sort that an export has not, [`Error::Unreachable`]; later ones come
    /// in the stream.
    pub async fn export_tasks(
        &self,
        search: &TaskSearch,
        format: ExportFormat,
    ) -> Result<impl Stream<Item = Result<bytes::Bytes, Error>> + use<>, Error> {
        let request = ExportTasksRequest {
            namespace: self.namespace.to_string(),
            filter: search.whole_filter(),
            preset: search.preset.clone(),
            sort: search.sort.clone(),
            format: format.into(),
        };
        let answer = self.tasks().export_tasks(request).await;
        let lines = answer.map_err(|status| self.refusal(&status))?.into_inner();
        let client = self.clone();
        Ok(lines.map(move |lines| match lines {
            Ok(lines) => Ok(lines.data),
            Err(status) => Err(client.refusal(&status)),
        }))
    }

    /// Does one thing to tasks that a search takes, in whatever order, as many as one request may; or, in a dry run, counts them. An
    /// answer with a `next` is to be followed by another call, with that as its cursor; the first has an empty one. `as_of_ms` is
    /// what the answer to a dry run says, or none for now.
    ///
    /// With a cursor or `as_of_ms` the call is made again for up to a minute when the broker is away: nothing is done twice.
    ///
    /// # Errors
    /// [`Error::Refused`] for a search that cannot be read, [`Error::Unreachable`].
    pub async fn apply_to_tasks(
        &self,
        search: &TaskSearch,
        bulk: Bulk,
        dry_run: bool,
        as_of_ms: Option<u64>,
        cursor: &str,
    ) -> Result<ApplyToTasksResponse, Error> {
        let (action, priority) = match bulk {
            Bulk::Cancel => (TaskAction::Cancel, None),
            Bulk::Retry => (TaskAction::Retry, None),
            Bulk::Redrive => (TaskAction::Redrive, None),
            Bulk::Reprioritise(priority) => (TaskAction::Reprioritise, Some(priority)),
            Bulk::Delete => (TaskAction::Delete, None),
        };
        let request = ApplyToTasksRequest {
            namespace: self.namespace.to_string(),
            filter: search.whole_filter(),
            preset: search.preset.clone(),
            action: action.into(),
            priority: priority.map(u32::from),
            dry_run,
            cursor: cursor.to_owned(),
            as_of_ms,
        };
        let is_repeatable = dry_run || as_of_ms.is_some() || !cursor.is_empty();
        let mut patience = Patience::new();
        loop {
            let answer = self.tasks().apply_to_tasks(request.clone()).await;
            match answer.map_err(|status| self.refusal(&status)) {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(error) if is_repeatable => patience.after(error).await?,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_a_search_is_in_its_filter() {
        let whole = |state, filter: &str| {
            let search = TaskSearch {
                state,
                filter: filter.to_owned(),
                ..TaskSearch::default()
            };
            search.whole_filter()
        };
        let dead = Some(TaskState::Dead);
        assert_eq!(
            whole(None, "module = a OR module = b"),
            "module = a OR module = b"
        );
        assert_eq!(whole(dead, " "), "state = dead");
        assert_eq!(
            whole(dead, "module = a OR module = b"),
            "state = dead AND (module = a OR module = b)"
        );
    }
}
