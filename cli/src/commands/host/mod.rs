//! `tq host`, and `tq host …`

pub(crate) mod list;
mod node;

pub(crate) use node::run;
