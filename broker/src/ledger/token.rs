//! Tokens: what proves that an attempt was given to a host by this store.

use tq_core::planted::{Bug, is_planted};
use tq_core::{Epoch, TaskId};

use crate::dispatch::message::Token;

/// The store's secret. It never leaves the broker.
#[derive(Clone)]
pub(super) struct Secret(pub(super) [u8; 32]);

impl Secret {
    /// Makes the token of an attempt: a keyed BLAKE3 hash over task, epoch and host, cut to 128 bits.
    pub(super) fn token(&self, id: TaskId, epoch: Epoch, host: &str) -> Token {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher
            .update(&id.0)
            .update(&epoch.0.to_be_bytes())
            .update(host.as_bytes());
        let mut token = [0; 16];
        token.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Token(token)
    }

    /// Whether a token is that of an attempt. The comparison takes the same time for every wrong one.
    pub(super) fn verify(&self, id: TaskId, epoch: Epoch, host: &str, token: Token) -> bool {
        let difference = self
            .token(id, epoch, host)
            .0
            .iter()
            .zip(token.0)
            .fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        difference == 0 || is_planted(Bug::TokenUnchecked)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret([redacted])")
    }
}
