//! Who has connected, and whom the server takes them for: looked up at each request, so that whoever is revoked is so at
//! once.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
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
    Api, MAX_REQUEST, REQUESTS,
    browser::{self, Browser},
    error::ApiError,
    rights::{Actor, Credential, Operator},
    view::{ADDRESSES, KEYS, ROLE},
};
use crate::{event::EventKind, http, refusal::Refusal, store::OperatorKey};

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
    request: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Remote {
    /// The holder of this key, whose connection has this place among the server's.
    pub fn new(key: Pin, address: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        Self { key, address, _place: place, request: Mutex::default() }
    }

    fn keep(&self, request: Option<OwnedSemaphorePermit>) {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = request;
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
        Peer::Browser(browser) => match browser.login(&request) {
            Ok(login) => {
                let known = browser::know(&api, browser, login).await;
                known.map(|(operator, place)| (Actor::Operator(operator), Some(place)))
            }
            Err(error) => Err(error),
        },
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
    let (reason, error) = match api.host.store.operator_by_key(remote.key.0, address).await? {
        OperatorKey::Known(operator) => {
            let Ok(place) = Arc::clone(&api.requests).try_acquire_owned() else {
                return Err(ApiError::too_many_requests(REQUESTS));
            };
            remote.keep(Some(place));
            return Ok(Operator {
                id: operator.id,
                name: operator.name,
                role: operator.role,
                credential: Credential::Key(remote.key),
                until: None,
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
        (KEYS, format!("{} {}", told.current, told.next)),
        (ADDRESSES, told.addresses.join(" ")),
        (ROLE, role.to_string()),
    ] {
        // The configuration may hold anything; what is no header is not told.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// Whose rights were taken away while the server runs, by what they were known: that never comes back.
#[derive(Debug)]
pub struct Revocations(watch::Sender<HashSet<Credential>>);

impl Default for Revocations {
    fn default() -> Self {
        Self(watch::Sender::new(HashSet::new()))
    }
}

impl Revocations {
    /// All that those who were known by these have open ends.
    pub(super) fn add(&self, credentials: impl IntoIterator<Item = Credential>) {
        self.0.send_modify(|revoked| revoked.extend(credentials));
    }

    /// The rights of this operator; of a user of this machine nothing is taken away.
    pub(super) fn of(&self, operator: Option<&Operator>) -> Rights {
        Rights {
            credential: operator.map(|operator| operator.credential),
            until: operator.and_then(|operator| operator.until),
            revoked: self.0.subscribe(),
        }
    }
}

/// The rights of one who asked, for as long as what they asked for goes on.
#[derive(Debug)]
pub(super) struct Rights {
    credential: Option<Credential>,
    until: Option<Instant>,
    revoked: watch::Receiver<HashSet<Credential>>,
}

impl Rights {
    /// Whether they were taken away, or have ended.
    pub(super) fn are_gone(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
            || self.credential.is_some_and(|credential| self.revoked.borrow().contains(&credential))
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
            if self.revoked.wait_for(|revoked| revoked.contains(&credential)).await.is_err() {
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
