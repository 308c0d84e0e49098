//! Telling endpoints outside what has become of tasks, at least once each.
//!
//! The ledger keeps what a webhook is set to and how far it has come (`crate::ledger::Webhook`). Here, the [`Worker`] reads the record
//! of ends from there on ([`pick`]), has the ledger write what is to be delivered, and sends it when it is due. [`signing`] says
//! how a request is signed and [`Sender`] to whom one may go.

mod event;
mod pick;
mod sender;
mod signing;
mod worker;

pub(crate) use event::{Writer, id};
pub(crate) use sender::Sender;
pub(crate) use signing::Secret;
pub(crate) use worker::{Worker, open_secret, seal_secret};
