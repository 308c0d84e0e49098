//! The node that remembers and decides.

pub mod blobs;
pub mod dispatch;
pub mod ledger;
pub mod modules;
pub mod observe;
pub mod store;
pub mod tables;
