//! What every handler is given: who asks, and the server behind the question whether they may.

use std::{fmt, marker::PhantomData, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, header, request::Parts},
};
use hyper::upgrade::OnUpgrade;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use tokio::time::timeout;

use super::{
    Api,
    error::ApiError,
    peer::{Peer, Rights},
    rights::{self, Action, Actor, may},
    view::headers::UPGRADE,
};
use crate::{
    event::{EventKind, NewEvent, Who},
    store::DeviceId,
    tasks::Requester,
};

/// One who asks. The server is reached through [`Asker::may`] only: no handler can forget to ask.
pub(super) struct Asker {
    actor: Actor,
    peer: Peer,
    api: Arc<Api>,
}

impl Asker {
    /// The server, if the one who asks may do this.
    pub(super) fn may(&self, action: Action, object: rights::Object<'_>) -> Result<&Arc<Api>, ApiError> {
        self.check_rights()?;
        match may(&self.actor, action, object) {
            Ok(()) => Ok(&self.api),
            Err(denied) => {
                self.note_denied(action, object);
                Err(denied.into())
            }
        }
    }

    /// Whether who asks still has the rights that they came with: the rest of a request may come long after its head.
    pub(super) fn check_rights(&self) -> Result<(), ApiError> {
        match self.actor.operator() {
            Some(operator) if !self.api.revocations.are_as_before(operator) => {
                Err(ApiError::rights_changed())
            }
            _ => Ok(()),
        }
    }

    /// Whether they might do this, to anything; nothing is written down.
    pub(super) fn would(&self, action: Action) -> bool {
        may(&self.actor, action, rights::Object::Server).is_ok()
    }

    /// Of whom they are told where they are.
    pub(super) fn sight(&self) -> Sight {
        Sight { is_all: self.would(Action::ManageOperators), own: self.actor.name() }
    }

    /// Who they are.
    pub(super) const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Writes down that someone asked for what they may not have; most of a storm is left out.
    fn note_denied(&self, action: Action, object: rights::Object<'_>) {
        let who = self.who();
        let mut event = NewEvent::new(EventKind::RequestDenied).detail("action", action.name());
        if let rights::Object::Device(name) | rights::Object::Operator(name) = object {
            event = event.detail("object", name);
        }
        let Some(event) = self.api.host.store.limit_refusal(None, event.who(&who)) else { return };
        tracing::warn!(%who, action = action.name(), ?object, "denied");
        self.note(event);
    }

    /// Writes down that they have had something of a device stopped, and from where: the reason that all are told has
    /// their name alone.
    pub(super) fn note_stop(&self, device: DeviceId, what: &'static str, id: i64) {
        let event = NewEvent::new(EventKind::StopRequested).device(device).who(self.who()).detail(what, id);
        self.note(event);
    }

    /// Writes down what they have done; nobody waits for it.
    fn note(&self, event: NewEvent) {
        let store = self.api.host.store.clone();
        tokio::spawn(async move { store.note(event).await });
    }

    /// Who they are, for events.
    pub(super) fn who(&self) -> Who {
        self.actor.who()
    }

    /// Who they are, for tasks.
    pub(super) fn requester(&self) -> Requester {
        let Who { name, address } = self.actor.who();
        let operator = match &self.actor {
            Actor::User { .. } => None,
            Actor::Operator(operator) => Some(operator.id),
        };
        Requester { name, role: self.actor.role(), address, operator }
    }

    /// Their rights, for what goes on behind the answer.
    pub(super) fn rights(&self) -> Rights {
        self.api.revocations.of(self.actor.operator())
    }

    /// Their connection, to be kept as long as it speaks something else than HTTP.
    pub(super) fn take_over(self) -> Peer {
        self.peer.taken_over();
        self.peer
    }
}

/// Of whom somebody is told where they are, and by what they come in: an admin of all, others of themselves. Who looks on
/// need not know which account is worth an attack.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    is_all: bool,
    own: String,
}

impl Sight {
    /// Whether this is told of everybody.
    pub(super) const fn is_all(&self) -> bool {
        self.is_all
    }

    /// Whether this is told of the operator of this name, or of what an access token of theirs does.
    pub(super) fn covers(&self, who: &str) -> bool {
        self.is_all || who.split('/').next() == Some(self.own.as_str())
    }
}

impl FromRequestParts<Arc<Api>> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let unknown = || ApiError::new(StatusCode::FORBIDDEN, "denied", "it is not known who asks");
        let actor = parts.extensions.get::<Actor>().ok_or_else(unknown)?.clone();
        let peer = parts.extensions.get::<Peer>().ok_or_else(unknown)?.clone();
        Ok(Self { actor, peer, api: Arc::clone(api) })
    }
}

/// Does this to its end, whether or not the client waits for the answer: what is done in steps is not left in the middle.
pub(super) async fn done_whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(ApiError::stopping()))
}

/// The name in the path.
pub(super) struct Name(pub(super) String);

impl FromRequestParts<Arc<Api>> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, api).await;
        let Path(name) = name.map_err(|_| {
            ApiError::bad_request("expected a device's name in the path, found bytes that are no UTF-8")
        })?;
        Ok(Self(name))
    }
}

/// The two names in the path.
pub(super) struct Names(pub(super) String, pub(super) String);

impl FromRequestParts<Arc<Api>> for Names {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let names = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((first, second)) = names.map_err(|_| {
            ApiError::bad_request("expected two names in the path, found bytes that are no UTF-8")
        })?;
        Ok(Self(first, second))
    }
}

/// The number in the path.
pub(super) struct Id(pub(super) i64);

impl FromRequestParts<Arc<Api>> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let id = Path::<i64>::from_request_parts(parts, api).await;
        let Path(id) = id.map_err(|_| ApiError::bad_request("expected a number in the path"))?;
        Ok(Self(id))
    }
}

/// A JSON body, an object: bounded, whole, in time, and without fields that nobody knows.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let body = timeout(api.time_limit, Json::from_request(request, api)).await;
        let Json(Members(body)) = body.map_err(|_| ApiError::too_slow(api.time_limit))??;
        Ok(Self(body))
    }
}

/// What a JSON object says. Without this a list of the values would do for one, too.
struct Members<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object(PhantomData)).map(Self)
    }
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, members: M) -> Result<T, M::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// The connection itself, to be had once the answer is sent.
pub(super) struct Upgrade(pub(super) OnUpgrade);

impl FromRequestParts<Arc<Api>> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        let wished = parts.headers.get(header::UPGRADE).map(|wished| wished.as_bytes());
        match (wished == Some(UPGRADE.as_bytes()), parts.extensions.remove::<OnUpgrade>()) {
            (true, Some(upgrade)) => Ok(Self(upgrade)),
            _ => Err(ApiError::new(
                StatusCode::UPGRADE_REQUIRED,
                "upgrade-required",
                format!("expected the headers Connection: upgrade and Upgrade: {UPGRADE}"),
            )
            .hint("`holdfast proxy` speaks this")),
        }
    }
}

/// No body, or one that says nothing: `{}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl FromRequest<Arc<Api>> for Nothing {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let body = timeout(api.time_limit, Bytes::from_request(request, api)).await;
        let body = body.map_err(|_| ApiError::too_slow(api.time_limit))??;
        match body.is_empty() {
            true => Ok(Self {}),
            false => serde_json::from_slice(&body)
                .map(|Members(nothing)| nothing)
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
