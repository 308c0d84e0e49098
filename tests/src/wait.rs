//! Waiting: for a condition, and no longer than a bound.

use std::time::Duration;

/// How long anything may take. Generous, because two cores may be shared with a compiler.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that nobody announces.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Waits for `future`.
///
/// # Panics
/// It takes longer than [`PATIENCE`]; `what` says what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_times(what, 1, future).await
}

/// Waits for `future` for several times [`PATIENCE`].
///
/// # Panics
/// It takes longer; `what` says what was waited for.
pub(crate) async fn within_times<T>(what: &str, times: u32, future: impl Future<Output = T>) -> T {
    let patience = PATIENCE * times;
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {patience:?}"),
    }
}

/// Looks until `look` finds something, for conditions that nobody announces.
///
/// # Panics
/// It finds nothing within [`PATIENCE`]; `what` says what was waited for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}
