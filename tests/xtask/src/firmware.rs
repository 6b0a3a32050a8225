//! The firmware of the boards in `hardware/`, a workspace of its own.

use std::path::PathBuf;

use crate::{
    image::Image,
    shell::{Error, Result, Shell, target},
};

/// The workspace of all boards.
pub(crate) const MANIFEST: &str = "hardware/Cargo.toml";

/// A board: its package, and what rustc calls its processor.
struct Board {
    /// The name of its package, and of its folder in `hardware/`.
    name: &'static str,
    /// As rustup names it.
    triple: &'static str,
}

/// All boards that there is firmware for.
const BOARDS: &[Board] = &[
    Board { name: "esp32-c3", triple: "riscv32imc-unknown-none-elf" },
    Board { name: "nucleo-h743zi", triple: "thumbv7em-none-eabihf" },
    Board { name: "qemu-lm3s6965", triple: "thumbv7m-none-eabi" },
    Board { name: "w5500-evb-pico", triple: "thumbv6m-none-eabi" },
];

/// Builds the firmware of all boards as it is flashed.
///
/// # Errors
/// A build failed.
pub(crate) fn build() -> Result {
    BOARDS.iter().try_for_each(|board| cargo("build --release", board).run())
}

/// Builds one binary of a board's firmware, and gives the path of its image.
///
/// # Errors
/// There is no such board, or the build failed.
pub(crate) fn build_one(board: &str, binary: &str) -> Result<PathBuf> {
    let board = board_named(board)?;
    cargo("build --quiet --release", board).argument("--bin").argument(binary).run_alone()?;
    Ok(path(board, binary))
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// A test or a build failed, or clippy has something to say.
pub(crate) fn step() -> Result<String> {
    let tests = Shell::cargo("test --locked --package firmware --features entropy,flash --manifest-path")
        .argument(MANIFEST);
    tests.argument("--target-dir").argument(target().join("hardware")).run()?;
    build()?;
    for board in BOARDS {
        cargo("clippy --release", board).arguments("-- -D warnings").run()?;
    }
    let names: Vec<_> = BOARDS.iter().map(|board| board.name).collect();
    Ok(names.join(", "))
}

/// The linked image of one of a board's binaries.
///
/// # Errors
/// There is no such board, or the image was not built.
pub(crate) fn image(board: &str, binary: &str) -> Result<Image> {
    Image::read(&path(board_named(board)?, binary))
}

fn board_named(name: &str) -> Result<&'static Board> {
    let found = BOARDS.iter().find(|board| board.name == name);
    found.ok_or_else(|| Error::Told(format!("there is no firmware for a board {name}")))
}

fn path(board: &Board, binary: &str) -> PathBuf {
    target().join("hardware").join(board.triple).join("release").join(binary)
}

fn cargo(command: &str, board: &Board) -> Shell {
    Shell::cargo(command)
        .arguments("--locked --manifest-path")
        .argument(MANIFEST)
        .argument("--package")
        .argument(board.name)
        .argument("--target")
        .argument(board.triple)
        .argument("--target-dir")
        .argument(target().join("hardware"))
}
