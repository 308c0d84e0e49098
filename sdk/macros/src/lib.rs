//! The attribute of tq-sdk.
