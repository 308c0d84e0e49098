//! Connections of guests that run in a runner process, which has no network: their data goes through its pipes.
//!
//! ```text
//!  guest ── Line ── Calls ══ pipes ══ Calls ── Dialler ── socket
//! ```
//!
//! In each direction a few parts are on their way and no more: whoever takes one tells it, which makes room for another.

mod answering;
mod asking;
mod wire;

pub(super) use answering::{Calls, WAITING_BYTES_MAX, scope};
pub(super) use asking::Asking;
pub(super) use wire::{Answer, Ask};
