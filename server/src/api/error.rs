//! Errors of the API: an HTTP status, and JSON that says what was expected, what came and what to do.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::{BytesRejection, JsonRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    rights::Denied,
    view::{ErrorAnswer, ErrorBody},
};
use crate::{enrolment::InviteError, registry::ReachError, span, store::StoreError};

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    next_step: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), next_step: None }
    }

    /// What to do about it.
    pub(super) fn hint(mut self, next_step: &'static str) -> Self {
        self.next_step = Some(next_step);
        self
    }

    /// The request makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// There is no device of this name.
    pub(super) fn no_such_device(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-device", format!("there is no device {name:?}"))
            .hint("`holdfast devices` shows all that there are")
    }

    /// The rest of the request did not come.
    pub(super) fn too_slow(time_limit: Duration) -> Self {
        let message = format!("expected the whole request within {}", span::shortened(time_limit));
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", message)
            .hint("send as many bytes as Content-Length says")
    }

    /// As many streams are open as may be.
    pub(super) fn too_many_streams(limit: usize) -> Self {
        let message = format!("{limit} streams are open, and no more may be");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", message)
            .hint("end some that are not read")
    }

    /// The server is on its way down.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorBody {
            code: self.code.to_owned(),
            message: self.message,
            next_step: self.next_step.map(ToOwned::to_owned),
        };
        (self.status, Json(ErrorAnswer { error })).into_response()
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", denied.to_string())
            .hint("ask as the server's own user, or as root")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NoSuchDevice => Self::new(StatusCode::NOT_FOUND, "no-such-device", message)
                .hint("`holdfast devices` shows all that there are"),
            StoreError::Revoked => Self::new(StatusCode::FORBIDDEN, "revoked", message)
                .hint("`holdfast enroll --name` with its name lets it in again"),
            StoreError::NameTaken(_) => Self::new(StatusCode::CONFLICT, "name-taken", message)
                .hint("choose another name, or revoke that device first: the new one then takes its place"),
            StoreError::NoGateway => Self::new(StatusCode::CONFLICT, "no-gateway", message)
                .hint("name the device whose agent has the wire"),
            StoreError::Classic => Self::new(StatusCode::CONFLICT, "classic", message),
            StoreError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message).hint("send it in parts")
            }
            StoreError::TooManyWaiting { .. } => Self::new(StatusCode::CONFLICT, "queue-full", message).hint(
                "let it fetch some first, or raise limits.queued-messages in the server's configuration",
            ),
            StoreError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", message),
            StoreError::Closed => Self::stopping(),
            StoreError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", message),
            _ => {
                tracing::error!(%error, "the store failed under a request");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store", message)
                    .hint("the server's log may tell more")
            }
        }
    }
}

impl From<ReachError> for ApiError {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Offline => Self::new(StatusCode::CONFLICT, "offline", error.to_string())
                .hint("`holdfast device` shows when it was last seen"),
            ReachError::NoAnswer => Self::new(StatusCode::GATEWAY_TIMEOUT, "no-answer", error.to_string()),
        }
    }
}

impl From<InviteError> for ApiError {
    fn from(error: InviteError) -> Self {
        match error {
            InviteError::Store(error) => error.into(),
            InviteError::NoAddress => Self::bad_request(error.to_string()),
            InviteError::NoRandom(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "no-random", error.to_string())
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "bad-request", rejection.body_text())
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), "bad-request", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "bad-request", rejection.body_text())
    }
}
