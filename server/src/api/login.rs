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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Api,
    asker::{Body, done_whole},
    browser::{Browser, Visitor, hash, name_of},
    error::ApiError,
    rights::Credential,
    view::{FirstLoginRequest, LoggedInAnswer, LoginRequest},
};
use crate::{
    event::{EventKind, NewEvent, Who},
    passwords::{self, Busy, Hasher},
    rate_limit::{RateLimit, holder, wide_network},
    store::{Candidate, NewLogin, OperatorId, OperatorRef, SecretHash, UnixMillis},
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

/// So many strangers' requests are worked on at a time.
const STRANGERS: usize = 32;

/// Who has tried to log in how often; and where passwords are compared.
#[derive(Debug)]
pub struct Logins {
    strangers: Arc<Semaphore>,
    /// From where somebody tries.
    addresses: RateLimit<IpAddr>,
    /// From which part of the network: with IPv6 one party may have many networks of the size that is a home's.
    wide_networks: RateLimit<IpAddr>,
    /// For whose password they try, from wherever.
    names: RateLimit<u64>,
    /// Those who try from where the operator is known: no stranger keeps them from it.
    familiar: RateLimit<(OperatorId, IpAddr)>,
    /// Those who are logged in, and show their password again.
    own: RateLimit<OperatorId>,
    /// Wrong codes behind a right password.
    codes: RateLimit<OperatorId>,
    state: RandomState,
    hasher: Hasher,
    /// For those who are where they are known, and for who is logged in: however many strangers try, they don't wait.
    familiar_hasher: Hasher,
}

impl Default for Logins {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            addresses: RateLimit::new(5, seconds(10)),
            wide_networks: RateLimit::new(50, seconds(1)),
            names: RateLimit::new(20, seconds(10)),
            familiar: RateLimit::new(10, seconds(30)),
            own: RateLimit::new(10, seconds(30)),
            codes: RateLimit::new(5, seconds(60)),
            state: RandomState::new(),
            hasher: Hasher::start("logins", 16),
            familiar_hasher: Hasher::start("familiar-logins", 16),
        }
    }
}

impl Logins {
    /// A place among the strangers whose requests are worked on.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.strangers).try_acquire_owned();
        place.map_err(|_| ApiError::too_many_requests(STRANGERS))
    }

    /// Takes one of the attempts from this address.
    pub(super) fn take_address(&self, address: IpAddr, now: Instant) -> Result<(), ApiError> {
        // In this order: who goes on trying from one home's network takes nothing from its neighbours.
        let taken = self.addresses.take(holder(address), now);
        let taken = taken.and_then(|()| match wide_network(address) {
            Some(network) => self.wide_networks.take(network, now),
            None => Ok(()),
        });
        taken.map_err(ApiError::too_many_logins)
    }

    /// Gives one attempt back to this address: it was a good one.
    fn give_address_back(&self, address: IpAddr) {
        self.addresses.give_back(&holder(address));
        if let Some(network) = wide_network(address) {
            self.wide_networks.give_back(&network);
        }
    }

    /// Takes one of the attempts for the password of this name. Gives whether it is from where that operator is known:
    /// where they were the last time, or are logged in.
    fn take_name(
        &self,
        name: &str,
        candidate: Option<&Candidate>,
        address: IpAddr,
        now: Instant,
    ) -> Result<bool, ApiError> {
        let holder_of = |address: &String| address.parse().ok().map(holder);
        let holder = holder(address);
        let is_known = |candidate: &&Candidate| {
            candidate.addresses.iter().filter_map(holder_of).any(|known| known == holder)
        };
        let taken = match candidate.filter(is_known) {
            Some(candidate) => self.familiar.take((candidate.operator.id, holder), now).map(|()| true),
            None => self.names.take(self.part(name), now).map(|()| false),
        };
        taken.map_err(ApiError::too_many_logins)
    }

    /// What of a name is kept.
    fn part(&self, name: &str) -> u64 {
        self.state.hash_one(name) % NAMES
    }

    /// Takes one of the attempts of an operator who is logged in to show the password, or a code, again.
    pub(super) fn take_own(&self, operator: OperatorId) -> Result<(), ApiError> {
        self.own.take(operator, Instant::now()).map_err(ApiError::too_many_logins)
    }

    /// The step of a code of this operator's second factor, if it is a good one that was not used yet. After a few wrong
    /// ones none is looked at for a while.
    pub(super) fn step_of(&self, candidate: &Candidate, code: &str) -> Result<Option<u64>, ApiError> {
        let (id, now) = (candidate.operator.id, Instant::now());
        self.codes.check(&id, now).map_err(ApiError::too_many_logins)?;
        let secret = candidate.totp.as_deref().unwrap_or_default();
        let step = totp::step_of(secret, code, UnixMillis::now().0);
        let step = step.filter(|step| candidate.totp.is_some() && *step > candidate.totp_step);
        if step.is_none() {
            let _ = self.codes.take(id, now);
        }
        Ok(step)
    }

    /// Whether this is the password of the hash, or of nobody.
    pub(super) async fn is_right(
        &self,
        password: String,
        hash: Option<String>,
        is_familiar: bool,
    ) -> Result<bool, ApiError> {
        let compare = move || {
            let is_right = passwords::is_right(password.as_bytes(), hash.as_deref().unwrap_or(&NOBODYS));
            is_right.map(|is_right| is_right && hash.is_some())
        };
        let compared = match is_familiar {
            true => self.familiar_hasher.run(compare).await,
            false => {
                let compared = self.hasher.try_run(compare).await;
                compared.map_err(|Busy| ApiError::too_many_logins(Duration::from_secs(1)))?
            }
        };
        compared.and_then(Result::ok).ok_or_else(ApiError::no_hash)
    }

    /// The hash of a new password, if it is one. No stranger may set one.
    pub(super) async fn hash(&self, password: String) -> Result<String, ApiError> {
        let (characters, bytes) = (password.chars().count(), password.len());
        if characters < SHORTEST || bytes > LONGEST {
            let message = format!(
                "expected a password of {SHORTEST} characters or more, and of {LONGEST} bytes at most, found \
                 {characters} characters in {bytes} bytes"
            );
            let hint = "a few words that nobody else would put together are easy to keep";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "bad-password", message).hint(hint));
        }
        let made = self.familiar_hasher.run(move || passwords::hash(password.as_bytes())).await;
        made.and_then(Result::ok).ok_or_else(ApiError::no_hash)
    }
}

/// `POST /login`
pub(super) async fn login(
    State(api): State<Arc<Api>>,
    Visitor(browser): Visitor,
    headers: HeaderMap,
    Body(request): Body<LoginRequest>,
) -> Result<Response, ApiError> {
    done_whole(log_in(api, browser, headers, request)).await
}

async fn log_in(
    api: Arc<Api>,
    browser: Arc<Browser>,
    headers: HeaderMap,
    LoginRequest { name, password, code }: LoginRequest,
) -> Result<Response, ApiError> {
    let (logins, store, address) = (&api.logins, &api.host.store, browser.ip());
    let candidate = store.candidate(&name).await?;
    let is_familiar = logins.take_name(&name, candidate.as_ref(), address, Instant::now())?;
    let hash = candidate.as_ref().map(|candidate| candidate.password.clone());
    let is_right = logins.is_right(password, hash, is_familiar).await?;
    let Some(candidate) = candidate else { return Err(refuse(&api, None, address, "unknown name")) };
    let operator = candidate.operator.clone();
    if !is_right {
        return Err(refuse(&api, Some(&operator.name), address, "wrong password"));
    }
    let step = match (&candidate.totp, code.filter(|code| !code.trim().is_empty())) {
        (None, _) => None,
        (Some(_), None) => {
            // Whoever has the second factor as well comes back with it; who has not knows the password all the same.
            if !is_familiar {
                refuse(&api, Some(&operator.name), address, "no code, and the right password");
            }
            return Err(ApiError::code_needed());
        }
        (Some(_), Some(code)) => {
            let step = logins.step_of(&candidate, &code)?;
            Some(step.ok_or_else(|| refuse(&api, Some(&operator.name), address, "wrong code"))?)
        }
    };
    let (secret, login) = new_login(&browser, &headers)?;
    let Some(displaced) = store.begin_login(candidate, step, login).await? else {
        return Err(refuse(&api, Some(&operator.name), address, "changed meanwhile"));
    };
    welcome(&api, &browser, &headers, &operator, &secret, displaced).await
}

/// `POST /login/first`
pub(super) async fn first(
    State(api): State<Arc<Api>>,
    Visitor(browser): Visitor,
    headers: HeaderMap,
    Body(request): Body<FirstLoginRequest>,
) -> Result<Response, ApiError> {
    done_whole(log_in_first(api, browser, headers, request)).await
}

async fn log_in_first(
    api: Arc<Api>,
    browser: Arc<Browser>,
    headers: HeaderMap,
    FirstLoginRequest { token, password }: FirstLoginRequest,
) -> Result<Response, ApiError> {
    let (logins, store) = (&api.logins, &api.host.store);
    let token = hash(&token);
    let unknown = || refuse(&api, None, browser.ip(), "one-time login used, expired or unknown");
    store.first_login(token).await?.ok_or_else(unknown)?;
    // Whoever has the token is no stranger.
    let password = logins.hash(password).await?;
    let (secret, login) = new_login(&browser, &headers)?;
    let (operator, ended) = store.use_first_login(token, password, login).await?.ok_or_else(unknown)?;
    welcome(&api, &browser, &headers, &operator, &secret, ended).await
}

/// A new secret, and the login that is known by it.
fn new_login(browser: &Browser, headers: &HeaderMap) -> Result<(String, NewLogin), ApiError> {
    let secret = new_secret()?;
    let (address, is_secure) = (browser.ip(), browser.is_secure());
    let login = NewLogin { hash: hash(&secret), address, is_secure, browser: name_of(headers) };
    Ok((secret, login))
}

/// 32 random bytes, as text.
pub(super) fn new_secret() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::no_random(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Tells who has logged in who they are, and gives them the cookie. What the browser was logged in as before has ended.
/// Their own attempt is given back to the address; those for others' passwords are not.
async fn welcome(
    api: &Api,
    browser: &Browser,
    headers: &HeaderMap,
    operator: &OperatorRef,
    secret: &str,
    ended: Vec<SecretHash>,
) -> Result<Response, ApiError> {
    api.logins.give_address_back(browser.ip());
    api.revocations.add(ended.into_iter().map(Credential::Login));
    if let Some(before) = browser.secret(headers) {
        let who = Who { name: operator.name.clone(), address: Some(browser.ip()) };
        match api.host.store.end_login(before, who).await {
            Ok(true) => api.revocations.add([Credential::Login(before)]),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the login before could not be ended"),
        }
    }
    let answer = LoggedInAnswer { name: operator.name.clone(), role: operator.role.to_string() };
    Ok(([(header::SET_COOKIE, browser.cookie(secret)?)], Json(answer)).into_response())
}

/// Writes down that somebody could not show that they are this operator, most of a storm left out; and tells them no more
/// than that.
pub(super) fn refuse(api: &Api, operator: Option<&str>, address: IpAddr, reason: &str) -> ApiError {
    let mut event = NewEvent::new(EventKind::LoginRefused).address(address).detail("reason", reason);
    // A name that nobody has may be a password in the wrong place.
    if let Some(operator) = operator {
        event = event.detail("operator", operator);
    }
    if let Some(event) = api.host.store.limit_refusal(None, event) {
        tracing::warn!(%address, reason, "a login was refused");
        let store = api.host.store.clone();
        tokio::spawn(async move { store.note(event).await });
    }
    ApiError::wrong_login()
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        time::{Duration, Instant},
    };

    use protocol_core::code::Role;

    use super::Logins;
    use crate::store::{Candidate, OperatorId, OperatorRef};

    /// An operator who is known from there.
    fn anna(addresses: &[&str]) -> Candidate {
        Candidate {
            operator: OperatorRef { id: OperatorId(1), name: "anna".to_owned(), role: Role::Admin },
            password: "a hash".to_owned(),
            totp: None,
            totp_step: 0,
            addresses: addresses.iter().copied().map(str::to_owned).collect(),
        }
    }

    fn address(network: u16, host: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 1, network, 0, 0, 0, host])
    }

    #[test]
    fn a_name_is_tried_so_often_from_anywhere_and_strangers_keep_nobody_from_it_who_is_known() {
        let (logins, now, anna) =
            (Logins::default(), Instant::now(), anna(&["192.0.2.1", "2001:db8:1:7::1"]));
        let tried = |name: &str, from: IpAddr| logins.take_name(name, Some(&anna), from, now);
        // Each of them comes from somewhere else.
        let stranger = |number: u8| IpAddr::from([198, 51, 100, number]);
        let allowed = (0..100).filter(|number| tried("anna", stranger(*number)).is_ok());
        assert_eq!(allowed.count(), 20);
        // Nobody's name has attempts of its own, and is limited as well.
        let mut names = ["nobody", "somebody", "who", "else"].into_iter();
        let nobody = names.find(|name| logins.part(name) != logins.part("anna")).unwrap();
        let allowed =
            (0..100).filter(|number| logins.take_name(nobody, None, stranger(*number), now).is_ok());
        assert_eq!(allowed.count(), 20);
        for home in [IpAddr::from([192, 0, 2, 1]), address(7, 99)] {
            let allowed = (0..100).map_while(|_| tried("anna", home).ok()).collect::<Vec<_>>();
            assert_eq!(allowed, [true; 10], "{home}: known, and limited all the same");
        }
        let later = now + Duration::from_secs(10);
        assert!(!logins.take_name("anna", Some(&anna), stranger(1), later).ok().unwrap());
        assert!(logins.take_name("anna", Some(&anna), stranger(2), later).is_err());
    }

    #[test]
    fn who_has_many_networks_has_not_as_many_attempts() {
        let (logins, now) = (Logins::default(), Instant::now());
        let allowed = (0..100).filter(|_| logins.take_address(address(0, 1), now).is_ok());
        assert_eq!(allowed.count(), 5, "one network");
        let allowed = (1..1_000).filter(|network| logins.take_address(address(*network, 1), now).is_ok());
        assert_eq!(allowed.count(), 45, "what one network was refused takes nothing from the others");
        assert!(logins.take_address(IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]), now).is_ok());
        assert!((0..200).all(|last| logins.take_address(IpAddr::from([192, 0, 2, last]), now).is_ok()));
        logins.give_address_back(address(2_000, 1));
        assert!(logins.take_address(address(2_001, 1), now).is_ok(), "a good attempt is given back");
    }
}
