//! `cargo xtask codec`: the instructions of the codec, counted, beside those of an MQTT codec.

use crate::shell::{Error, Result, Shell, target};

/// Count the instructions of the codec under callgrind, beside those of an MQTT codec in the same binary
///
/// Fails if a limit is passed. The cases are in tests/codec; the message is one of kind `text` with 16 bytes.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask codec")]
pub(crate) struct Arguments {}

/// What is counted: both ways, without the loop around it.
struct Row {
    /// The case's name, up to its `-read` or `-written`.
    case: &'static str,
    about: &'static str,
    /// The most instructions to read and to write it.
    limits: Option<(u64, u64)>,
}

const ROWS: &[Row] = &[
    Row { case: "frame", about: "a frame, its body as bytes", limits: Some((100, 80)) },
    Row { case: "message", about: "a whole message, its body read", limits: Some((300, 300)) },
    Row { case: "mqttrs", about: "an MQTT publish by mqttrs 0.4", limits: None },
];

/// Each case runs so often at first, then so often: the difference is what counts.
const COUNTS: (u64, u64) = (100, 10_100);

/// `cargo xtask codec`.
///
/// # Errors
/// A case could not be counted, or took more than its limit.
pub(crate) fn run(_: &Arguments) -> Result {
    step().map(drop)
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// A case could not be counted, or took more than its limit.
pub(crate) fn step() -> Result<String> {
    let directory = target().join("codec");
    Shell::cargo("build --quiet --release --locked --manifest-path tests/codec/Cargo.toml --target-dir")
        .argument(&directory)
        .run()?;
    let count = |case: &str| instructions(&directory.join("release").join("codec"), case);
    let (loop_read, loop_written) = (count("nothing-read")?, count("nothing-written")?);
    println!("{:<10}{:>8}{:>8}{:>9}{:>8}", "", "read", "limit", "written", "limit");
    let mut figures = Vec::new();
    let mut too_many = Vec::new();
    for Row { case, about, limits } in ROWS {
        let read = count(&format!("{case}-read"))?.saturating_sub(loop_read);
        let written = count(&format!("{case}-written"))?.saturating_sub(loop_written);
        let (limit_read, limit_written) = match limits {
            Some((read, written)) => (read.to_string(), written.to_string()),
            None => Default::default(),
        };
        println!("{case:<10}{read:>8}{limit_read:>8}{written:>9}{limit_written:>8}  {about}");
        figures.push(format!("{case} {read} and {written}"));
        if limits.is_some_and(|limits| read > limits.0 || written > limits.1) {
            too_many.push(format!(
                "{case}: {read} and {written} instructions, {limit_read} and {limit_written} are allowed"
            ));
        }
    }
    if too_many.is_empty() { Ok(figures.join(", ")) } else { Err(Error::Told(too_many.join("; "))) }
}

/// How many instructions one turn of a case takes, its loop included.
fn instructions(binary: &std::path::Path, case: &str) -> Result<u64> {
    let total = |count: u64| {
        let valgrind =
            Shell::new("valgrind", "--tool=callgrind --callgrind-out-file=/dev/null").argument(binary);
        let (_, text) = valgrind.argument(case).argument(count.to_string()).output()?;
        let collected = text.lines().find_map(|line| line.split_once("Collected : "));
        collected
            .and_then(|(_, number)| number.trim().parse::<u64>().ok())
            .ok_or_else(|| Error::Told(format!("expected callgrind to count {case:?}, it said: {text}")))
    };
    let (few, many) = COUNTS;
    Ok(total(many)?.saturating_sub(total(few)?) / many.abs_diff(few))
}
