//! `cargo xtask probe`: shows on linked firmware that `protocol-core` and `agent-embedded` can't panic, don't allocate, and are small.

use std::path::Path;

use crate::setup::BARE_METAL;
use crate::shell::{Error, Result, Shell, target};

/// Link protocol-core and agent-embedded for microcontrollers: no panic and no allocation within reach, and their sizes
///
/// The binaries are in tests/probe, which says how they show it. Two controls must not link.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask probe")]
pub(crate) struct Arguments {}

/// The board that sizes are measured for.
const MEASURED: &str = "thumbv7m-none-eabi";

/// What is measured, beside the binary that does nothing.
const PARTS: &[Part] = &[
    Part { binary: "codec", about: "frames and messages of a microcontroller", limit: Some(8 * 1024) },
    Part { binary: "session", about: "a client's session with them", limit: None },
    Part { binary: "agent", about: "a whole device, but for its transport", limit: None },
    Part { binary: "serial", about: "a link over a serial line", limit: None },
];

/// The binary that holds no part.
const NOTHING: &str = "nothing";

/// The binary that holds all of them.
const EVERYTHING: &str = "everything";

/// What must not link, and what the linker then says.
const CONTROLS: &[(&str, &str)] =
    &[("panics", "a_panic_is_within_reach"), ("allocates", "no global memory allocator found")];

struct Part {
    binary: &'static str,
    about: &'static str,
    /// The most flash that it may take, in bytes.
    limit: Option<u64>,
}

/// `cargo xtask probe`.
///
/// # Errors
/// A panic or an allocation is within reach, or a part is too large.
pub(crate) fn run(_: &Arguments) -> Result {
    step().map(drop)
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// A panic or an allocation is within reach, or a part is too large.
pub(crate) fn step() -> Result<String> {
    for board in BARE_METAL {
        link(board, &[EVERYTHING]).run().map_err(|error| {
            Error::Told(format!(
                "{error}; for {board} a panic or an allocation is within reach of a public entry: leave calls out of tests/probe/src/parts.rs to find it"
            ))
        })?;
        for (binary, words) in CONTROLS {
            must_not_link(board, binary, words)?;
        }
    }
    measure()
}

fn link(board: &str, binaries: &[&str]) -> Shell {
    let mut cargo =
        Shell::cargo("build --quiet --package probe --profile firmware --locked --target").argument(board);
    for binary in binaries {
        cargo = cargo.argument("--bin").argument(binary);
    }
    cargo
}

fn must_not_link(board: &str, binary: &str, words: &str) -> Result {
    let (linked, text) = link(board, &[binary]).output()?;
    match (linked, text.contains(words)) {
        (false, true) => Ok(()),
        (true, _) => {
            Err(Error::Told(format!("the control {binary:?} linked for {board}: the probes show nothing")))
        }
        (false, false) => Err(Error::Told(format!(
            "expected the control {binary:?} to fail with {words:?}, it failed with: {text}"
        ))),
    }
}

/// Prints a table of sizes, and returns them in one line.
fn measure() -> Result<String> {
    let binaries: Vec<_> = PARTS.iter().map(|part| part.binary).chain([NOTHING]).collect();
    link(MEASURED, &binaries).run()?;
    let built = target().join(MEASURED).join("firmware");
    let nothing = flash_size(&built.join(NOTHING))?;
    let mut sizes = Vec::new();
    let mut too_large = Vec::new();
    println!("{MEASURED:<18}{:>8} {:>7}", "bytes", "limit");
    for part in PARTS {
        let size = flash_size(&built.join(part.binary))?.saturating_sub(nothing);
        let limit = part.limit.map_or_else(String::new, |limit| limit.to_string());
        println!("  {:<16}{size:>8} {limit:>7}  {}", part.binary, part.about);
        sizes.push(format!("{} {size} bytes", part.binary));
        if part.limit.is_some_and(|limit| size > limit) {
            too_large.push(format!("{} takes {size} bytes of flash, {limit} are allowed", part.binary));
        }
    }
    if too_large.is_empty() { Ok(sizes.join(", ")) } else { Err(Error::Told(too_large.join("; "))) }
}

/// How much flash a 32-bit ELF file takes: the sizes of its sections that are loaded and not zero.
fn flash_size(path: &Path) -> Result<u64> {
    let file = std::fs::read(path).map_err(Error::file(path))?;
    sections_in_flash(&file)
        .ok_or_else(|| Error::Told(format!("{} is not a 32-bit ELF file", path.display())))
}

fn sections_in_flash(file: &[u8]) -> Option<u64> {
    const NO_BITS: u32 = 8;
    const ALLOCATED: u32 = 2;
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?));
    if !file.starts_with(b"\x7fELF\x01\x01") {
        return None;
    }
    let (first, size, count) = (word(0x20)? as usize, usize::from(half(0x2e)?), usize::from(half(0x30)?));
    let mut total = 0;
    for section in (0..count).map(|index| first + index * size) {
        let (kind, flags, length) = (word(section + 4)?, word(section + 8)?, word(section + 20)?);
        if kind != NO_BITS && flags & ALLOCATED != 0 {
            total += u64::from(length);
        }
    }
    Some(total)
}
