//! Secrets of namespaces: what goes to hosts for attempts that were granted it, and lies on disk sealed.
//!
//! The [`Vault`] holds the one key that everything is sealed with. The ledger keeps what is sealed, and never sees a value.

mod vault;

pub use vault::{Sealed, Vault, VaultError};
