//! The node that runs guests.
