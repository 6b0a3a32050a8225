//! Who has connected, and whom the server takes them for: looked up at each request, so that whoever is revoked is so at
//! once.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, Limited};
use protocol_core::{
    code::{CloseReason, Role},
    message::Pin,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Api, MAX_REQUEST,
    browser::{self, Browser},
    error::ApiError,
    places::Place,
    rights::{Actor, Credential, Operator},
    view::headers,
};
use crate::{
    event::EventKind,
    http,
    lock::lock,
    refusal::Refusal,
    store::{IDLE_LIMIT, OperatorId, OperatorKey},
};

/// How long one who is refused may go on with their request.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A user of this machine, as the kernel tells it.
    Local {
        /// The user's number.
        uid: u32,
    },
    /// The holder of a key, as TLS has proved it.
    Remote(Arc<Remote>),
    /// A browser: each request shows by itself whose it is.
    Browser(Arc<Browser>),
}

/// A peer that is elsewhere.
#[derive(Debug)]
pub struct Remote {
    key: Pin,
    address: SocketAddr,
    /// Among all connections of the server's TLS port, to its end.
    _place: OwnedSemaphorePermit,
    /// Among the requests that are worked on, once one has come of someone who is known.
    request: Mutex<Option<Place>>,
}

impl Remote {
    /// The holder of this key, whose connection has this place among the server's.
    pub fn new(key: Pin, address: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        Self { key, address, _place: place, request: Mutex::default() }
    }

    fn keep(&self, request: Option<Place>) {
        *lock(&self.request) = request;
    }
}

impl Peer {
    /// The connection speaks HTTP no longer: it keeps its place, but counts as no request.
    pub(super) fn taken_over(&self) {
        if let Self::Remote(remote) = self {
            remote.keep(None);
        }
    }
}

/// Finds out who asks, before anything else is looked at.
pub(super) async fn identify(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::new(StatusCode::FORBIDDEN, "denied", "it is not known who asks");
    let peer = request.extensions().get::<Peer>().ok_or_else(unknown)?.clone();
    let known = match &peer {
        Peer::Local { uid } => Ok((Actor::User { uid: *uid }, None)),
        Peer::Remote(remote) => know(&api, remote).await.map(|operator| (Actor::Operator(operator), None)),
        Peer::Browser(browser) => {
            // What is shown is looked up only then: the request itself can't be waited with.
            match browser.shown(&request) {
                Ok(shown) => {
                    let known = browser::know(&api, browser, shown).await;
                    known.map(|(operator, place)| (Actor::Operator(operator), Some(place)))
                }
                Err(error) => Err(error),
            }
        }
    };
    let (actor, place) = match known {
        Ok(known) => known,
        Err(error) => {
            pass_over(request).await;
            return Err(error);
        }
    };
    let role = match (&peer, &actor) {
        (Peer::Remote(_), Actor::Operator(operator)) => Some(operator.role),
        _ => None,
    };
    request.extensions_mut().insert(actor);
    let mut response = next.run(request).await;
    if let Some(role) = role {
        tell_operator(&api, role, response.headers_mut());
    }
    Ok(response.map(|body| http::held(body, place)))
}

/// Lets the rest of a request pass: whoever is refused while they still send may never see the answer.
async fn pass_over(request: Request) {
    let mut body = Limited::new(request.into_body(), MAX_REQUEST);
    let _ = timeout(REFUSAL_TIMEOUT, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

/// The operator whose key this is.
async fn know(api: &Api, remote: &Remote) -> Result<Operator, ApiError> {
    let address = remote.address.ip().to_canonical();
    let moment = api.revocations.moment();
    let (reason, error) = match api.host.store.operator_by_key(remote.key.0, address).await? {
        OperatorKey::Known(operator) => {
            remote.keep(Some(api.places.request(operator.id)?));
            return Ok(Operator {
                id: operator.id,
                name: operator.name,
                role: operator.role,
                credential: Credential::Key(remote.key),
                until: None,
                moment,
                token: None,
                address,
            });
        }
        OperatorKey::Revoked(operator) => (CloseReason::Revoked, ApiError::operator_revoked(&operator.name)),
        OperatorKey::Unknown => (CloseReason::UnknownKey, ApiError::unknown_key()),
    };
    let refusal = Refusal {
        event: EventKind::ConnectionRefused,
        reason,
        detail: format!("API: {}", error.message()),
        address: remote.address,
        key: Some(remote.key),
        device: None,
        original: None,
    };
    refusal.record(&api.host.store).await;
    Err(error)
}

/// Tells where, and by which keys, the server is found from now on: keys change without a visit; and what this operator
/// may do.
fn tell_operator(api: &Api, role: Role, headers: &mut HeaderMap) {
    let told = &api.host.address_book;
    for (name, value) in [
        (headers::KEYS, format!("{} {}", told.current, told.next)),
        (headers::ADDRESSES, told.addresses.join(" ")),
        (headers::ROLE, role.to_string()),
    ] {
        // The configuration may hold anything; what is no header is not told.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// How long it is remembered that a login has ended. What was begun by it goes on for half of that, at the most.
const REMEMBERED: Duration = Duration::from_millis(IDLE_LIMIT.unsigned_abs());

/// Whose rights were taken away or changed while the server runs.
#[derive(Debug, Default)]
pub struct Revocations(watch::Sender<Changes>);

#[derive(Debug, Default)]
struct Changes {
    /// By what those were known who have no rights any more, and since when: that never comes back.
    revoked: HashMap<Credential, Instant>,
    /// The operators who were given another role, and the moment of it.
    changed: HashMap<OperatorId, u64>,
    /// Counts the roles that were changed.
    moment: u64,
}

impl Revocations {
    /// All that those who were known by these have open ends.
    pub(super) fn add(&self, credentials: impl IntoIterator<Item = Credential>) {
        let (now, mut credentials) = (Instant::now(), credentials.into_iter().peekable());
        if credentials.peek().is_none() {
            return;
        }
        self.0.send_modify(|Changes { revoked, .. }| {
            let is_over = |credential: &Credential, since: Instant| {
                matches!(credential, Credential::Login(_)) && now.duration_since(since) > REMEMBERED
            };
            revoked.retain(|credential, since| !is_over(credential, *since));
            revoked.extend(credentials.map(|credential| (credential, now)));
        });
    }

    /// What this operator has asked for already, and was not done yet, is not done: they have another role now.
    pub(super) fn change_role(&self, operator: OperatorId) {
        self.0.send_modify(|Changes { changed, moment, .. }| {
            *moment += 1;
            changed.insert(operator, *moment);
        });
    }

    /// The moment of now: what is looked up later is no older.
    pub(super) fn moment(&self) -> u64 {
        self.0.borrow().moment
    }

    /// Whether this operator still has the rights that they came with.
    pub(super) fn are_as_before(&self, operator: &Operator) -> bool {
        let Changes { revoked, changed, .. } = &*self.0.borrow();
        let is_changed = changed.get(&operator.id).is_some_and(|moment| *moment > operator.moment);
        !is_changed && !revoked.contains_key(&operator.credential)
    }

    /// The rights of this operator; of a user of this machine nothing is taken away.
    pub(super) fn of(&self, operator: Option<&Operator>) -> Rights {
        Rights {
            operator: operator.map(|operator| operator.id),
            credential: operator.map(|operator| operator.credential),
            until: operator.and_then(|operator| operator.until),
            changes: self.0.subscribe(),
        }
    }
}

/// The rights of one who asked, for as long as what they asked for goes on.
#[derive(Debug)]
pub(super) struct Rights {
    operator: Option<OperatorId>,
    credential: Option<Credential>,
    until: Option<Instant>,
    changes: watch::Receiver<Changes>,
}

impl Rights {
    /// The operator elsewhere whose they are.
    pub(super) const fn operator(&self) -> Option<OperatorId> {
        self.operator
    }

    /// Whether they were taken away, or have ended.
    pub(super) fn are_gone(&self) -> bool {
        let is_revoked = |credential| self.changes.borrow().revoked.contains_key(&credential);
        self.until.is_some_and(|until| until <= Instant::now()) || self.credential.is_some_and(is_revoked)
    }

    /// Waits until they are taken away, or end.
    pub(super) async fn gone(&mut self) {
        let Some(credential) = self.credential else { return std::future::pending().await };
        let until = self.until;
        let end = async move {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let taken = async {
            let is_revoked = |changes: &Changes| changes.revoked.contains_key(&credential);
            if self.changes.wait_for(is_revoked).await.is_err() {
                // The API has gone, and with it whoever could take them away.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = end => {}
            () = taken => {}
        }
    }
}
