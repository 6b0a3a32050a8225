//! An operator's machine, elsewhere: with a home of its own, and no way to the server's socket.

use std::{
    io,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binaries,
    process::{self, Process},
    server::Server,
    wait::LONGEST_WAIT,
};

/// An operator's machine: a home of its own, and no way to the server's socket.
#[derive(Debug)]
pub struct Laptop {
    home: TempDir,
}

impl Laptop {
    /// One that nobody has logged in from.
    ///
    /// # Errors
    /// Its directory can't be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self { home: tempfile::tempdir()? })
    }

    /// One whose user has logged in.
    ///
    /// # Errors
    /// Its directory can't be made.
    ///
    /// # Panics
    /// The login fails.
    #[track_caller]
    pub fn logged_in(server: &Server, name: &str, role: &str) -> io::Result<Self> {
        let laptop = Self::new()?;
        let printed = laptop.tell(&["login", &server.operator_line(name, role)]);
        assert!(printed.contains(&format!("as {name}")), "{printed}");
        Ok(laptop)
    }

    /// Where its user's contexts are.
    pub fn contexts(&self) -> PathBuf {
        self.home.path().join("config/holdfast/contexts")
    }

    /// What `env` is told so that `holdfast` runs as on a machine of its own, with these arguments.
    pub fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let home = self.home.path().display();
        let mut all =
            vec!["-u".to_owned(), "HOLDFAST_DATA".to_owned(), "-u".to_owned(), "HOLDFAST_CONTEXT".to_owned()];
        all.extend([format!("HOME={home}"), format!("XDG_CONFIG_HOME={home}/config")]);
        all.push(binaries::holdfast().display().to_string());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    }

    /// Runs `holdfast` there.
    ///
    /// # Panics
    /// It can't be run, or takes too long.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        process::run(Path::new("env"), self.arguments(arguments), LONGEST_WAIT).expect("holdfast runs")
    }

    /// Runs `holdfast` there, which succeeds; gives what it prints.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn tell(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "holdfast {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `holdfast --json` there, which succeeds, and gives the objects that it prints.
    ///
    /// # Panics
    /// It fails, or prints something else.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.tell(&[arguments, &["--json"]].concat());
        process::objects(arguments, &printed)
    }

    /// Runs `holdfast` there, which fails with this exit code and these words.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "holdfast {arguments:?}: {output:?}");
        assert!(words.iter().all(|word| error.contains(word)), "expected {words:?}, found {error}");
    }

    /// Starts `holdfast` there, which goes on.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(&self, arguments: &[&str]) -> io::Result<Process> {
        Process::start(Path::new("env"), self.arguments(arguments), &self.home.path().join("log"))
    }
}
