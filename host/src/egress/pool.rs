//! Connections that wait for their next request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tq_core::grant::Destination;
use tq_core::limits::{HTTP_IDLE_MAX, HTTP_IDLE_TIME};

use super::connect::Connection;

/// Who may use a connection, and for what: the same namespace, for the same destination, at the address that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) destination: Destination,
    pub(super) address: SocketAddr,
}

/// Idle connections, bounded in number and time.
pub(super) struct Pool {
    state: Arc<Mutex<State>>,
    handle: Handle,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

#[derive(Default)]
struct State {
    idle: HashMap<Key, Vec<Idle>>,
    count: usize,
    /// Whether a task looks after what waits too long. It ends when nothing waits.
    is_swept: bool,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(handle: Handle, tasks: TaskTracker, stopped: CancellationToken) -> Self {
        Self {
            state: Arc::default(),
            handle,
            tasks,
            stopped,
        }
    }

    /// The connection that was used last, if one is still open.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut state = lock(&self.state);
        let State { idle, count, .. } = &mut *state;
        let waiting = idle.get_mut(key)?;
        let mut found = None;
        while let Some(Idle { connection, .. }) = waiting.pop() {
            *count -= 1;
            if connection.is_open() {
                found = Some(connection);
                break;
            }
        }
        if waiting.is_empty() {
            idle.remove(key);
        }
        found
    }

    /// Keeps a connection for the next request, unless as many wait as may.
    pub(super) fn put(&self, key: Key, connection: Connection) {
        let mut state = lock(&self.state);
        if state.count >= HTTP_IDLE_MAX || self.stopped.is_cancelled() {
            return;
        }
        state.count += 1;
        let until = Instant::now() + HTTP_IDLE_TIME;
        let idle = Idle { connection, until };
        state.idle.entry(key).or_default().push(idle);
        if !state.is_swept {
            state.is_swept = true;
            let sweep = sweep(Arc::clone(&self.state));
            let sweep = self.stopped.clone().run_until_cancelled_owned(sweep);
            self.tasks.spawn_on(sweep, &self.handle);
        }
    }
}

/// Closes what waits too long, until nothing waits.
async fn sweep(state: Arc<Mutex<State>>) {
    loop {
        let next = {
            let mut state = lock(&state);
            let now = Instant::now();
            let State { idle, count, .. } = &mut *state;
            idle.retain(|_, waiting| {
                waiting.retain(|idle| idle.until > now && idle.connection.is_open());
                !waiting.is_empty()
            });
            *count = idle.values().map(Vec::len).sum();
            let next = idle.values().flatten().map(|idle| idle.until).min();
            state.is_swept = next.is_some();
            next
        };
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}
