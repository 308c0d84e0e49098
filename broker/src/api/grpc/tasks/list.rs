//! Listing tasks that a search finds, page by page.

use tonic::Status;
use tq_core::Timestamp;
use tq_proto::v1;

use super::Tasks;
use crate::api::grpc::Context;
use crate::api::grpc::blocking::blocking;
use crate::api::grpc::convert;
use crate::api::grpc::reads::Reads;
use crate::api::status::{ApiError, invalid};
use crate::search::{self, Asked, Budget, Cursor, Filter, Found, Page, Search, States};

/// Reads a search, and where it goes on.
pub(super) fn read(
    asked: &Asked<'_>,
    narrow: impl FnOnce(Timestamp) -> Filter,
    cursor: &str,
    now: Timestamp,
) -> Result<(Search, Option<Cursor>), Status> {
    let cursor = match cursor {
        "" => None,
        text => Some(Cursor::decode(text).map_err(invalid)?),
    };
    let search = Search::new(asked, narrow, cursor.as_ref(), now);
    Ok((search.map_err(invalid)?, cursor))
}

/// The states that a request names.
pub(super) fn states(state: v1::TaskState) -> States {
    match state {
        v1::TaskState::Unspecified => States::ALL,
        v1::TaskState::Blocked => States::BLOCKED,
        v1::TaskState::Scheduled => States::SCHEDULED,
        v1::TaskState::Ready => States::READY,
        v1::TaskState::Running => States::RUNNING,
        v1::TaskState::Succeeded => States::SUCCEEDED,
        v1::TaskState::Dead => States::DEAD,
        v1::TaskState::Cancelled => States::CANCELLED,
        v1::TaskState::Expired => States::EXPIRED,
    }
}

/// A task that was found, as it is shown.
pub(super) fn shown(found: &Found) -> v1::Task {
    v1::Task {
        result_expired_ms: found.beside.result_gone.map_or(0, |at| at.0),
        ..convert::task_out(&found.task)
    }
}

impl Tasks {
    /// A page of tasks.
    pub(super) async fn list(
        &self,
        namespace: &str,
        state: v1::TaskState,
        asked: Asked<'_>,
        cursor: &str,
        limit: usize,
    ) -> Result<v1::ListTasksResponse, Status> {
        let narrow = |_| Filter::of_states(states(state));
        let (search, cursor) = read(&asked, narrow, cursor, self.now())?;
        let make = |page: Page| v1::ListTasksResponse {
            tasks: page.found.iter().map(shown).collect(),
            next: page.next.map(|next| next.encode()).unwrap_or_default(),
        };
        self.0.search(namespace, search, cursor, limit, make).await
    }
}

impl Context {
    /// What is made of a page of what a search finds, after a bounded number of looks. All of it is on disk then.
    pub(super) async fn search<T: Send + 'static>(
        &self,
        namespace: &str,
        search: Search,
        cursor: Option<Cursor>,
        max: usize,
        make: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Status> {
        // Each keeps a processor busy for a while.
        let permit = self.searches.acquire().await;
        let permit = permit.map_err(|_| Status::unavailable("the broker is stopping"))?;
        let reads = Reads::new(self, namespace);
        let made = blocking(move || Ok(make(reads.search(&search, cursor.as_ref(), max)?))).await?;
        drop(permit);
        self.ledger.on_disk().await.map_err(ApiError::from)?;
        Ok(made)
    }
}

impl Reads {
    /// A page of what a search finds.
    fn search(
        &self,
        search: &Search,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page, ApiError> {
        let Some(namespace) = self.namespace else {
            return Ok(Page {
                found: Vec::new(),
                next: None,
            });
        };
        let claim = |id| self.shared.claim(id);
        let budget = Budget::REQUEST;
        search::scan(&*self.store, namespace, &claim, search, cursor, max, budget)
    }
}
