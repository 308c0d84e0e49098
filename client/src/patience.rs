//! Asking a broker again that is away, or has too much to do.

use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// How long a broker may be away before a call that may be repeated gives up: long enough for a restart.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// The first pause before another try, doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause: what a broker that is back waits for its clients at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long and how often a call is made again.
#[derive(Debug)]
pub(crate) struct Patience {
    give_up: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            give_up: Instant::now() + AWAY_MAX,
            pause: PAUSE_FIRST,
        }
    }

    /// Pauses before another try. The broker was there until now, so it has not been away for long.
    pub(crate) async fn renew(&mut self) {
        self.give_up = Instant::now() + AWAY_MAX;
        self.wait().await;
    }

    /// Pauses before another try: as long as the broker said, if it did.
    ///
    /// # Errors
    /// The error of this one, if another would not go better or the broker has been away for too long.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        let pause = match &error {
            Error::Overloaded { retry_after, .. } => *retry_after,
            _ => self.pause,
        };
        if !error.is_retryable() || Instant::now() + pause >= self.give_up {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        self.lengthen();
        Ok(())
    }

    /// Pauses before another try, of a broker that is there.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.lengthen();
    }

    fn lengthen(&mut self) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
