//! `cargo xtask check`: the quick part of the tests, for while working.

use crate::shell::Result;
use crate::{steps, test};

/// The quick part of the tests: formatting, lints, and the tests inside of the packages
///
/// Of what `cargo xtask setup` installs it needs rustfmt and clippy alone.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask check")]
pub(crate) struct Arguments {}

/// `cargo xtask check`.
///
/// # Errors
/// A step failed.
pub(crate) fn run(_: &Arguments) -> Result {
    steps::run_all(
        &[&test::FORMAT, &test::LINTS, &test::UNIT_TESTS],
        "cargo xtask test",
        &["everything else: cargo xtask test"],
    )
}
