//! `cargo xtask demo`: the main job at work, for someone who sees it for the first time.

use std::path::{Path, PathBuf};

use crate::shell::{Result, Shell, target};
use crate::{firmware, setup, web};

/// A server with its console, two agents with test cameras, and a microcontroller; stays until Ctrl-C
///
/// Builds, starts a server on its defaults, with a console and a link to log in there, enrols and runs two agents, whose cameras show
/// a test picture, and, in QEMU, a microcontroller, sends messages both ways, and shows the devices live. Nothing is written outside of
/// target/, and nothing is left running.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo
  cargo xtask demo --once    the same, checked, without staying")]
pub(crate) struct Arguments {
    /// End once everything was shown: with success if all of it was as it should be
    #[arg(long)]
    once: bool,
}

/// `cargo xtask demo`.
///
/// # Errors
/// Something could not be built or started, or was not as it should be.
pub(crate) fn run(arguments: &Arguments) -> Result {
    println!(
        "Building the console, the server, the agent and a firmware (the first time takes some minutes) ..."
    );
    if let Err(error) = web::build() {
        println!("  note      the console is a page that says how to build it: {error}");
    }
    Shell::cargo(BUILD).run_alone()?;
    let image = match firmware_image() {
        Ok(image) => Some(image),
        Err(error) => {
            println!("  note      the demo goes on without a microcontroller: {error}");
            None
        }
    };
    if let Err(error) = setup::ensure_only(&["OpenSSH", "curl"]) {
        println!("  note      the demo goes on without SSH: {error}");
    }
    if let Err(error) = setup::ensure_only(&["ffmpeg"]) {
        println!("  note      the demo goes on without cameras: {error}");
    }
    let image = image.as_deref();
    if arguments.once { once(image).run_alone() } else { demo(image).become_it() }
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// As [`run`], and if there is no microcontroller.
pub(crate) fn step() -> Result<String> {
    Shell::cargo(BUILD).run()?;
    setup::ensure_only(&["OpenSSH", "curl", "ffmpeg"])?;
    once(Some(&firmware_image()?)).run()?;
    Ok(String::new())
}

/// What the microcontroller runs, with all that it takes to run it.
fn firmware_image() -> Result<PathBuf> {
    setup::ensure_only(&["qemu-system-arm", "bare-metal targets"])?;
    firmware::build_one("qemu-lm3s6965", "ethernet")
}

const BUILD: &str =
    "build --package holdfast --package holdfast-agent --package holdfast-tests --bins --locked";

fn demo(image: Option<&Path>) -> Shell {
    let demo = Shell::new(target().join("debug/demo"), "").argument(target().join("demo"));
    match image {
        Some(image) => demo.argument("--firmware").argument(image),
        None => demo,
    }
}

fn once(image: Option<&Path>) -> Shell {
    demo(image).argument("--once")
}
