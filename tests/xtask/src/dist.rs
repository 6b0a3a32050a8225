//! `cargo xtask dist`: what is shipped to devices, static binaries of the agent in `target/dist/`.

use std::env::consts::ARCH;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::setup;
use crate::shell::{Error, Result, Shell, target};

/// Build the static agents into target/dist/, and check their sizes
///
/// They are linked with musl and run on any Linux of their architecture.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask dist          build them and print their sizes
  cargo xtask dist --run    also run each of them, and measure the memory of the one for this machine")]
pub(crate) struct Arguments {
    /// Also run each of them, under qemu-user where it is for another machine, and measure its memory where not
    #[arg(long)]
    run: bool,
}

/// A kind of board that the agent is shipped to.
struct Board {
    /// The last part of the file's name in `target/dist/`.
    name: &'static str,
    /// What rustc calls it.
    triple: &'static str,
    /// The emulator, as in `qemu-arm`, and the processor that it is to be; the oldest one that the binary must run on.
    emulator: (&'static str, &'static str),
    /// Which boards these are.
    examples: &'static str,
}

const BOARDS: &[Board] = &[
    Board {
        name: "aarch64",
        triple: "aarch64-unknown-linux-musl",
        emulator: ("aarch64", "cortex-a53"),
        examples: "Raspberry Pi 3, 4, 5 and Zero 2 with a 64-bit system",
    },
    Board {
        name: "armv7",
        triple: "armv7-unknown-linux-musleabihf",
        emulator: ("arm", "cortex-a7"),
        examples: "Raspberry Pi 2 and later with a 32-bit system",
    },
    Board {
        name: "armv6",
        triple: "arm-unknown-linux-musleabihf",
        emulator: ("arm", "arm1176"),
        examples: "Raspberry Pi 1, Zero and Zero W",
    },
    Board {
        name: "x86_64",
        triple: "x86_64-unknown-linux-musl",
        emulator: ("x86_64", "qemu64"),
        examples: "PCs",
    },
];

/// The largest binary that is shipped, in bytes.
const LARGEST: u64 = 4_000_000;

/// The most memory that a connected agent at rest may hold, in kilobytes.
const MOST_MEMORY: u64 = 6_000;

/// What the test of the shipped agent prints before the memory that it found.
const MEMORY_AT_REST: &str = "memory at rest: ";

/// `cargo xtask dist`.
///
/// # Errors
/// A tool is missing, a build failed, or a binary is too large.
pub(crate) fn run(arguments: &Arguments) -> Result {
    setup::ensure()?;
    build()?;
    measure()?;
    if arguments.run { run_each().map(drop) } else { Ok(()) }
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// A build failed, or a binary is too large or does not run as it must.
pub(crate) fn step() -> Result<String> {
    build()?;
    Ok(format!("{}; {}", measure()?, run_each()?))
}

/// Where the binary for `board` is shipped from.
fn shipped(board: &Board) -> PathBuf {
    target().join("dist").join(format!("holdfast-agent-{}", board.name))
}

/// Builds all of them in one run of cargo, so that procedural macros and build scripts are built once.
///
/// rustup has no musl for the 32-bit boards, so std is built with the agent, which only nightly cargo allows by itself:
/// hence `RUSTC_BOOTSTRAP`. That std leaves out what shows stack traces: in a stripped program there is nothing to show, and it is a
/// twentieth of it. The C library and the start files are zig's, hence `link-self-contained=no`.
fn build() -> Result {
    // A directory of its own: flags and environment differ from other builds, which would otherwise be undone in turn.
    let building = target().join("cross");
    let programs = setup::cross_compiler();
    let mut cargo = Shell::new(
        programs.join("cargo-zigbuild"),
        "zigbuild --package holdfast-agent --bin holdfast-agent --profile dist --locked -Zbuild-std=std,panic_abort \
         -Zbuild-std-features=optimize_for_size",
    );
    for board in BOARDS {
        cargo = cargo.argument("--target").argument(board.triple);
    }
    cargo
        .environment("CARGO_ZIGBUILD_PYTHON_PATH", programs.join("python"))
        .environment("RUSTC_BOOTSTRAP", "1")
        .environment("RUSTFLAGS", "-Clink-self-contained=no")
        .environment("CARGO_TARGET_DIR", &building)
        .run()?;
    let directory = target().join("dist");
    std::fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
    for board in BOARDS {
        let built = building.join(board.triple).join("dist").join("holdfast-agent");
        std::fs::copy(&built, shipped(board)).map_err(Error::file(&built))?;
    }
    Ok(())
}

/// Prints a table of the binaries, and returns their sizes in one line.
fn measure() -> Result<String> {
    let mut sizes = Vec::new();
    let mut too_large = Vec::new();
    println!("{:<28} {:>10}  of {LARGEST} bytes", "target/dist/", "bytes");
    for board in BOARDS {
        let path = shipped(board);
        let size = std::fs::metadata(&path).map_err(Error::file(&path))?.len();
        println!("  holdfast-agent-{:<12}{size:>10}  {}", board.name, board.examples);
        sizes.push(format!("{} {:.2} MB", board.name, size as f64 / 1e6));
        if size > LARGEST {
            too_large.push(format!("holdfast-agent-{} has {size} bytes, {LARGEST} are allowed", board.name));
        }
    }
    if too_large.is_empty() { Ok(sizes.join(", ")) } else { Err(Error::Told(too_large.join("; "))) }
}

/// Runs each: it must know its version, refuse a bad enrolment line in words, and do its work with a real server.
/// Returns how much memory the one for this machine takes: in an emulator it would be the emulator's.
fn run_each() -> Result<String> {
    let mut memory = format!("memory not measured: none of them is for {ARCH}");
    for board in BOARDS {
        let is_ours = board.name == ARCH;
        let agent = if is_ours { shipped(board) } else { emulated(board)? };
        expect(Shell::new(&agent, "--version"), true, concat!("holdfast-agent ", env!("CARGO_PKG_VERSION")))?;
        let state = target().join("dist").join("no-state");
        expect(Shell::new(&agent, "enroll hf1.nonsense --state").argument(&state), false, "invitation")?;
        must_not_exist(&state)?;
        // --workspace: with the features that `cargo test --workspace` has built it with.
        let mut test = Shell::cargo("test --workspace --test shipped -- --nocapture");
        test = test.environment("HOLDFAST_AGENT", agent);
        if is_ours {
            test = test.environment("HOLDFAST_AGENT_MOST_MEMORY", MOST_MEMORY.to_string());
        }
        test.run_lines(|line| {
            if is_ours && line.starts_with(MEMORY_AT_REST) {
                memory = format!("{line} of {MOST_MEMORY}");
            }
        })?;
    }
    Ok(memory)
}

/// Makes a program that runs the binary for `board` in its emulator, and gives its path.
fn emulated(board: &Board) -> Result<PathBuf> {
    let (architecture, processor) = board.emulator;
    let Some(emulator) = setup::qemu(architecture) else {
        return Err(Error::Told(format!("qemu-{architecture} is missing; `cargo xtask setup` installs it")));
    };
    let directory = target().join("emulated");
    std::fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
    let path = directory.join(format!("holdfast-agent-{}", board.name));
    let script =
        format!("#!/bin/sh\nexec {emulator} -cpu {processor} '{}' \"$@\"\n", shipped(board).display());
    std::fs::write(&path, script).map_err(Error::file(&path))?;
    let executable = Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, executable).map_err(Error::file(&path))?;
    Ok(path)
}

/// Runs `shell`, which must succeed or fail as `success` says, without a panic, and say `words`.
fn expect(shell: Shell, success: bool, words: &str) -> Result {
    let command = shell.to_string();
    let (succeeded, text) = shell.output()?;
    println!("$ {command}\n{}", text.trim_end());
    if succeeded == success && text.contains(words) && !text.contains("panicked") {
        return Ok(());
    }
    let (expected, came) = (outcome(success), outcome(succeeded));
    Err(Error::Told(format!(
        "`{command}`: expected {expected} and the words {words:?}; there came {came} and: {text}"
    )))
}

fn outcome(success: bool) -> &'static str {
    if success { "success" } else { "failure" }
}

fn must_not_exist(path: &Path) -> Result {
    match path.exists() {
        true => Err(Error::Told(format!("a refused enrolment left {} behind", path.display()))),
        false => Ok(()),
    }
}
