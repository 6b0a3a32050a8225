//! What can go wrong with a verb, and the exit code that tells it.

use std::{io, path::PathBuf, process::ExitCode};

use protocol_core::escape::OneLine;

use crate::{
    api::view::{ErrorAnswer, ErrorBody},
    config::ConfigError,
};

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Nobody listens on the server's socket.
    #[error("no server runs on {}", data.display())]
    NoServer {
        /// The data directory.
        data: PathBuf,
    },
    /// The server's socket is not this user's to open.
    #[error("may not talk to the server at {}", socket.display())]
    Denied {
        /// Its socket.
        socket: PathBuf,
    },
    /// The server can't be talked to.
    #[error("can't talk to the server at {server}: {reason}")]
    Unreachable {
        /// Its socket, or address.
        server: String,
        /// What failed.
        reason: String,
    },
    /// There is no way to the server.
    #[error("{server} can't be reached: {reason}")]
    NotReached {
        /// Its address.
        server: String,
        /// What failed.
        reason: String,
    },
    /// Another server answers, or it has another key.
    #[error("{server}: {reason}")]
    Untrusted {
        /// Its address.
        server: String,
        /// What it has shown.
        reason: String,
    },
    /// There is no such context.
    #[error("{0}")]
    NoContext(String),
    /// The server takes no login by this line.
    #[error("the server refused: {detail}")]
    LoginRefused {
        /// Why.
        detail: String,
        /// What to do about it.
        next_step: &'static str,
    },
    /// The server says no.
    #[error("{}", error.message)]
    Answer {
        /// The HTTP status.
        status: u16,
        /// What it says.
        error: ErrorBody,
    },
    /// The arguments don't make sense, in a way that only shows when they are used.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
    /// Reading the input, or writing the output, failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl CliError {
    /// A failure in words.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// Whether the same may go well a while later: the server can't be reached now, or can't do it now.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NoServer { .. } | Self::Unreachable { .. } | Self::NotReached { .. } => true,
            Self::Answer { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }

    /// Tells the error on standard error, and gives its exit code.
    pub(super) fn report(&self, json: bool) -> ExitCode {
        if let Self::Io(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever read the output has had enough.
            return ExitCode::SUCCESS;
        }
        // An error of the configuration shows where it is, in several lines.
        let message =
            self.to_string().lines().map(|line| OneLine(line).to_string()).collect::<Vec<_>>().join("\n");
        let next_step = self.next_step().map(|step| OneLine(&step).to_string());
        if json {
            let body = ErrorBody { code: self.code().to_owned(), message, next_step };
            let answer = serde_json::to_string(&ErrorAnswer { error: body }).unwrap_or_default();
            eprintln!("{answer}");
        } else {
            match next_step {
                Some(step) => eprintln!("holdfast: {message}; {step}"),
                None => eprintln!("holdfast: {message}"),
            }
        }
        ExitCode::from(self.exit_code())
    }

    /// The exit code, as in the help.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::NoServer { .. } | Self::Unreachable { .. } | Self::NotReached { .. } => 3,
            Self::Answer { error, .. } if error.code == "stopping" => 3,
            Self::Answer { status: 400 | 422, .. } => 2,
            Self::NoContext(_) | Self::Answer { status: 404, .. } => 4,
            Self::Denied { .. }
            | Self::Untrusted { .. }
            | Self::LoginRefused { .. }
            | Self::Answer { status: 401 | 403, .. } => 5,
            Self::Answer { .. } | Self::Failed(_) | Self::Io(_) => 1,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::NoServer { .. } => "no-server",
            Self::Denied { .. } => "denied",
            Self::Unreachable { .. } | Self::NotReached { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::NoContext(_) => "no-context",
            Self::LoginRefused { .. } => "login-refused",
            Self::Answer { error, .. } => &error.code,
            Self::Usage(_) => "usage",
            Self::Config(_) => "configuration",
            Self::Failed(_) | Self::Io(_) => "failed",
        }
    }

    pub(super) fn next_step(&self) -> Option<String> {
        match self {
            Self::NoServer { data } => Some(format!(
                "start it with `holdfast serve --data {0}`, name the data directory of one that runs by --data, or log in to one elsewhere: `holdfast login`",
                data.display()
            )),
            Self::Denied { .. } => Some("run this as the user of the server, or as root".to_owned()),
            // The answer may have been lost after the work was done.
            Self::Unreachable { .. } => Some(
                "`holdfast events` shows whether what was asked for was done; if not, ask again".to_owned(),
            ),
            Self::NotReached { .. } => Some("check the network and the address".to_owned()),
            Self::Untrusted { .. } => Some(
                "it is another server, or its key was replaced: log in anew with a new line (holdfast enroll --operator)"
                    .to_owned(),
            ),
            Self::NoContext(_) => {
                Some("`holdfast contexts` shows all that there are, `holdfast login` makes one".to_owned())
            }
            Self::LoginRefused { next_step, .. } => Some((*next_step).to_owned()),
            Self::Answer { error, .. } => error.next_step.clone(),
            _ => None,
        }
    }
}
