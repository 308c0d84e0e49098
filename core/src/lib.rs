//! The domain of tq: states, transitions, retry, limits; pure and synchronous.
