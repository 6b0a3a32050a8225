//! Browsers: what they are given of the API, and how they are known: by a cookie that no script can read.
//!
//! A page of somebody else can have a browser ask us something with our cookie. So what changes something is only done
//! for our own page (`Origin`), and over plain HTTP only for a name that nobody can lead elsewhere (`Host`).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority},
    middleware::{Next, from_fn, map_response},
    response::Response,
    routing::post,
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use super::{
    Api, REQUESTS,
    error::ApiError,
    known_routes, login,
    peer::Peer,
    rights::{Credential, Operator},
};
use crate::{
    byte_stream::ByteStream,
    console,
    http::{self, Bounds},
    store::{IDLE_LIMIT, SecretHash, TIME_LIMIT, UnixMillis},
    strangers::Stranger,
};

/// The longest request of somebody who is not logged in, in bytes.
const MAX_LOGIN: usize = 8 * 1024;

/// The most that is kept of what a browser calls itself, in bytes.
const MAX_NAME: usize = 200;

/// A browser's connection.
#[derive(Debug)]
pub struct Browser {
    address: SocketAddr,
    /// Whether it is over TLS.
    is_secure: bool,
    /// Told when it has shown that it is logged in.
    known: Arc<Notify>,
    /// Among all connections of its listener, to its end.
    _place: OwnedSemaphorePermit,
}

impl Browser {
    /// A browser there, whose connection has this place among those of its listener.
    pub(super) fn new(
        address: SocketAddr,
        is_secure: bool,
        known: Arc<Notify>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { address, is_secure, known, _place: place }
    }

    /// Where it is.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// The cookie's name: over TLS one that browsers hold to this very host.
    const fn cookie_name(&self) -> &'static str {
        if self.is_secure { "__Host-holdfast" } else { "holdfast" }
    }

    /// The cookie that carries this secret.
    pub(super) fn cookie(&self, secret: &str) -> Result<HeaderValue, ApiError> {
        let (name, secure) = (self.cookie_name(), if self.is_secure { "; Secure" } else { "" });
        HeaderValue::try_from(format!("{name}={secret}; HttpOnly; SameSite=Strict; Path=/{secure}"))
            .map_err(|_| ApiError::bad_request("the secret is no text"))
    }

    /// The cookie that takes the one before away.
    pub(super) fn no_cookie(&self) -> Result<HeaderValue, ApiError> {
        let cookie = self.cookie("")?;
        HeaderValue::try_from(format!("{}; Max-Age=0", cookie.to_str().unwrap_or_default()))
            .map_err(|_| ApiError::bad_request("the cookie is no text"))
    }

    /// The hash of the secret that a request shows.
    pub(super) fn secret(&self, headers: &HeaderMap) -> Option<SecretHash> {
        let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut cookies =
            values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let (_, secret) = cookies.find(|(name, _)| *name == self.cookie_name())?;
        Some(hash(secret))
    }

    /// The login that a request of our own page shows.
    pub(super) fn login(&self, request: &Request) -> Result<SecretHash, ApiError> {
        self.check_origin(request)?;
        self.secret(request.headers()).ok_or_else(ApiError::not_logged_in)
    }

    /// Whether a request comes from our own page.
    fn check_origin(&self, request: &Request) -> Result<(), ApiError> {
        if [Method::GET, Method::HEAD].contains(request.method()) {
            return Ok(());
        }
        let scheme = if self.is_secure { "https" } else { "http" };
        let own = host(request).map(|host| format!("{scheme}://{host}"));
        let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
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
fn host(request: &Request) -> Option<Authority> {
    let field =
        request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    field.or_else(|| request.uri().authority().cloned())
}

/// Refuses requests by names of somebody else, which lead here by a trick of theirs (DNS rebinding).
async fn check_host(request: Request, next: Next) -> Result<Response, ApiError> {
    let is_loopback = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    };
    match host(&request) {
        Some(host) if is_loopback(host.host()) => Ok(next.run(request).await),
        host => {
            let found = host.map_or_else(|| "none".to_owned(), |host| format!("{:?}", host.host()));
            let message = format!("expected localhost or a loopback address as the host, found {found}");
            Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-host", message)
                .hint("from elsewhere the console is on the TLS port: https://HOST:55223/"))
        }
    }
}

/// Lets those in who are not known yet, to say who they are, if their own page asks.
async fn meet(request: Request, next: Next) -> Result<Response, ApiError> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Browser(browser)) => browser.check_origin(&request)?,
        _ => return Err(ApiError::new(StatusCode::FORBIDDEN, "denied", "only browsers log in")),
    }
    Ok(next.run(request).await)
}

/// The operator who has this login, and the place among those who ask.
pub(super) async fn know(
    api: &Api,
    browser: &Browser,
    hash: SecretHash,
) -> Result<(Operator, OwnedSemaphorePermit), ApiError> {
    let found = api.host.store.operator_by_login(hash, browser.ip()).await?;
    let (operator, since) = found.ok_or_else(ApiError::not_logged_in)?;
    let Ok(place) = Arc::clone(&api.requests).try_acquire_owned() else {
        return Err(ApiError::too_many_requests(REQUESTS));
    };
    browser.known.notify_one();
    let operator = Operator {
        id: operator.id,
        name: operator.name,
        role: operator.role,
        credential: Credential::Login(hash),
        until: Some(end_of(since)),
        address: browser.ip(),
    };
    Ok((operator, place))
}

/// When what a login has open ends, at the latest: with the login; and while the login, whose use is noted at the
/// beginning of each request, has not ended by being idle. Whoever still looks at it asks again, and goes on.
fn end_of(since: UnixMillis) -> Instant {
    let left = since.0.saturating_add(TIME_LIMIT).saturating_sub(UnixMillis::now().0).min(IDLE_LIMIT / 2);
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
    is_secure: bool,
}

impl WebApi {
    /// For browsers that come over TLS.
    pub fn over_tls(api: Arc<Api>) -> Self {
        Self { routes: web_routes(&api), api, bounds: Bounds::default(), is_secure: true }
    }

    /// For browsers of this machine that come without it, beside these routes for others.
    pub fn over_loopback(api: Arc<Api>, others: Router) -> Self {
        let routes = others.merge(web_routes(&api)).layer(from_fn(check_host));
        Self { routes, api, bounds: Bounds::default(), is_secure: false }
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
        let known = Arc::<Notify>::default();
        let browser = Browser::new(address, self.is_secure, Arc::clone(&known), place);
        let (peer, routes) = (Peer::Browser(Arc::new(browser)), self.routes.clone());
        let shutdown = self.api.shutdown.clone();
        http::keep(Box::new(stream), peer, routes, known, self.bounds, stranger, shutdown).await;
    }
}

/// All that a browser is answered. What is behind the doors asks who it is; the doors and the console's files don't.
fn web_routes(api: &Arc<Api>) -> Router {
    let doors = Router::new()
        .route("/login", post(login::login))
        .route("/login/first", post(login::first))
        .method_not_allowed_fallback(ApiError::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_LOGIN))
        .layer(from_fn(meet))
        .with_state(Arc::clone(api));
    Router::new()
        .nest("/api/v1", known_routes(Arc::clone(api)).merge(doors))
        .fallback(console::serve)
        .layer(map_response(console::protect))
}
