//! `cargo xtask sizes`: what firmware takes of flash and RAM, held to its budgets, and kept in `hardware/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::firmware;
use crate::shell::{Error, Result, Shell, root, target};

/// Measure the flash and RAM of all firmware as it is flashed, and check the budgets
///
/// Flash and variables are read from the linked images; the stack is what the firmware says that it ever used, in QEMU,
/// after messages both ways and a reconnect. Fails over a budget, and where the table in hardware/README.md is another.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask sizes
  cargo xtask sizes --write    put the table into hardware/README.md")]
pub(crate) struct Arguments {
    /// Put the table into hardware/README.md, in place of comparing it with the one there
    #[arg(long)]
    write: bool,
}

/// The board that is measured in QEMU.
const REFERENCE: &str = "qemu-lm3s6965";

/// An image.
struct Firmware {
    /// Its package, and its folder.
    board: &'static str,
    binary: &'static str,
    about: &'static str,
}

const FIRMWARE: &[Firmware] = &[
    Firmware { board: REFERENCE, binary: "uart", about: "a serial line behind a Pi" },
    Firmware { board: REFERENCE, binary: "ethernet", about: "Ethernet, TLS, a console" },
    Firmware { board: REFERENCE, binary: "tcp", about: "our protocol over plain TCP" },
    Firmware { board: REFERENCE, binary: "bare-tcp", about: "plain TCP without it" },
    Firmware { board: "w5500-evb-pico", binary: "w5500-evb-pico", about: "Ethernet, TLS, a console" },
    Firmware { board: "nucleo-h743zi", binary: "nucleo-h743zi", about: "Ethernet, TLS, a console" },
    Firmware { board: "esp32-c3", binary: "esp32-c3", about: "a serial line behind a Pi" },
];

/// What is held.
struct Budget {
    about: &'static str,
    takes: fn(&Figures) -> Option<u64>,
    /// In bytes.
    most: u64,
}

const KIB: u64 = 1024;

const BUDGETS: &[Budget] = &[
    Budget {
        about: "flash over a serial line: the whole firmware",
        takes: |figures| Some(figures.of(REFERENCE, "uart")?.flash),
        most: 16 * KIB,
    },
    Budget {
        about: "RAM over a serial line, stack included",
        takes: |figures| figures.of(REFERENCE, "uart")?.ram(),
        most: 4 * KIB,
    },
    Budget {
        about: "flash that our protocol adds over bare TCP",
        takes: |figures| {
            let (ours, bare) = (figures.of(REFERENCE, "tcp")?, figures.of(REFERENCE, "bare-tcp")?);
            Some(ours.flash.saturating_sub(bare.flash))
        },
        most: 10 * KIB,
    },
    Budget {
        about: "flash with TLS",
        takes: |figures| Some(figures.of(REFERENCE, "ethernet")?.flash),
        most: 124 * KIB,
    },
    Budget {
        about: "RAM with TLS, stack included",
        takes: |figures| figures.of(REFERENCE, "ethernet")?.ram(),
        most: 36 * KIB,
    },
    Budget {
        about: "flash of the W5500-EVB-Pico",
        takes: |figures| Some(figures.of("w5500-evb-pico", "w5500-evb-pico")?.flash),
        most: 142 * KIB,
    },
    Budget {
        about: "flash of the Nucleo-H743ZI",
        takes: |figures| Some(figures.of("nucleo-h743zi", "nucleo-h743zi")?.flash),
        most: 128 * KIB,
    },
    Budget {
        about: "flash of the ESP32-C3",
        takes: |figures| Some(figures.of("esp32-c3", "esp32-c3")?.flash),
        most: 58 * KIB,
    },
];

/// What an image takes, in bytes.
#[derive(Clone, Copy, Debug)]
struct Taken {
    flash: u64,
    variables: u64,
    /// Where it was measured.
    stack: Option<u64>,
}

impl Taken {
    fn ram(&self) -> Option<u64> {
        Some(self.variables + self.stack?)
    }
}

/// What all images take, by their index in [`FIRMWARE`].
struct Figures(Vec<Taken>);

impl Figures {
    fn of(&self, board: &str, binary: &str) -> Option<&Taken> {
        let index = FIRMWARE.iter().position(|one| one.board == board && one.binary == binary)?;
        self.0.get(index)
    }
}

/// The table stands between these in [`README`].
const BEGIN: &str = "<!-- cargo xtask sizes --write -->\n";
const END: &str = "<!-- end of sizes -->\n";
const README: &str = "hardware/README.md";

/// A figure of the README may be off by one part in so many: compilers differ a little, and paths stand in images.
const TOLERANCE: u64 = 50;

/// `cargo xtask sizes`.
///
/// # Errors
/// A build failed, something takes more than it may, or the README is out of date.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let figures = measure()?;
    let table = table(&figures);
    println!("{table}");
    if arguments.write {
        write(&table)?
    } else {
        compare(&table)?
    };
    check(&figures)
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// As [`run`].
pub(crate) fn step() -> Result<String> {
    run(&Arguments { write: false })?;
    Ok(format!("{} budgets hold", BUDGETS.len()))
}

fn measure() -> Result<Figures> {
    firmware::build()?;
    let stacks = stacks()?;
    let taken = |one: &Firmware| -> Result<Taken> {
        let size = firmware::image(one.board, one.binary)?.size()?;
        let stack = stacks.get(one.binary).copied().filter(|_| one.board == REFERENCE);
        Ok(Taken { flash: size.flash, variables: size.ram, stack })
    };
    FIRMWARE.iter().map(taken).collect::<Result<_>>().map(Figures)
}

/// The most stack that binaries of the reference board ever used.
fn stacks() -> Result<BTreeMap<String, u64>> {
    let stacks = measured("stack")?;
    Ok(stacks.into_iter().filter_map(|(binary, bytes)| Some((binary, *bytes.first()?))).collect())
}

/// Measures the reference board in QEMU: lines of figures, by their names.
fn measured(what: &str) -> Result<BTreeMap<String, Vec<u64>>> {
    Shell::cargo("build --quiet --locked --package holdfast-tests --bin measure").run()?;
    let mut measured = BTreeMap::new();
    Shell::new(target().join("debug").join("measure"), what).run_lines(|line| {
        if let Some((name, figures)) =
            line.strip_prefix(what).and_then(|rest| rest.trim_start().split_once(' '))
        {
            let figures = figures.split(' ').filter_map(|figure| figure.parse().ok()).collect();
            measured.insert(name.to_owned(), figures);
        }
    })?;
    Ok(measured)
}

/// A part of `cargo xtask bench`: sizes, and how long the reference board takes for what.
///
/// # Errors
/// Something could not be built or measured.
pub(crate) fn bench() -> Result {
    println!("{}", table(&measure()?));
    println!("instructions of session and queue");
    for (what, figures) in measured("instructions")? {
        println!("  {what:<10}{:>8}", figures.first().copied().unwrap_or_default());
    }
    println!("from power on to the first archived message, in ms");
    for (binary, figures) in measured("first-message")? {
        let figures: Vec<_> = figures.iter().map(|figure| format!("{figure:>8}")).collect();
        println!("  {binary:<10}{}", figures.concat());
    }
    Ok(())
}

/// For people, as Markdown.
fn table(figures: &Figures) -> String {
    let mut text = String::from(
        "| firmware | is | flash | RAM: variables | RAM: stack | RAM in all |\n| --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    let optional = |bytes: Option<u64>| bytes.map_or_else(String::new, grouped);
    for (Firmware { board, binary, about }, taken) in FIRMWARE.iter().zip(&figures.0) {
        let name = if board == binary { format!("`{board}`") } else { format!("`{board}`, `{binary}`") };
        let (flash, variables) = (grouped(taken.flash), grouped(taken.variables));
        let (stack, ram) = (optional(taken.stack), optional(taken.ram()));
        // Writing to a text does not fail.
        let _ = writeln!(text, "| {name} | {about} | {flash} | {variables} | {stack} | {ram} |");
    }
    text.push_str("\n| budget | bytes | at most |\n| --- | ---: | ---: |\n");
    for Budget { about, takes, most } in BUDGETS {
        let _ = writeln!(text, "| {about} | {} | {} |", optional(takes(figures)), grouped(*most));
    }
    text
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    match number / 1_000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1_000),
    }
}

/// Checks what takes how much.
fn check(figures: &Figures) -> Result {
    let mut over = Vec::new();
    for Budget { about, takes, most } in BUDGETS {
        match takes(figures) {
            Some(bytes) if bytes <= *most => {}
            Some(bytes) => over.push(format!("{about}: {bytes} bytes, {most} are allowed")),
            None => over.push(format!("{about}: it was not measured")),
        }
    }
    if over.is_empty() { Ok(()) } else { Err(Error::Told(over.join("; "))) }
}

/// The README, in three parts: before the table, the table, and behind it.
fn parts(readme: &str) -> Result<(&str, &str, &str)> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (table, behind)) = parts.ok_or_else(|| {
        Error::Told(format!("{README}: expected a line {} and behind it {}", BEGIN.trim(), END.trim()))
    })?;
    Ok((before, table, behind))
}

fn read() -> Result<String> {
    let path = root().join(README);
    fs::read_to_string(&path).map_err(Error::file(&path))
}

fn write(table: &str) -> Result {
    let readme = read()?;
    let (before, _, behind) = parts(&readme)?;
    let path = root().join(README);
    fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{behind}")).map_err(Error::file(&path))
}

fn compare(table: &str) -> Result {
    let readme = read()?;
    let (_, theirs, _) = parts(&readme)?;
    if is_the_same(theirs.trim(), table.trim()) {
        return Ok(());
    }
    Err(Error::Told(format!("the table in {README} is out of date: cargo xtask sizes --write")))
}

/// Whether two tables say the same, but for numbers that are off by a little.
fn is_the_same(one: &str, other: &str) -> bool {
    let mut pairs = one.split('|').zip(other.split('|'));
    one.split('|').count() == other.split('|').count()
        && pairs.all(|(one, other)| match (number(one), number(other)) {
            (Some(one), Some(other)) => one.abs_diff(other) <= one / TOLERANCE,
            _ => one == other,
        })
}

fn number(cell: &str) -> Option<u64> {
    cell.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(number(" 1,234,567 "), Some(1_234_567));
    }

    #[test]
    fn a_table_that_is_off_by_a_little_is_the_same() {
        assert!(is_the_same("| a | 10,000 | |", "| a | 10,100 | |"));
        assert!(!is_the_same("| a | 10,000 | |", "| a | 10,300 | |"));
        assert!(!is_the_same("| a | 10,000 | |", "| b | 10,000 | |"));
        assert!(!is_the_same("| a | 10,000 | |", "| a | 10,000 |"));
    }

    #[test]
    fn the_readme_is_cut_in_three() {
        let readme = format!("before\n{BEGIN}table\n{END}behind\n");
        assert_eq!(parts(&readme).ok(), Some(("before\n", "table\n", "behind\n")));
        assert!(parts("neither").is_err());
    }
}
