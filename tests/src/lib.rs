//! The test harness of tq and its process-level tests.
