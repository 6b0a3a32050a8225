//! `cargo xtask`: the commands of this repository. Each command is one file beside this one.

#![forbid(unsafe_code)]

mod bench;
mod chaos;
mod check;
mod codec;
mod demo;
mod dist;
mod firmware;
mod image;
mod probe;
mod setup;
mod shell;
mod sizes;
mod steps;
mod test;
mod web;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Setup(setup::Arguments),
    Check(check::Arguments),
    Test(test::Arguments),
    Chaos(chaos::Arguments),
    Dist(dist::Arguments),
    Probe(probe::Arguments),
    Codec(codec::Arguments),
    Sizes(sizes::Arguments),
    Bench(bench::Arguments),
    Web(web::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Codec(arguments) => codec::run(&arguments),
        Command::Sizes(arguments) => sizes::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Web(arguments) => web::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        let mut command = super::Arguments::command();
        command.build();
        command.clone().debug_assert();
        for command in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "cargo xtask {} --help shows no example", command.get_name());
        }
    }
}
