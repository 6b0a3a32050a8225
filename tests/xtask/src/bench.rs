//! `cargo xtask bench`: figures, each beside its floor or its peer in the same run. Never a part of the tests.

use crate::shell::{Error, Result, Shell, root, target};
use crate::{codec, sizes, web};

/// Measure a release build of the server beside its peers: echoes a second, CPU, latency, memory, video, the console
///
/// It takes some minutes, and wants a machine that does nothing else. `docs/benchmarks.md` says what is measured, and what came.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench                 everything
  cargo xtask bench echo --rounds 9 the rows whose names begin with `echo`, each nine times
  cargo xtask bench ssh             the tunnel to a device's SSH server, beside rathole and `ssh -R`
  cargo xtask bench video           live video: what relaying costs, and how old pictures are in Chromium, beside ffmpeg's MP4
  cargo xtask bench console         the list of 5,000 devices in Chromium, and what the server pays for it
  cargo xtask bench --list          the names of the rows
  cargo xtask bench codec           the instructions of the codec alone, as `cargo xtask codec`
  cargo xtask bench firmware        what firmware takes on a microcontroller, in QEMU")]
pub(crate) struct Arguments {
    /// What is measured, by the names that --list shows, or how they begin; without one, everything
    rows: Vec<String>,
    /// List what can be measured
    #[arg(long)]
    list: bool,
    /// How often each pair is measured
    #[arg(long, value_name = "COUNT")]
    rounds: Option<u32>,
    /// How long each measurement takes
    #[arg(long)]
    seconds: Option<f64>,
    /// Print one JSON object in place of the tables
    #[arg(long)]
    json: bool,
}

/// What needs no release build of the server, and is not among the rows that --list shows.
const APART: &[&str] = &["codec", "firmware"];

/// `cargo xtask bench`.
///
/// # Errors
/// A build failed, or something could not be measured.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let rows: Vec<_> = arguments.rows.iter().filter(|row| !APART.contains(&row.as_str())).collect();
    let all = arguments.rows.is_empty() && !arguments.json && !arguments.list;
    let is_asked = |name: &str| all || arguments.rows.iter().any(|row| row == name);
    if is_asked("codec") {
        codec::step()?;
    }
    if is_asked("firmware") {
        sizes::bench()?;
    }
    if rows.is_empty() && !arguments.rows.is_empty() {
        return Ok(());
    }
    // Their rows need the console in the server, and what drives a browser.
    if !arguments.list && (rows.is_empty() || rows.iter().any(|row| shows_console(row))) {
        build_console();
    }
    let build = Shell::cargo(
        "build --quiet --release --locked --package holdfast --package holdfast-agent --package holdfast-bench",
    );
    match build.output()? {
        (true, _) => {}
        (false, text) => return Err(Error::Told(format!("the release build failed:\n{text}"))),
    }
    // Rows of tunnels begin with `ssh`; one that names itself in part may mean them as well.
    if !arguments.list && (rows.is_empty() || rows.iter().any(|row| row.starts_with('s'))) {
        install_rathole();
    }
    let mut bench = Shell::new(target().join("release").join("holdfast-bench"), "run");
    if arguments.list {
        bench = bench.arguments("--list");
    }
    if arguments.json {
        bench = bench.arguments("--json");
    }
    if let Some(rounds) = arguments.rounds {
        bench = bench.argument(format!("--rounds={rounds}"));
    }
    if let Some(seconds) = arguments.seconds {
        bench = bench.argument(format!("--seconds={seconds}"));
    }
    for row in rows {
        bench = bench.argument(row);
    }
    bench.run_alone()
}

/// Whether rows that are named so, or whose names begin so, have a browser.
fn shows_console(row: &str) -> bool {
    ["video", "console"].iter().any(|kind| row.starts_with(kind) || kind.starts_with(row))
}

/// Builds the console, where that was not done yet. Where it can't be, its rows say so.
fn build_console() {
    let web = root().join("server/web");
    if web.join("dist/index.html").exists() && web.join("node_modules/playwright-core").exists() {
        return;
    }
    eprintln!("building the console");
    if let Err(error) = web::build() {
        eprintln!("the console could not be built: {error}");
    }
}

/// Installs rathole, beside which tunnels are measured, where it is not there yet. Where it can't be, its rows say so.
fn install_rathole() {
    let root = target().join("bench");
    if root.join("bin/rathole").exists() {
        return;
    }
    eprintln!("installing rathole into {}", root.display());
    // Not by its own lock file: what that names does not compile any longer.
    let install =
        Shell::cargo("install --quiet --version 0.5.0 --no-default-features --features client,server")
            .argument("rathole")
            .argument("--root")
            .argument(&root)
            .argument("--target-dir")
            .argument(root.join("rathole"));
    match install.output() {
        Ok((true, _)) => {}
        Ok((false, text)) => eprintln!("rathole could not be installed:\n{text}"),
        Err(error) => eprintln!("rathole could not be installed: {error}"),
    }
}
