//! How a connection ends: what the peer is told, and what is written down.

use protocol_core::{
    code::CloseReason,
    message::Close,
    session::{Lost, ProtocolError},
};

use super::wire::WireError;
use crate::{
    handler::HandlerError,
    mailbox::{Farewell, UNKNOWN_RETRY},
    store::{EndReason, StoreError},
};

/// How a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// We end it, and tell the peer why.
    Told(Farewell),
    /// The peer ended it, and told us why.
    Left {
        /// The peer's words.
        detail: String,
    },
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The peer is lost.
    Lost(Lost),
    /// The bytes ended.
    Wire(WireError),
}

impl End {
    /// The peer ended it.
    pub(super) fn left(close: &Close<'_>) -> Self {
        Self::Left { detail: close.detail.as_str().to_owned() }
    }

    /// The store does not do what is needed now.
    #[allow(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
    pub(crate) fn store(error: StoreError) -> Self {
        if let StoreError::Revoked = error {
            // The device was revoked while its connection opened. The store does answer.
            let farewell = Farewell::new(CloseReason::Revoked, "this device was revoked");
            return Self::Told(farewell.retry_after(UNKNOWN_RETRY));
        }
        tracing::error!(%error, "the store does not answer");
        Self::Told(
            Farewell::new(CloseReason::Overloaded, "the server's store does not answer").retry_after(10),
        )
    }

    /// What the peer is told, if it can be.
    pub(super) fn farewell(&self) -> Option<Farewell> {
        match self {
            Self::Told(farewell) => Some(farewell.clone()),
            Self::Protocol(error) => Some(Farewell::new(error.reason(), error.to_string())),
            Self::Lost(lost) => Some(Farewell::new(CloseReason::Silent, lost.to_string())),
            Self::Left { .. } | Self::Wire(_) => None,
        }
    }

    /// What is written down of a session that ends so.
    pub(super) fn reason(&self) -> EndReason {
        match self {
            Self::Told(farewell) => match farewell.reason {
                CloseReason::Draining => EndReason::ServerStopped,
                CloseReason::Replaced => EndReason::Replaced,
                CloseReason::Revoked => EndReason::Revoked,
                CloseReason::Conflict => EndReason::Conflict,
                CloseReason::Silent => EndReason::Lost,
                CloseReason::Overloaded => EndReason::StoreFailed,
                CloseReason::ProtocolError => EndReason::ProtocolError,
                _ => EndReason::Closed,
            },
            Self::Left { .. } => EndReason::Closed,
            Self::Protocol(_) => EndReason::ProtocolError,
            Self::Lost(_) | Self::Wire(WireError::NotReading) => EndReason::Lost,
            Self::Wire(WireError::Ended | WireError::Broken(_)) => EndReason::Broken,
        }
    }

    /// Why a peer is refused that never came to have a session; nothing if it went by itself, whatever reason it gave.
    pub(super) fn refusal(&self) -> Option<CloseReason> {
        match self {
            Self::Told(farewell) => Some(farewell.reason),
            Self::Left { .. } => None,
            Self::Protocol(error) => Some(error.reason()),
            Self::Lost(_) | Self::Wire(WireError::NotReading) => Some(CloseReason::Silent),
            Self::Wire(_) => Some(CloseReason::Finished),
        }
    }

    /// More of it, in words; what a peer said is shortened and free of control characters.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Told(farewell) => farewell.detail.clone(),
            Self::Left { detail, .. } => detail.clone(),
            Self::Protocol(error) => error.to_string(),
            Self::Lost(lost) => lost.to_string(),
            Self::Wire(error) => error.to_string(),
        }
    }
}

impl From<ProtocolError> for End {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<HandlerError> for End {
    fn from(error: HandlerError) -> Self {
        match error {
            HandlerError::Malformed(error) => Self::Protocol(error.into()),
            HandlerError::Store(error) => Self::store(error),
            HandlerError::TooMany => {
                Self::Told(Farewell::new(CloseReason::ProtocolError, error.to_string()).retry_after(30))
            }
            HandlerError::NoRoom => Self::Told(
                Farewell::new(CloseReason::Overloaded, "the server has more to write than it can")
                    .retry_after(10),
            ),
        }
    }
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_revoked_while_it_opens_is_told_so() {
        let farewell = End::store(StoreError::Revoked).farewell().expect("it is told");
        assert_eq!((farewell.reason, farewell.retry_after), (CloseReason::Revoked, UNKNOWN_RETRY));
        assert_eq!(End::store(StoreError::Closed).refusal(), Some(CloseReason::Overloaded));
    }
}
