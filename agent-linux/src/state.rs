//! The state directory, and who may use it.
