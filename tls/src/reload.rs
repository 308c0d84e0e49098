//! What is made of files, and made again when they change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// How often files are looked at, at most: somebody who connects again and again should not cost system calls.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is made of files.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, Error> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    made: Arc<T>,
    /// The files when they were last read, whether or not they could be used.
    seen: Vec<Option<Stamp>>,
    look_at: Instant,
}

/// What differs between two contents of a file: a new file has another number, and one that is written to another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    /// `None` if there is no file.
    fn of(path: &Path) -> Option<Self> {
        // Through links: an orchestrator renews a certificate by changing where one leads.
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: found.ino(),
            bytes: found.len(),
            seconds: found.mtime(),
            nanoseconds: found.mtime_nsec(),
        })
    }
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Makes it for the first time. Reads files, so it is not for a thread that others wait for.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // Before they are read: a change between the two is seen at the next look.
        let seen = stamps(&files);
        let made = Arc::new(make()?);
        Ok(Self {
            files,
            make: Box::new(make),
            state: Mutex::new(State {
                made,
                seen,
                look_at: Instant::now() + LOOK_EVERY,
            }),
        })
    }

    /// What was made of the files as they are now, or were [`LOOK_EVERY`] ago. If they cannot be used, what was made of them before
    /// stays, and the log says why.
    pub(crate) async fn current(self: &Arc<Self>) -> Arc<T> {
        self.current_at(Instant::now()).await
    }

    async fn current_at(self: &Arc<Self>, now: Instant) -> Arc<T> {
        let is_due = self.with(|state| {
            let is_due = state.look_at <= now;
            if is_due {
                // Who comes meanwhile does not wait.
                state.look_at = now + LOOK_EVERY;
            }
            is_due
        });
        if is_due {
            let this = Arc::clone(self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.look()).await {
                tracing::error!(%error, "certificates are not read again");
            }
        }
        self.with(|state| Arc::clone(&state.made))
    }

    fn look(&self) {
        let now = stamps(&self.files);
        if self.with(|state| state.seen == now) {
            return;
        }
        let made = (self.make)();
        self.with(|state| {
            // Even if they are of no use, so that this is said once.
            state.seen = now;
            match made {
                Ok(made) => {
                    state.made = Arc::new(made);
                    tracing::info!(files = ?self.files, "certificates were read again");
                }
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the new certificates cannot be used, and the old ones stay in use"
                ),
            }
        });
    }

    fn with<R>(&self, act: impl FnOnce(&mut State<T>) -> R) -> R {
        // Nothing that is done under the lock can leave it half done.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| Stamp::of(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn changed_file_is_read_again_and_a_broken_one_keeps_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let write = |text: &str| {
            // As those who renew certificates do it, so that nobody reads half of one.
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write("1");
        let read = path.clone();
        let make = move || {
            let text = fs::read_to_string(&read).map_err(|source| Error::Read {
                path: read.clone(),
                source,
            })?;
            text.parse::<u32>().map_err(|error| Error::Unusable {
                path: read.clone(),
                reason: error.to_string(),
            })
        };
        let number = Arc::new(Reloading::new(vec![path.clone()], make).unwrap());
        let mut now = Instant::now();
        assert_eq!(*number.current_at(now).await, 1);
        write("2");
        // Looked at just now.
        assert_eq!(*number.current_at(now).await, 1);
        for (text, expected) in [("2", 2), ("broken", 2), ("3", 3)] {
            write(text);
            now += LOOK_EVERY * 2;
            assert_eq!(*number.current_at(now).await, expected, "{text}");
        }
        fs::remove_file(&path).unwrap();
        now += LOOK_EVERY * 2;
        assert_eq!(*number.current_at(now).await, 3);
    }
}
