//! The targets are shared with the tests, which run them again on the corpus.

#[path = "../../src/fuzz_targets/mod.rs"]
pub mod targets;
