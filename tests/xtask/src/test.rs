//! `cargo xtask test`: everything that shows that the project works, in named steps.

use std::collections::BTreeMap;

use crate::setup::BARE_METAL;
use crate::shell::{Error, Result, Shell, target};
use crate::steps::{self, Step};
use crate::{chaos, codec, demo, dist, firmware, probe, setup, sizes, web};

/// Everything that shows that the project works, in named steps
///
/// Stops at the first step that fails and prints the command that runs it alone.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                everything
  cargo xtask test lints docs     these two steps
  cargo test -p holdfast NAME     one test of one package")]
pub(crate) struct Arguments {
    /// Only these steps, in their usual order [default: all but the slow ones]
    #[arg(value_name = "STEP", value_parser = step_names())]
    steps: Vec<String>,
    /// Also the long ones: bigger counts, longer runs
    #[arg(long)]
    slow: bool,
    /// Also check dependencies for known vulnerabilities, from a database on the network
    #[arg(long)]
    advisories: bool,
    /// Name the steps and run none
    #[arg(long)]
    list: bool,
}

pub(crate) const FORMAT: Step = Step {
    name: "format",
    about: "the sources are as rustfmt writes them",
    run: || {
        Shell::cargo("fmt --all --check").run()?;
        Shell::cargo("fmt --all --check --manifest-path").argument(firmware::MANIFEST).run()?;
        quietly_done(Shell::cargo("fmt --check --manifest-path").argument(FUZZ))
    },
};

pub(crate) const LINTS: Step = Step {
    name: "lints",
    about: "clippy has nothing to say",
    run: || quietly_done(Shell::cargo("clippy --workspace --all-targets -- -D warnings")),
};

pub(crate) const UNIT_TESTS: Step = Step {
    name: "unit-tests",
    about: "the tests inside of the packages; part of `tests`",
    run: || cargo_test(Shell::cargo("test --workspace --lib --bins")),
};

/// A workspace of its own, because only nightly builds it with sanitisers.
const FUZZ: &str = "tests/fuzz/Cargo.toml";

/// What `cargo xtask test` runs, in this order.
const STEPS: &[&Step] = &[
    &Step {
        name: "setup",
        about: "the tools that the other steps need are there",
        run: || setup::ensure().map(|()| String::new()),
    },
    &FORMAT,
    &LINTS,
    &Step {
        name: "fuzz",
        about: "the fuzz targets build, and clippy has nothing to say of them; `tests` replays their corpus",
        run: || {
            let clippy = Shell::cargo("clippy --all-targets --locked --manifest-path").argument(FUZZ);
            let clippy = clippy.argument("--target-dir").argument(target().join("fuzz"));
            quietly_done(clippy.arguments("-- -D warnings"))
        },
    },
    &Step {
        name: "dependencies",
        about: "licences, sources and duplicates of dependencies, by deny.toml",
        run: || {
            // What deny.toml skips is in one of the two workspaces, not in both.
            const CHECK: &str = "check --allow unmatched-skip licenses bans sources";
            Shell::cargo("deny --workspace --locked").arguments(CHECK).run()?;
            let hardware = Shell::cargo("deny --manifest-path").argument(firmware::MANIFEST);
            let hardware = hardware.arguments("--workspace --locked --config deny.toml");
            quietly_done(hardware.arguments(CHECK))
        },
    },
    &Step {
        name: "docs",
        about: "the documentation builds without a warning",
        run: || {
            quietly_done(Shell::cargo("doc --workspace --no-deps").environment("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    &Step {
        name: "no-std",
        about: "protocol-core and agent-embedded build for microcontrollers",
        run: no_std,
    },
    &Step {
        name: "probe",
        about: "protocol-core and agent-embedded can't panic, don't allocate, and are small",
        run: probe::step,
    },
    &Step {
        name: "firmware",
        about: "the firmware of all boards builds, fits its budget of flash, and clippy has nothing to say of it",
        run: firmware::step,
    },
    &Step { name: "codec", about: "the codec takes few instructions", run: codec::step },
    &Step {
        name: "web",
        about: "the console, by itself and in a real browser; what was seen is in target/console",
        run: web::step,
    },
    &Step {
        name: "binaries",
        about: "the server and the agent, for the end-to-end tests",
        run: || quietly_done(Shell::cargo("build --workspace --bins --locked")),
    },
    &Step {
        name: "tests",
        about: "all tests on this machine, those in the documentation too",
        run: || cargo_test(Shell::cargo("test --workspace")),
    },
    &Step {
        name: "sizes",
        about: "firmware takes what it may of flash and RAM, and hardware/README.md says what that is",
        run: sizes::step,
    },
    &Step { name: "demo", about: "the demonstration shows what it says", run: demo::step },
    &Step {
        name: "chaos",
        about: "a short time of everything breaking at random",
        run: || chaos::step(20, 1),
    },
    &Step {
        name: "release",
        about: "the server and the agent as they are installed",
        run: || quietly_done(Shell::cargo("build --release --bins --locked")),
    },
    &Step { name: "dist", about: "static agents for all boards, built, measured and run", run: dist::step },
];

/// What `--slow` adds.
const SLOW_STEPS: &[&Step] = &[
    &Step {
        name: "slow-tests",
        about: "all tests with bigger counts, and those that are ignored for their length",
        run: || {
            setup::ensure_slow()?;
            let tests = Shell::cargo("test --workspace --lib --bins --tests -- --include-ignored");
            cargo_test(tests.environment("HOLDFAST_SLOW", "1").environment("PROPTEST_CASES", "10000"))
        },
    },
    &Step {
        name: "slow-chaos",
        about: "a long time of everything breaking at random",
        run: || chaos::step(300, 2),
    },
];

/// What `--advisories` adds.
const ADVISORIES: &Step = &Step {
    name: "advisories",
    about: "no dependency has a known vulnerability",
    run: || quietly_done(Shell::cargo("deny --workspace --locked check advisories")),
};

/// `cargo xtask test`.
///
/// # Errors
/// A step failed; the later ones were not run.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let every = || every_step().filter(|step| step.name != UNIT_TESTS.name);
    if arguments.list {
        every().for_each(|step| println!("{:<13} {}", step.name, step.about));
        return Ok(());
    }
    if !arguments.steps.is_empty() {
        let asked: Vec<_> =
            every_step().filter(|step| arguments.steps.iter().any(|name| name == step.name)).collect();
        return steps::run_all(&asked, "cargo xtask test", &["the other steps: cargo xtask test"]);
    }
    let mut asked = STEPS.to_vec();
    let mut left_out = Vec::new();
    match arguments.advisories {
        true => asked.push(ADVISORIES),
        false => left_out.push("advisories: cargo xtask test --advisories (needs a network)"),
    }
    match arguments.slow {
        true => asked.extend(SLOW_STEPS),
        false => left_out.push("bigger counts and longer runs: cargo xtask test --slow"),
    }
    steps::run_all(&asked, "cargo xtask test", &left_out)
}

fn every_step() -> impl Iterator<Item = &'static Step> {
    STEPS.iter().copied().chain([&UNIT_TESTS, ADVISORIES]).chain(SLOW_STEPS.iter().copied())
}

fn step_names() -> clap::builder::PossibleValuesParser {
    every_step().map(|step| step.name).collect::<Vec<_>>().into()
}

fn quietly_done(shell: Shell) -> Result<String> {
    shell.run().map(|()| String::new())
}

fn no_std() -> Result<String> {
    for target in BARE_METAL {
        Shell::cargo("check --package protocol-core --package agent-embedded --features agent-embedded/tls --locked --target")
            .argument(target)
            .run()?;
    }
    Ok(BARE_METAL.join(", "))
}

/// Runs `cargo test`, and adds up the closing lines of its test runners.
fn cargo_test(shell: Shell) -> Result<String> {
    let mut counts = BTreeMap::new();
    shell.run_lines(|line| add_counts(line, &mut counts))?;
    let count = |name| counts.get(name).copied().unwrap_or(0);
    if count("passed") == 0 {
        return Err(Error::Told(String::from("expected at least one test to pass, but none was run")));
    }
    Ok(format!("{} passed, {} failed, {} ignored", count("passed"), count("failed"), count("ignored")))
}

/// Adds the numbers of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...` to `counts`.
fn add_counts(line: &str, counts: &mut BTreeMap<String, u64>) {
    let Some((_, numbers)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
    else {
        return;
    };
    for part in numbers.split("; ") {
        if let Some((number, name)) = part.split_once(' ')
            && let Ok(number) = number.parse::<u64>()
        {
            *counts.entry(name.to_owned()).or_default() += number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut counts = BTreeMap::new();
        add_counts("running 3 tests", &mut counts);
        add_counts(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            &mut counts,
        );
        add_counts(
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            &mut counts,
        );
        assert_eq!(counts["passed"], 7);
        assert_eq!(counts["failed"], 2);
        assert_eq!(counts["ignored"], 1);
    }

    #[test]
    fn names_of_steps_are_unique() {
        let mut names: Vec<_> = every_step().map(|step| step.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "two steps have one name: {names:?}");
    }
}
