//! `tq module …`

pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod rollback;
pub(crate) mod schema;
pub(crate) mod show;
