//! The one place that reads the clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time that never goes back.
#[expect(clippy::disallowed_methods, reason = "this is the crate's one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time since the Unix epoch, by the machine's calendar.
#[expect(clippy::disallowed_methods, reason = "this is the crate's one clock")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// What is left until a point in time, by the machine's calendar; zero once it has passed.
pub(crate) fn until(deadline: tq_core::Timestamp) -> Duration {
    Duration::from_millis(deadline.0).saturating_sub(since_epoch())
}
