//! `tq host`, and `tq host …`

pub(crate) mod drain;
pub(crate) mod list;
mod node;
pub(crate) mod pause;
pub(crate) mod remove;
pub(crate) mod resume;
pub(crate) mod show;

pub(crate) use node::run;
