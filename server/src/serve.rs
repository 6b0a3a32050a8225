//! The running server: its parts, started, supervised and drained.
