//! Shared test tools.

pub mod binaries;
pub mod original;
pub mod terminal;
