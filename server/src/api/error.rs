//! Errors of the API: an HTTP status, and JSON that says what was expected, what came and what to do.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    extract::rejection::{BytesRejection, JsonRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    rights::Denied,
    view::{ErrorAnswer, ErrorBody, Time},
};
use crate::{
    enrolment::InviteError,
    registry::ReachError,
    span,
    ssh_account::SshAccountError,
    store::{DeviceKind, DeviceRow, StoreError, UnixMillis},
    tasks::TaskError,
};

/// What to do where an operator's key is worth nothing.
const LOG_IN: &str = "ask an admin for a line (`holdfast enroll --operator NAME`) and give it to `holdfast login --again LINE`";

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    next_step: Option<Cow<'static, str>>,
    /// After how many seconds it is worth trying again.
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), next_step: None, retry_after: None }
    }

    /// What to do about it.
    pub(super) fn hint(mut self, next_step: impl Into<Cow<'static, str>>) -> Self {
        self.next_step = Some(next_step.into());
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

    /// The device's rights were taken away.
    pub(super) fn revoked(device: &DeviceRow) -> Self {
        let again = enrol_again(&device.name, device.kind, device.gateway.as_deref());
        Self::new(StatusCode::FORBIDDEN, "revoked", StoreError::Revoked.to_string())
            .hint(format!("`{again}` lets it in again"))
    }

    /// The device has no connection.
    pub(super) fn offline(row: &DeviceRow) -> Self {
        let message = match row.last_seen {
            Some(seen) => {
                let ago = UnixMillis::now().0.saturating_sub(seen.0) / 1_000;
                let ago = span::of_seconds(u64::try_from(ago).unwrap_or(0));
                let at = Time(seen).timestamp().strftime("%Y-%m-%d %H:%M:%S UTC");
                format!("{} is offline; it was last seen {at} ({ago} ago)", row.name)
            }
            None => format!("{} is offline; it was never seen", row.name),
        };
        Self::new(StatusCode::CONFLICT, "offline", message)
            .hint(format!("`holdfast sessions {}` tells why it went", row.name))
    }

    /// What is to be stopped has ended.
    pub(super) fn task_ended(id: i64) -> Self {
        Self::new(StatusCode::CONFLICT, "ended", format!("task {id} has ended already"))
            .hint(format!("`holdfast task show {id}` says how"))
    }

    /// There is no operator of this name.
    pub(super) fn no_such_operator(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-operator", format!("there is no operator {name:?}"))
            .hint("`holdfast operators` shows all that there are")
    }

    /// Nobody knows the key of the one who asks.
    pub(super) fn unknown_key() -> Self {
        Self::new(StatusCode::FORBIDDEN, "unknown-key", "this key is no operator's here").hint(LOG_IN)
    }

    /// The rights of the one who asks were taken away.
    pub(super) fn operator_revoked(name: &str) -> Self {
        let message = format!("the rights of {name} were taken away");
        Self::new(StatusCode::FORBIDDEN, "revoked", message).hint(LOG_IN)
    }

    /// The rights of the one who asks were changed while they asked.
    pub(super) fn rights_changed() -> Self {
        let message = "your rights have changed since you asked: nothing was done";
        Self::new(StatusCode::FORBIDDEN, "rights-changed", message).hint("ask again")
    }

    /// As many requests are worked on as may be.
    pub(super) fn too_many_requests(limit: usize) -> Self {
        let message = format!("{limit} requests are worked on, or connections open, and no more may be");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-requests", message).hint("try again soon")
    }

    /// What it says, without what to do about it.
    pub(super) fn message(&self) -> &str {
        &self.message
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

    /// It can't be done in this way.
    pub(super) async fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "this can't be done here")
    }

    /// Nobody is logged in in this browser, or no longer.
    pub(super) fn not_logged_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not-logged-in", "nobody is logged in here, or no longer")
            .hint("log in; `holdfast user login NAME` on the server makes a one-time login")
    }

    /// The access token is none, or none any more.
    pub(super) fn wrong_token() -> Self {
        let message = "the access token is unknown, revoked or expired";
        Self::new(StatusCode::UNAUTHORIZED, "wrong-token", message).hint(
            "`holdfast token list --operator NAME` shows somebody's, `holdfast token add NAME` makes one",
        )
    }

    /// Whoever wants to log in is not who they say, or can't show it. Which it is, is not told.
    pub(super) fn wrong_login() -> Self {
        let message =
            "the name, the password or the code is wrong, or the one-time login has been used or has expired";
        Self::new(StatusCode::UNAUTHORIZED, "wrong-login", message)
            .hint("`holdfast user login NAME` on the server makes a new one-time login")
    }

    /// The password is right, and there is a second factor.
    pub(super) fn code_needed() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "code-needed", "the code of the second factor is needed, too")
    }

    /// Somebody has tried to log in too often.
    pub(super) fn too_many_logins(wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        let message = format!("too many tries; the next one is taken in {seconds} s");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-logins", message);
        Self { retry_after: Some(seconds), ..error }
    }

    /// The code of the second factor is not the one of now, or has been used.
    pub(super) fn wrong_code() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "wrong-code", "this is not the code of now")
            .hint("look whether the clock of the device with the app is right; each code is good for once")
    }

    /// Passwords can't be compared now.
    pub(super) fn no_hash() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "no-hash", "the password could not be compared")
            .hint("the server's log may tell more")
    }

    /// The system gave no random bytes.
    pub(super) fn no_random(error: &getrandom::Error) -> Self {
        let message = format!("the system gave no random bytes: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-random", message)
    }

    /// The server is on its way down.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping")
    }
}

/// The command that lets a revoked device in again, as it was enrolled before.
pub(super) fn enrol_again(name: &str, kind: DeviceKind, gateway: Option<&str>) -> String {
    match (kind, gateway) {
        (DeviceKind::Firmware, _) => {
            format!("holdfast enroll --firmware --name {name} [--address HOST:PORT] --out DIR")
        }
        (_, Some(gateway)) => format!("holdfast enroll --name {name} --gateway {gateway}"),
        (_, None) => format!("holdfast enroll --name {name}"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorBody {
            code: self.code.to_owned(),
            message: self.message,
            next_step: self.next_step.map(Cow::into_owned),
        };
        let mut response = (self.status, Json(ErrorAnswer { error })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let next_step = match denied {
            Denied::User(_) => "ask as the server's own user, or as root",
            Denied::Role(_) => "ask an admin to do it, or for a line with a higher role",
            Denied::AccessToken => "log in to the console",
        };
        Self::new(StatusCode::FORBIDDEN, "denied", denied.to_string()).hint(next_step)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NoSuchDevice => Self::new(StatusCode::NOT_FOUND, "no-such-device", message)
                .hint("`holdfast devices` shows all that there are"),
            StoreError::Revoked => Self::new(StatusCode::FORBIDDEN, "revoked", message)
                .hint("`holdfast device` shows how it was enrolled: enrol it so again"),
            StoreError::GatewayRevoked(name) => Self::new(StatusCode::FORBIDDEN, "revoked", message)
                .hint(format!("enrol that again first: `holdfast enroll --name {name}`")),
            StoreError::NameTaken(_) => Self::new(StatusCode::CONFLICT, "name-taken", message)
                .hint("choose another name, or revoke that device first: the new one then takes its place"),
            StoreError::WiredElsewhere { .. } => Self::new(StatusCode::CONFLICT, "name-taken", message)
                .hint("to move it, revoke it first, and enrol it for the new one then: it keeps its history"),
            StoreError::NoGateway { .. } => Self::new(StatusCode::CONFLICT, "no-gateway", message)
                .hint("name the device whose Linux agent has the wire"),
            StoreError::IsGateway { .. } => Self::new(StatusCode::CONFLICT, "is-gateway", message).hint(
                "revoke what is wired to it first (`holdfast devices` shows it), or choose another name",
            ),
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

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        match error {
            TaskError::Store(error) => error.into(),
            TaskError::Offline => Self::new(StatusCode::CONFLICT, "offline", message),
            TaskError::NotOffered(_) => Self::new(StatusCode::CONFLICT, "not-offered", message)
                .hint("see [tasks] in the device's agent.toml, and the version of its agent"),
            TaskError::TooMany => Self::new(StatusCode::CONFLICT, "too-many-tasks", message)
                .hint("`holdfast tasks` shows them, `holdfast task stop` ends one"),
            TaskError::Ended(_) | TaskError::Refused(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "task-failed", message)
                    .hint("`holdfast tasks` shows it, `holdfast task show` what it wrote")
            }
            TaskError::SshAccount(SshAccountError::Kept(_)) => {
                Self::new(StatusCode::CONFLICT, "ports-kept", message)
            }
            TaskError::SshAccount(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ssh-account", message),
            TaskError::NoSuchTask => Self::new(StatusCode::CONFLICT, "ended", message),
            TaskError::NoRandom(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-random", message),
        }
    }
}

impl From<InviteError> for ApiError {
    fn from(error: InviteError) -> Self {
        match error {
            InviteError::Store(error) => error.into(),
            InviteError::NoAddress => Self::bad_request(error.to_string()),
            InviteError::NoRandom(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-random", error.to_string())
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
