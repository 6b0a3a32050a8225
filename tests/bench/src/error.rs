//! Why there is no measurement.

use std::path::Path;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A socket, a process or the system's figures failed.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// A key can't be read.
    #[error("keys: {0}")]
    Key(#[from] rcgen::Error),
    /// The server's store can't be prepared.
    #[error("the server's store: {0}")]
    Store(#[from] holdfast_server::store::StoreError),
    /// A figure of another process can't be read.
    #[error("figures: {0}")]
    Figures(#[from] serde_json::Error),
    /// What was expected, what came, and what to do.
    #[error("{0}")]
    Told(String),
}

impl Error {
    /// For `map_err`: what the system said of a file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Told(format!("{}: {error}", path.display()))
    }

    /// For `map_err`: what broke a conversation.
    pub(crate) fn talk(error: impl std::fmt::Display) -> Self {
        Self::Told(format!("the conversation with the server: {error}"))
    }
}

pub(crate) type Result<T = ()> = std::result::Result<T, Error>;
