//! `/login`: browsers that say who they are, and how often they may try.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Api,
    asker::Body,
    browser::{Browser, Visitor, hash, name_of},
    error::ApiError,
    rights::Credential,
    view::{FirstLoginRequest, LoggedInAnswer, LoginRequest},
};
use crate::{
    event::{EventKind, NewEvent, Who},
    passwords::{self, Hasher},
    rate_limit::{RateLimit, holder},
    store::{NewLogin, OperatorRef, SecretHash, UnixMillis},
    totp,
};

/// How short a password may be, in characters.
const SHORTEST: usize = 12;

/// How long, in bytes.
const LONGEST: usize = 1_024;

/// So many bits of a name's hash tell for whose password somebody tries: names that nobody has are limited too, without
/// being kept.
const NAMES: u64 = 4_096;

/// What a name that nobody has is compared with: nobody learns from the time which names there are.
static NOBODYS: LazyLock<String> = LazyLock::new(|| passwords::hash(b"nobody's").unwrap_or_default());

/// Who has tried to log in how often; and where passwords are compared.
#[derive(Debug)]
pub struct Logins {
    addresses: RateLimit<IpAddr>,
    names: RateLimit<u64>,
    state: RandomState,
    strangers: Hasher,
    /// For those who are where they were the last time, and for who is logged in: however many strangers try, they don't
    /// wait.
    familiar: Hasher,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            addresses: RateLimit::new(5, Duration::from_secs(10)),
            names: RateLimit::new(20, Duration::from_secs(10)),
            state: RandomState::new(),
            strangers: Hasher::start("logins", 16),
            familiar: Hasher::start("familiar-logins", 16),
        }
    }
}

impl Logins {
    fn take_address(&self, address: IpAddr) -> Result<(), ApiError> {
        self.addresses.take(holder(address), Instant::now()).map_err(ApiError::too_many_logins)
    }

    /// Takes one of the attempts for the password of this name.
    pub(super) fn take_name(&self, name: &str) -> Result<(), ApiError> {
        self.names.take(self.state.hash_one(name) % NAMES, Instant::now()).map_err(ApiError::too_many_logins)
    }

    /// Whether this is the password of the hash, or of nobody.
    pub(super) async fn is_right(
        &self,
        password: String,
        hash: Option<String>,
        is_familiar: bool,
    ) -> Result<bool, ApiError> {
        let hasher = if is_familiar { &self.familiar } else { &self.strangers };
        let compare = move || {
            let is_right = passwords::is_right(password.as_bytes(), hash.as_deref().unwrap_or(&NOBODYS));
            is_right.map(|is_right| is_right && hash.is_some())
        };
        let compared = hasher.run(compare).await;
        compared.and_then(Result::ok).ok_or_else(ApiError::no_hash)
    }

    /// The hash of a new password, if it is one.
    pub(super) async fn hash(&self, password: String, is_familiar: bool) -> Result<String, ApiError> {
        let characters = password.chars().count();
        if characters < SHORTEST || password.len() > LONGEST {
            let message =
                format!("expected a password of {SHORTEST} characters or more, found one of {characters}");
            let hint = "a few words that nobody else would put together are easy to keep";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "bad-password", message).hint(hint));
        }
        let hasher = if is_familiar { &self.familiar } else { &self.strangers };
        let made = hasher.run(move || passwords::hash(password.as_bytes())).await;
        made.and_then(Result::ok).ok_or_else(ApiError::no_hash)
    }
}

/// `POST /login`
pub(super) async fn login(
    State(api): State<Arc<Api>>,
    Visitor(browser): Visitor,
    headers: HeaderMap,
    Body(LoginRequest { name, password, code }): Body<LoginRequest>,
) -> Result<Response, ApiError> {
    let (logins, store, address) = (&api.logins, &api.host.store, browser.ip());
    logins.take_address(address)?;
    let candidate = store.candidate(&name).await?;
    let last_address = candidate.as_ref().and_then(|candidate| candidate.address.as_deref());
    let is_familiar = last_address == Some(address.to_string().as_str());
    if !is_familiar {
        logins.take_name(&name)?;
    }
    let hash = candidate.as_ref().map(|candidate| candidate.password.clone());
    let is_right = logins.is_right(password, hash, is_familiar).await?;
    let Some(candidate) = candidate else { return Err(refuse(&api, None, address, "unknown name")) };
    let operator = candidate.operator.clone();
    if !is_right {
        return Err(refuse(&api, Some(&operator), address, "wrong password"));
    }
    let step = match (&candidate.totp, code.filter(|code| !code.trim().is_empty())) {
        (None, _) => None,
        (Some(_), None) => return Err(ApiError::code_needed()),
        (Some(secret), Some(code)) => {
            let step =
                totp::step_of(secret, &code, UnixMillis::now().0).filter(|step| *step > candidate.totp_step);
            Some(step.ok_or_else(|| refuse(&api, Some(&operator), address, "wrong code"))?)
        }
    };
    let (secret, login) = new_login(&browser, &headers)?;
    let Some(displaced) = store.begin_login(candidate, step, login).await? else {
        return Err(refuse(&api, Some(&operator), address, "changed meanwhile"));
    };
    welcome(&api, &browser, &headers, &operator, &secret, displaced).await
}

/// `POST /login/first`
pub(super) async fn first(
    State(api): State<Arc<Api>>,
    Visitor(browser): Visitor,
    headers: HeaderMap,
    Body(FirstLoginRequest { token, password }): Body<FirstLoginRequest>,
) -> Result<Response, ApiError> {
    let (logins, store, address) = (&api.logins, &api.host.store, browser.ip());
    logins.take_address(address)?;
    let token = hash(&token);
    let unknown = || refuse(&api, None, address, "one-time login used, expired or unknown");
    store.first_login(token).await?.ok_or_else(unknown)?;
    // Whoever has the token is no stranger.
    let password = logins.hash(password, true).await?;
    let (secret, login) = new_login(&browser, &headers)?;
    let (operator, ended) = store.use_first_login(token, password, login).await?.ok_or_else(unknown)?;
    welcome(&api, &browser, &headers, &operator, &secret, ended).await
}

/// A new secret, and the login that is known by it.
fn new_login(browser: &Browser, headers: &HeaderMap) -> Result<(String, NewLogin), ApiError> {
    let secret = new_secret()?;
    let login = NewLogin { hash: hash(&secret), address: browser.ip(), browser: name_of(headers) };
    Ok((secret, login))
}

/// 32 random bytes, as text.
pub(super) fn new_secret() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::no_random(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Tells who has logged in who they are, and gives them the cookie. What the browser was logged in as before has ended.
async fn welcome(
    api: &Api,
    browser: &Browser,
    headers: &HeaderMap,
    operator: &OperatorRef,
    secret: &str,
    ended: Vec<SecretHash>,
) -> Result<Response, ApiError> {
    api.logins.addresses.forgive(&holder(browser.ip()));
    api.revocations.add(ended.into_iter().map(Credential::Login));
    if let Some(before) = browser.secret(headers) {
        let who = Who { name: operator.name.clone(), address: Some(browser.ip()) };
        api.host.store.end_login(before, who).await?;
        api.revocations.add([Credential::Login(before)]);
    }
    let answer = LoggedInAnswer { name: operator.name.clone(), role: operator.role.to_string() };
    Ok(([(header::SET_COOKIE, browser.cookie(secret)?)], Json(answer)).into_response())
}

/// Writes down that somebody was not logged in, most of a storm left out; and tells them no more than that.
fn refuse(api: &Api, operator: Option<&OperatorRef>, address: IpAddr, reason: &str) -> ApiError {
    let mut event = NewEvent::new(EventKind::LoginRefused).address(address).detail("reason", reason);
    // A name that nobody has may be a password in the wrong place.
    if let Some(operator) = operator {
        event = event.detail("operator", operator.name.as_str());
    }
    if let Some(event) = api.host.store.limit_refusal(None, event) {
        tracing::warn!(%address, reason, "a login was refused");
        let store = api.host.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.record(event).await {
                tracing::error!(%error, "it could not be recorded that a login was refused");
            }
        });
    }
    ApiError::wrong_login()
}
