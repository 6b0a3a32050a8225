//! What every handler is given: who asks, and the server behind the question whether they may.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, FromRequest, FromRequestParts, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Api,
    error::ApiError,
    rights::{Action, Actor, Object, may},
};

/// One who asks. The server is reached through [`Asker::may`] only: no handler can forget to ask.
pub(super) struct Asker {
    actor: Actor,
    api: Arc<Api>,
}

impl Asker {
    /// The server, if the one who asks may do this.
    pub(super) fn may(&self, action: Action, object: Object<'_>) -> Result<&Arc<Api>, ApiError> {
        may(&self.actor, action, object)?;
        Ok(&self.api)
    }

    /// Their name, for events.
    pub(super) fn name(&self) -> String {
        self.actor.name()
    }
}

impl FromRequestParts<Arc<Api>> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let connected = parts.extensions.get::<ConnectInfo<Actor>>();
        let unknown = || ApiError::new(StatusCode::FORBIDDEN, "denied", "it is not known who asks");
        let ConnectInfo(actor) = connected.ok_or_else(unknown)?.clone();
        Ok(Self { actor, api: Arc::clone(api) })
    }
}

/// A JSON body: bounded, whole, and without fields that nobody knows.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Json(body) = Json::from_request(request, api).await?;
        Ok(Self(body))
    }
}

/// No body, or one that says nothing: `{}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl FromRequest<Arc<Api>> for Nothing {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, api).await?;
        match body.is_empty() {
            true => Ok(Self {}),
            false => serde_json::from_slice(&body)
                .map_err(|error| ApiError::bad_request(format!("expected no body, or {{}}: {error}"))),
        }
    }
}

/// What stands behind the path, without fields that nobody knows.
pub(super) struct Options<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Api>> for Options<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Query(options) = Query::from_request_parts(parts, api).await?;
        Ok(Self(options))
    }
}
