//! `tq admin …`

pub(crate) mod check;
pub(crate) mod key;
pub(crate) mod repair;
