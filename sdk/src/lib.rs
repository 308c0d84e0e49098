//! What the author of a tq task imports.
