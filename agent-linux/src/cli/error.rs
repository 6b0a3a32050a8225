//! What can go wrong with a verb, and the exit code that tells it.

use std::{io, process::ExitCode};

use protocol_core::escape::OneLine;
use serde_json::json;

use crate::{
    config::ConfigError, enrol::EnrolError, identity::IdentityError, local_client::LocalError,
    queue::QueueError, run::RunError, state::StateError,
};

/// Why a verb was not done. The texts name the next step.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Run(#[from] RunError),
    /// Reading the input, or writing the output, failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A camera gives no pictures.
    #[error("{0}")]
    Camera(String),
    /// There is no such camera.
    #[error("there is no camera {name:?} in agent.toml; holdfast-agent cameras lists them")]
    NoCamera { name: String },
    /// There are no random numbers.
    #[error("the system gave no random numbers: {0}")]
    NoRandom(#[from] getrandom::Error),
}

impl CliError {
    /// Tells the error on standard error, and gives its exit code.
    pub(super) fn report(&self, json: bool) -> ExitCode {
        if let Self::Io(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever read the output has had enough.
            return ExitCode::SUCCESS;
        }
        let (code, exit_code) = self.codes();
        let message = self.to_string();
        if json {
            eprintln!("{}", json!({ "error": { "code": code, "message": message } }));
        } else {
            // A server's words are in some of them.
            let lines: Vec<_> = message.lines().map(|line| OneLine(line).to_string()).collect();
            eprintln!("holdfast-agent: {}", lines.join("\n"));
        }
        ExitCode::from(exit_code)
    }

    fn codes(&self) -> (&'static str, u8) {
        match self {
            Self::Config(_) => ("configuration", 2),
            Self::Enrol(EnrolError::NoInvitation | EnrolError::Damaged(_)) => ("usage", 2),
            Self::Queue(QueueError::TooLarge { .. }) => ("too-large", 2),
            Self::Enrol(EnrolError::Unreachable(_) | EnrolError::Cut { .. }) => ("unreachable", 3),
            Self::Local(LocalError::NotRunning | LocalError::Lost(_)) => ("not-running", 3),
            Self::Enrol(EnrolError::Refused { .. }) => ("refused", 5),
            Self::Local(LocalError::Denied(_)) => ("denied", 5),
            Self::State(error)
            | Self::Identity(IdentityError::State(error))
            | Self::Enrol(EnrolError::Identity(IdentityError::State(error)))
            | Self::Run(RunError::State(error))
                if error.is_denied() =>
            {
                ("denied", 5)
            }
            Self::Queue(QueueError::Full { .. }) => ("full", 1),
            Self::Enrol(EnrolError::AlreadyEnrolled { .. }) => ("already-enrolled", 1),
            Self::State(StateError::Receiving) => ("busy", 1),
            Self::State(StateError::Missing { .. }) => ("not-enrolled", 1),
            _ => ("failed", 1),
        }
    }
}
