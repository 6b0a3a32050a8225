//! The firmware of the boards in `hardware/`, a workspace of its own.

use crate::{
    image::Image,
    shell::{Error, Result, Shell, target},
};

/// The workspace of all boards.
pub(crate) const MANIFEST: &str = "hardware/Cargo.toml";

/// A board: its package, what rustc calls its processor, and its images.
struct Board {
    /// The name of its package, and of its folder in `hardware/`.
    name: &'static str,
    /// As rustup names it.
    triple: &'static str,
    /// Each image that is flashed, and how much flash it may take, in KB.
    images: &'static [(&'static str, u64)],
}

/// All boards that there is firmware for.
const BOARDS: &[Board] = &[
    Board { name: "esp32-c3", triple: "riscv32imc-unknown-none-elf", images: &[("esp32-c3", 58)] },
    Board { name: "nucleo-h743zi", triple: "thumbv7em-none-eabihf", images: &[("nucleo-h743zi", 128)] },
    Board { name: "qemu-lm3s6965", triple: "thumbv7m-none-eabi", images: &[("uart", 16), ("ethernet", 124)] },
    Board { name: "w5500-evb-pico", triple: "thumbv6m-none-eabi", images: &[("w5500-evb-pico", 142)] },
];

/// Builds the firmware of all boards as it is flashed.
///
/// # Errors
/// A build failed.
fn build() -> Result {
    BOARDS.iter().try_for_each(|board| cargo("build --release", board).run())
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
    let sizes = BOARDS.iter().map(sizes).collect::<Result<Vec<_>>>()?;
    Ok(sizes.join(", "))
}

/// Tells how much flash a board's images take.
///
/// # Errors
/// One takes more than it may.
fn sizes(board: &Board) -> Result<String> {
    let folder = target().join("hardware").join(board.triple).join("release");
    let mut text = board.name.to_owned();
    for (name, budget) in board.images {
        let flash = Image::read(&folder.join(name))?.size()?.flash;
        if flash > budget * 1024 {
            let told =
                format!("{name} of {} takes {flash} bytes of flash, more than {budget} KB", board.name);
            return Err(Error::Told(told));
        }
        text += &format!(" {:.1} KB", flash as f64 / 1024.0);
    }
    Ok(text)
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
