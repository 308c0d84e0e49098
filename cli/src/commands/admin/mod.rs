//! `tq admin …`

pub(crate) mod check;
pub(crate) mod repair;
