//! `tq config …`

pub(crate) mod show;
