//! `cargo xtask web`: builds the console, for the next build of the server to embed.

use std::{fs::File, path::PathBuf, time::SystemTime};

use crate::shell::{Error, Result, Shell, root, target};

/// Build the console, which the next build of the server embeds
///
/// Needs Node 20.19 or newer, with npm. A server that is built without this has a page that says how to do it.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask web && cargo build --release -p holdfast")]
pub(crate) struct Arguments {
    /// Test it, too: by itself, and in a real browser with a simulated fleet and with the real server and agents
    ///
    /// Needs Chromium, at the path in CHROMIUM or /usr/bin/chromium, and ffmpeg. What was seen is in target/console.
    #[arg(long)]
    test: bool,
}

/// `cargo xtask web`.
///
/// # Errors
/// There is no npm, or a step failed.
pub(crate) fn run(arguments: &Arguments) -> Result {
    build()?;
    if arguments.test { test() } else { Ok(()) }
}

/// Builds the console.
///
/// # Errors
/// There is no npm, or a step failed.
pub(crate) fn build() -> Result {
    if !root().join("server/web/package.json").exists() {
        return Err(Error::Told("expected the sources of the console in server/web, found none".to_owned()));
    }
    if !Shell::new("npm", "--version").succeeds() {
        let message = "expected Node 20.19 or newer with npm, found no npm: install it, or build the server without the console";
        return Err(Error::Told(message.to_owned()));
    }
    for step in ["ci", "run build"] {
        Shell::new("npm", "--prefix server/web").arguments(step).run()?;
    }
    Shell::new("node", "tests/xtask/src/compress.mjs server/web/dist").run()?;
    // The server's build looks at this file where it saw no console the last time.
    let build = root().join("server/build.rs");
    let touched = File::options().append(true).open(&build);
    touched.and_then(|file| file.set_modified(SystemTime::now())).map_err(Error::file(&build))
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// As [`run`].
pub(crate) fn step() -> Result<String> {
    run(&Arguments { test: true }).map(|()| String::new())
}

/// The browser of the tests.
pub(crate) fn chromium() -> PathBuf {
    std::env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from)
}

/// All tests of the console, as it was built.
fn test() -> Result {
    for step in ["run check", "test"] {
        Shell::new("npm", "--prefix server/web").arguments(step).run()?;
    }
    Shell::new("cargo", "build -p holdfast -p holdfast-agent").run()?;
    let (programs, shots) = (target().join("debug"), target().join("console"));
    Shell::new("npm", "--prefix server/web")
        .arguments("run real")
        .environment("HOLDFAST_PROGRAMS", programs)
        .environment("HOLDFAST_SHOTS", &shots)
        .run()?;
    let browse = Shell::new("npm", "--prefix server/web").arguments("run browse");
    browse.environment("HOLDFAST_SHOTS", &shots).run()
}
