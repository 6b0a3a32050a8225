//! Browsers: what they are given of the API, and how they are known: by a cookie that no script can read.
//!
//! A page of somebody else can have a browser ask us something with our cookie. So what changes something is only done
//! for our own page (`Origin`), and over plain HTTP only for a name that nobody can lead elsewhere (`Host`).

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts, uri::Authority},
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::Response,
};
use sha2::{Digest, Sha256};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    Api,
    error::ApiError,
    known_routes, login,
    peer::Peer,
    places::Place,
    rights::{Credential, Operator},
    routes::{Route, doors},
};
use crate::{
    byte_stream::ByteStream,
    console,
    http::{self, Bounds},
    lock::lock,
    parts::Parts as ServerParts,
    store::{IDLE_LIMIT, OperatorId, OperatorRef, PLAIN_IDLE_LIMIT, SecretHash, TIME_LIMIT, UnixMillis},
    strangers::Stranger,
    tally::{Counted, Tally},
};

/// The longest request of somebody who is not logged in, in bytes.
const MAX_LOGIN: usize = 8 * 1024;

/// The most that is kept of what a browser calls itself, in bytes.
const MAX_NAME: usize = 200;

/// By which of the server's ports a browser comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// Over TLS.
    Tls,
    /// Over plain HTTP, on this machine and this port.
    Loopback {
        /// The port: cookies know none, and another server here would take ours for its own.
        port: u16,
    },
}

/// A browser's connection.
#[derive(Debug)]
pub struct Browser {
    address: SocketAddr,
    entrance: Entrance,
    /// Its requests of somebody who is known.
    known: Arc<Tally>,
    /// Among the connections of the operator who is logged in there.
    own: Mutex<Option<(OperatorId, Place)>>,
    /// Among all connections of its listener, to its end.
    _place: OwnedSemaphorePermit,
}

impl Browser {
    /// A browser there, whose connection has this place among those of its listener.
    pub(super) fn new(
        address: SocketAddr,
        entrance: Entrance,
        known: Arc<Tally>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { address, entrance, known, own: Mutex::default(), _place: place }
    }

    /// Whether it comes over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.entrance == Entrance::Tls
    }

    /// Where it is.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// The cookie's name: over TLS one that browsers hold to this very host.
    fn cookie_name(&self) -> String {
        match self.entrance {
            Entrance::Tls => "__Host-holdfast".to_owned(),
            Entrance::Loopback { port } => format!("holdfast-{port}"),
        }
    }

    /// The cookie that carries this secret.
    pub(super) fn cookie(&self, secret: &str) -> Result<HeaderValue, ApiError> {
        let (name, secure) = (self.cookie_name(), if self.is_secure() { "; Secure" } else { "" });
        HeaderValue::try_from(format!("{name}={secret}; HttpOnly; SameSite=Strict; Path=/{secure}"))
            .map_err(|_| ApiError::bad_request("the secret is no text"))
    }

    /// The cookie that takes the one before away.
    pub(super) fn no_cookie(&self) -> Result<HeaderValue, ApiError> {
        let cookie = self.cookie("")?;
        HeaderValue::try_from(format!("{}; Max-Age=0", cookie.to_str().unwrap_or_default()))
            .map_err(|_| ApiError::bad_request("the cookie is no text"))
    }

    /// The hash of the secret that a request shows. If it shows several, somebody else has set one: none is taken.
    pub(super) fn secret(&self, headers: &HeaderMap) -> Option<SecretHash> {
        let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let cookies =
            values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let name = self.cookie_name();
        let mut secrets = cookies.filter(|(found, _)| *found == name).map(|(_, secret)| hash(secret));
        secrets.next().filter(|_| secrets.next().is_none())
    }

    /// What a request shows: an access token, or the login of our own page.
    pub(super) fn shown(&self, request: &Request) -> Result<Credential, ApiError> {
        if let Some(shown) = request.headers().get(header::AUTHORIZATION) {
            let token = shown.to_str().ok().and_then(|shown| shown.split_once(' '));
            let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let (_, token) = token.ok_or_else(ApiError::wrong_token)?;
            return Ok(Credential::AccessToken(hash(token.trim())));
        }
        self.check_origin(request)?;
        self.secret(request.headers()).map(Credential::Login).ok_or_else(ApiError::not_logged_in)
    }

    /// The places that a request of this operator takes: among their requests, and their connections.
    fn place_for(&self, api: &Api, operator: OperatorId) -> Result<(Place, Counted), ApiError> {
        let place = api.places.request(operator)?;
        let mut own = lock(&self.own);
        if own.as_ref().is_none_or(|(holder, _)| *holder != operator) {
            *own = Some((operator, api.places.connection(operator)?));
        }
        Ok((place, self.known.add()))
    }

    /// Whether a request comes from our own page.
    fn check_origin(&self, request: &Request) -> Result<(), ApiError> {
        // A page of another port of this machine, or of a sister domain, is the same site to a browser: our cookie goes
        // along, and what begins by a `GET`, as a camera does, would begin.
        let from = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
        if from.is_some_and(|from| !matches!(from, b"same-origin" | b"none")) {
            let message = "expected the console's own page, found another one of the same or of another site";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-origin", message));
        }
        // What a page asks for by a WebSocket it can read, whosever page it is.
        let is_socket = request.headers().contains_key(header::UPGRADE);
        match [Method::GET, Method::HEAD].contains(request.method()) && !is_socket {
            true => Ok(()),
            false => self.check_own_page(request.headers(), request.uri()),
        }
    }

    /// Whether this was asked by our own page, whatever its method is: for what a `GET` begins that is more than an
    /// answer, as a WebSocket is.
    pub(super) fn check_own_page(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
        let scheme = if self.is_secure() { "https" } else { "http" };
        let own = host(headers, uri).map(|host| format!("{scheme}://{host}"));
        let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        match (own, origin) {
            (Some(own), Some(origin)) if own.eq_ignore_ascii_case(origin) => Ok(()),
            (_, origin) => {
                let found = origin.map_or_else(|| "none".to_owned(), |origin| format!("{origin:?}"));
                let message = format!("expected the header Origin of the console's own page, found {found}");
                Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-origin", message))
            }
        }
    }
}

/// The hash by which a secret is kept.
pub(super) fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret).into()
}

/// What a browser calls itself, as far as it is kept.
pub(super) fn name_of(headers: &HeaderMap) -> Option<String> {
    let name = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes()).into_owned();
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    Some(name.get(..end?)?.to_owned())
}

/// The host that a request is for: HTTP/2 says it in another place than HTTP/1.1.
fn host(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let field = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    field.or_else(|| uri.authority().cloned())
}

/// Refuses requests by names of somebody else, which lead here by a trick of theirs (DNS rebinding).
async fn check_host(request: Request, next: Next) -> Result<Response, ApiError> {
    let is_loopback = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    };
    match host(request.headers(), request.uri()) {
        Some(host) if is_loopback(host.host()) => Ok(next.run(request).await),
        host => {
            let found = host.map_or_else(|| "none".to_owned(), |host| format!("{:?}", host.host()));
            let message = format!("expected localhost or a loopback address as the host, found {found}");
            Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-host", message)
                .hint("from elsewhere the console is on the TLS port, by https"))
        }
    }
}

/// Lets those in who are not known yet, to say who they are: if our own page asks, and only so many at a time. Nothing
/// that they send is read before.
async fn meet(State(api): State<Arc<Api>>, request: Request, next: Next) -> Result<Response, ApiError> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Browser(browser)) => {
            browser.check_origin(&request)?;
            api.logins.take_address(browser.ip(), std::time::Instant::now())?;
        }
        _ => return Err(ApiError::new(StatusCode::FORBIDDEN, "denied", "only browsers log in")),
    }
    let _place = api.logins.place()?;
    Ok(next.run(request).await)
}

/// The operator who is known by this, and their place among those who ask.
pub(super) async fn know(
    api: &Api,
    browser: &Browser,
    credential: Credential,
) -> Result<(Operator, (Place, Counted)), ApiError> {
    let (moment, store, address) = (api.revocations.moment(), &api.host.store, browser.ip());
    // Those who only guess are many; they don't hold up who is known already.
    let stranger = if browser.known.count() > 0 { None } else { Some(api.logins.place()?) };
    let (operator, until, token) = match credential {
        Credential::Login(hash) => {
            let found = store.operator_by_login(hash, browser.is_secure(), address).await?;
            let (operator, since) = found.ok_or_else(ApiError::not_logged_in)?;
            (operator, end_of(since, browser.is_secure()), None)
        }
        Credential::AccessToken(hash) => {
            let found = store.operator_by_access_token(hash, address).await?;
            let found = found.ok_or_else(|| {
                login::refuse(api, None, address, "access token unknown, revoked or expired");
                ApiError::wrong_token()
            })?;
            (found.operator, moment_of(found.expires_at), Some(found.token))
        }
        Credential::Key(_) => return Err(ApiError::not_logged_in()),
    };
    drop(stranger);
    let place = browser.place_for(api, operator.id)?;
    let OperatorRef { id, name, role } = operator;
    Ok((Operator { id, name, role, credential, until: Some(until), moment, token, address }, place))
}

/// When what a login has open ends, at the latest: with the login; and while the login, whose use is noted at the
/// beginning of each request, has not ended by being idle. Whoever still looks at it asks again, and goes on.
fn end_of(since: UnixMillis, is_secure: bool) -> Instant {
    let idle_limit = if is_secure { IDLE_LIMIT } else { PLAIN_IDLE_LIMIT };
    moment_of(since.plus(TIME_LIMIT).min(UnixMillis::now().plus(idle_limit / 2)))
}

/// A time of day, as the clock of the runtime has it.
fn moment_of(time: UnixMillis) -> Instant {
    let left = time.0.saturating_sub(UnixMillis::now().0);
    Instant::now() + Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

/// Who asks to be let in.
pub(super) struct Visitor(pub(super) Arc<Browser>);

impl FromRequestParts<Arc<Api>> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Browser(browser)) => Ok(Self(Arc::clone(browser))),
            _ => Err(ApiError::new(StatusCode::CONFLICT, "no-browser", "this is for browsers that log in")),
        }
    }
}

/// The API and the console, for browsers.
#[derive(Clone)]
pub struct WebApi {
    api: Arc<Api>,
    routes: Router,
    bounds: Bounds,
    entrance: Entrance,
}

impl WebApi {
    /// For browsers that come over TLS.
    pub fn over_tls(api: Arc<Api>) -> Self {
        Self { routes: web_routes(&api), api, bounds: Bounds::default(), entrance: Entrance::Tls }
    }

    /// For browsers of this machine that come without it, beside these routes for others.
    pub fn over_loopback(api: Arc<Api>, others: Router) -> Self {
        let routes = others.merge(web_routes(&api)).layer(from_fn(check_host));
        let routes = routes.layer(map_response(console::protect));
        let port = api.addresses.http.map_or(0, |address| address.port());
        Self { routes, api, bounds: Bounds::default(), entrance: Entrance::Loopback { port } }
    }

    /// The server's parts.
    pub fn parts(&self) -> Arc<ServerParts> {
        Arc::clone(&self.api.host.parts)
    }

    /// Answers the requests of this connection, which has this place among those of its listener. Who has come is a
    /// stranger until they have shown that they are logged in.
    pub async fn serve(
        &self,
        stream: impl ByteStream + 'static,
        address: SocketAddr,
        stranger: Stranger,
        place: OwnedSemaphorePermit,
    ) {
        let known = Arc::<Tally>::default();
        let browser = Browser::new(address, self.entrance, Arc::clone(&known), place);
        let (peer, routes) = (Peer::Browser(Arc::new(browser)), self.routes.clone());
        let shutdown = self.api.shutdown.clone();
        http::keep(Box::new(stream), peer, routes, known, self.bounds, stranger, shutdown).await;
    }
}

/// All that a browser is answered. What is behind the doors asks who it is; the doors and the console's files don't.
pub(super) fn web_routes(api: &Arc<Api>) -> Router {
    let doors = doors()
        .into_iter()
        .fold(Router::new(), |router, Route { path, handler, .. }| router.route(path, handler))
        .method_not_allowed_fallback(ApiError::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_LOGIN))
        .layer(from_fn_with_state(Arc::clone(api), meet))
        .with_state(Arc::clone(api));
    Router::new()
        .nest("/api/v1", known_routes(Arc::clone(api)).merge(doors))
        .fallback(console::serve)
        .layer(map_response(console::protect))
}
