//! What an operator sees of the broker.

mod metrics;

pub use metrics::Metrics;
