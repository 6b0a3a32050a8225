//! `cargo xtask probe`: shows on linked firmware that `protocol-core` and `agent-embedded` can't panic, don't allocate, and are small.

use crate::image::Image;
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
    Part { binary: "connection", about: "a device's connection, without the loop around it", limit: None },
    Part { binary: "agent", about: "a whole device, but for its transport", limit: None },
    Part { binary: "line", about: "a serial line as a transport", limit: None },
    Part { binary: "serial", about: "a link over a serial line", limit: None },
];

/// The binary that holds no part.
const NOTHING: &str = "nothing";

/// The binary that holds all of them.
const EVERYTHING: &str = "everything";

/// What must not link, and what the linker then says.
const CONTROLS: &[(&str, &str)] =
    &[("panics", "a_panic_is_within_reach"), ("allocates", "no global memory allocator found")];

/// What is `async`, and so may panic in one way: a future that is polled again after it has ended. Only an executor's
/// fault leads there, and nothing that a peer says.
const ASYNC: &[&str] = &["agent", "line"];
/// A control: it may panic in another way as well, which must be found.
const FOUND: &str = "async-panics";
const ALLOWED: &str = "panic_const_async_fn_resumed";

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
        for binary in ASYNC {
            must_panic_in_one_way(board, binary)?;
        }
        must_be_found(board)?;
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

fn must_panic_in_one_way(board: &str, binary: &str) -> Result {
    match panics(board, binary)?.as_slice() {
        [name] if name.contains(ALLOWED) => Ok(()),
        [] => Err(Error::Told(format!("{binary} for {board} has no {ALLOWED}: this check shows nothing"))),
        names => Err(Error::Told(format!(
            "{binary} for {board} can panic by {}; only {ALLOWED} is allowed",
            names.join(", ")
        ))),
    }
}

/// The functions by which the control that may panic in another way does.
fn must_be_found(board: &str) -> Result {
    match panics(board, FOUND)?.iter().any(|name| !name.contains(ALLOWED)) {
        true => Ok(()),
        false => Err(Error::Told(format!(
            "the panic of {FOUND} for {board} is not found: this check shows nothing"
        ))),
    }
}

fn panics(board: &str, binary: &str) -> Result<Vec<String>> {
    link(board, &[binary]).run()?;
    Image::read(&target().join(board).join("firmware").join(binary))?.panics()
}

/// Prints a table of sizes, and returns them in one line.
fn measure() -> Result<String> {
    let binaries: Vec<_> = PARTS.iter().map(|part| part.binary).chain([NOTHING]).collect();
    link(MEASURED, &binaries).run()?;
    let built = target().join(MEASURED).join("firmware");
    let nothing = Image::read(&built.join(NOTHING))?.size()?.flash;
    let mut sizes = Vec::new();
    let mut too_large = Vec::new();
    println!("{MEASURED:<18}{:>8} {:>7}", "bytes", "limit");
    for part in PARTS {
        let size = Image::read(&built.join(part.binary))?.size()?.flash.saturating_sub(nothing);
        let limit = part.limit.map_or_else(String::new, |limit| limit.to_string());
        println!("  {:<16}{size:>8} {limit:>7}  {}", part.binary, part.about);
        sizes.push(format!("{} {size} bytes", part.binary));
        if part.limit.is_some_and(|limit| size > limit) {
            too_large.push(format!("{} takes {size} bytes of flash, {limit} are allowed", part.binary));
        }
    }
    if too_large.is_empty() { Ok(sizes.join(", ")) } else { Err(Error::Told(too_large.join("; "))) }
}
