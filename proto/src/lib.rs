//! The wire format of tq: tq/v1/*.proto and the code generated from it.
