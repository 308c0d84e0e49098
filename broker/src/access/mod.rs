//! Who is let in, as whom, and what is remembered of it.
//!
//! Every request passes the [`Gate`] first, in [`layer`]: it finds out who calls, by a key, a token or a client certificate, and
//! whether their role includes what the call does ([`calls`]). The namespace that a call is about stands in its message, so that the
//! call itself asks the [`Caller`] for it, and gets none that is not the caller's. Both ask [`tq_core::access::authorize`].

pub mod audit;
mod budget;
mod caller;
mod calls;
mod gate;
pub mod jwt;
mod key;
mod keys;
mod layer;
mod origin;
mod throttle;

pub(crate) use caller::Caller;
#[cfg(test)]
pub(crate) use calls::CALLS;
pub(crate) use jwt::Tokens;
pub use key::{KeyId, KeyText, NoRandom, TextHash};
pub use keys::{KeyOrder, Keys, Previous, StoredKey};
pub(crate) use layer::{Guard, guard};
