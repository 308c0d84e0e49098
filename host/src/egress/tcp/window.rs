//! How much may be on its way.

use std::fmt;
use std::sync::OnceLock;

use tokio::sync::Semaphore;

use super::Failure;

/// Room for parts that were sent and not taken yet. Shared by whoever sends and whoever takes.
pub struct Window {
    parts: usize,
    room: Semaphore,
    failure: OnceLock<Failure>,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl Window {
    /// Room for so many parts.
    #[must_use]
    pub fn new(parts: usize) -> Self {
        Self {
            parts,
            room: Semaphore::new(parts),
            failure: OnceLock::new(),
        }
    }

    /// Waits until there is room for a part.
    ///
    /// # Errors
    /// Why there will not be any.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ready(&self) -> Result<(), Failure> {
        match self.room.acquire().await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    /// Waits until all that was sent was taken.
    ///
    /// # Errors
    /// Why it will not be.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn flushed(&self) -> Result<(), Failure> {
        let all = u32::try_from(self.parts).unwrap_or(u32::MAX);
        match self.room.acquire_many(all).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    /// Whether there is room for a part.
    ///
    /// # Errors
    /// Why there will not be any.
    pub fn has_room(&self) -> Result<bool, Failure> {
        if self.room.is_closed() {
            return Err(self.failure());
        }
        Ok(self.room.available_permits() > 0)
    }

    /// Whether all that was sent was taken.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.room.available_permits() >= self.parts
    }

    /// Takes room for one part, if there is any.
    pub fn take(&self) -> bool {
        self.room.try_acquire().map(|room| room.forget()).is_ok()
    }

    /// A part was taken. More of them than were sent make no room.
    pub fn give(&self) {
        if !self.is_flushed() {
            self.room.add_permits(1);
        }
    }

    /// Nothing is taken any more. The first reason stays.
    pub fn close(&self, failure: Failure) {
        self.failure.get_or_init(|| failure);
        self.room.close();
    }

    fn failure(&self) -> Failure {
        self.failure.get().cloned().unwrap_or(Failure::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn room_is_taken_and_given_back_and_never_grows() {
        let window = Window::new(2);
        assert_eq!(window.ready().now_or_never(), Some(Ok(())));
        assert!(window.take() && window.take() && !window.take());
        assert_eq!(window.has_room(), Ok(false));
        assert_eq!(window.ready().now_or_never(), None);
        window.give();
        assert_eq!(window.has_room(), Ok(true));
        assert_eq!(window.flushed().now_or_never(), None);
        window.give();
        window.give();
        assert_eq!(window.flushed().now_or_never(), Some(Ok(())));
        assert!(window.take() && window.take() && !window.take());
    }

    #[test]
    fn closed_window_tells_its_first_reason() {
        let window = Window::new(2);
        window.close(Failure::NoNetwork);
        window.close(Failure::Stopped);
        assert_eq!(window.has_room(), Err(Failure::NoNetwork));
        assert_eq!(window.ready().now_or_never(), Some(Err(Failure::NoNetwork)));
        assert!(!window.take());
    }
}
