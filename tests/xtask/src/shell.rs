//! Running other programs from the root of the repository, and saying so.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a command of `cargo xtask` ended without doing its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program could not be started at all.
    #[error("`{command}` could not be started: {source}; `cargo xtask setup` installs what is missing")]
    Start {
        /// The command line.
        command: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A program ran and reported failure.
    #[error("`{command}` ended with {status}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A file or directory of the repository could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What was expected, what came, and what to do.
    #[error("{0}")]
    Told(String),
}

impl Error {
    /// For `map_err`: a file error that names `path`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

/// The outcome of a command or a step.
pub(crate) type Result<T = ()> = std::result::Result<T, Error>;

/// The root of the repository, wherever `cargo xtask` was called.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Everything that is built, and everything that `cargo xtask` writes: `target/`, unless `CARGO_TARGET_DIR` says otherwise.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// A program to run: from the root of the repository, without standard input.
pub(crate) struct Shell {
    command: Command,
}

impl Shell {
    /// The program `name`, found on `PATH`, with the words of `arguments`, which are separated by single spaces.
    pub(crate) fn new(name: impl AsRef<OsStr>, arguments: &str) -> Self {
        let mut command = Command::new(name);
        command.args(arguments.split_ascii_whitespace()).current_dir(root()).stdin(Stdio::null());
        // What cargo told this program would make the build scripts of dependencies run again.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_of_this_package) {
                command.env_remove(name);
            }
        }
        Self { command }
    }

    /// The `cargo` that runs this command.
    pub(crate) fn cargo(arguments: &str) -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
    }

    /// More arguments, separated by spaces.
    pub(crate) fn arguments(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_ascii_whitespace());
        self
    }

    /// One more argument, which may contain spaces.
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// One more environment variable.
    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it, its output going where ours goes.
    ///
    /// # Errors
    /// It could not be started, or did not end with success.
    pub(crate) fn run(self) -> Result {
        println!("$ {self}");
        self.run_alone()
    }

    /// As [`Shell::run`], without a word of ours: its standard output may be for another program.
    ///
    /// # Errors
    /// It could not be started, or did not end with success.
    pub(crate) fn run_alone(mut self) -> Result {
        let status = self.command.status().map_err(|source| self.not_started(source))?;
        if status.success() { Ok(()) } else { Err(Error::Failed { command: self.to_string(), status }) }
    }

    /// Becomes it: what is typed, and each signal, is for it alone.
    ///
    /// # Errors
    /// It could not be started; else this does not return.
    pub(crate) fn become_it(mut self) -> Result {
        let source = std::os::unix::process::CommandExt::exec(&mut self.command);
        Err(self.not_started(source))
    }

    /// Runs it, hands each line of its standard output to `each` as it comes, and prints it.
    ///
    /// # Errors
    /// It could not be started, or did not end with success.
    pub(crate) fn run_lines(mut self, mut each: impl FnMut(&str)) -> Result {
        println!("$ {self}");
        let mut child =
            self.command.stdout(Stdio::piped()).spawn().map_err(|source| self.not_started(source))?;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).split(b'\n').map_while(|line| line.ok()) {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                each(&line);
            }
        }
        let status = child.wait().map_err(|source| self.not_started(source))?;
        if status.success() { Ok(()) } else { Err(Error::Failed { command: self.to_string(), status }) }
    }

    /// Runs it in silence, and returns whether it succeeded and what it wrote, standard output before standard error.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) fn output(mut self) -> Result<(bool, String)> {
        let output = self.command.output().map_err(|source| self.not_started(source))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    /// Whether it can be started and succeeds; nothing is printed.
    pub(crate) fn succeeds(self) -> bool {
        self.output().is_ok_and(|(success, _)| success)
    }

    fn not_started(&self, source: std::io::Error) -> Error {
        Error::Start { command: self.to_string(), source }
    }
}

/// Whether cargo sets this variable for the programs of a package that it runs.
fn is_of_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

impl fmt::Display for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                write!(f, "{}={:?} ", name.to_string_lossy(), value.to_string_lossy())?;
            }
        }
        let program = Path::new(self.command.get_program());
        write!(f, "{}", program.file_name().unwrap_or(program.as_os_str()).to_string_lossy())?;
        for argument in self.command.get_args() {
            write!(f, " {}", argument.to_string_lossy())?;
        }
        Ok(())
    }
}
