//! The command line: arguments, and one file for each group of verbs.

pub mod client;
mod hidden;
pub mod term_password;
