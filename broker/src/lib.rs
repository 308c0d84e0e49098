//! The node that remembers and decides.
