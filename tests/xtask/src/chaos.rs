//! `cargo xtask chaos`: everything breaks at random, and all promises must hold.

use crate::shell::{Result, Shell, target};

/// Breaks server, agents and network at random while messages flow: none may be lost, none come twice
///
/// Ends with success only if all held. The same seed gives the same faults.
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo xtask chaos --seconds 300 --seed 7")]
pub(crate) struct Arguments {
    /// For how long faults come
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Which faults come
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many devices there are
    #[arg(long, default_value_t = 3)]
    agents: u16,
}

/// `cargo xtask chaos`.
///
/// # Errors
/// A promise was broken; the report says which.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let Arguments { seconds, seed, agents } = arguments;
    Shell::cargo("build --quiet --workspace --bins --locked").run()?;
    let options = format!("--seconds {seconds} --seed {seed} --agents {agents}");
    Shell::new(target().join("debug/chaos"), &options).run()
}

/// Chaos as a step of the tests, for so many seconds.
///
/// # Errors
/// A promise was broken.
pub(crate) fn step(seconds: u32, seed: u64) -> Result<String> {
    run(&Arguments { seconds, seed, agents: 3 })?;
    Ok(format!("{seconds} s, seed {seed}"))
}
