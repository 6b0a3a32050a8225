//! `/me`, `/logins`, `/logout`: who asks, their password and second factor, and the browsers in which they are logged in.

use std::sync::Arc;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Api,
    asker::{Asker, Body, Id, Nothing, Options},
    browser::Visitor,
    error::ApiError,
    rights::{Action, Actor, Credential, Object, Operator},
    view::{CodeRequest, LoginView, MeView, Page, PasswordChange, PasswordRequest, ServerName, TotpAnswer},
};
use crate::{
    store::{Candidate, SecretHash, UnixMillis},
    totp,
};

/// `GET /me`
pub(super) async fn me(asker: Asker) -> Result<Json<MeView>, ApiError> {
    let api = asker.may(Action::Look, Object::Server)?;
    let row = match asker.actor() {
        Actor::User { .. } => None,
        Actor::Operator(operator) => api.host.store.operator(&operator.name).await?,
    };
    Ok(Json(MeView {
        name: asker.who().name,
        role: asker.actor().role().to_string(),
        password: row.as_ref().is_some_and(|row| row.has_password),
        totp: row.as_ref().is_some_and(|row| row.has_totp),
        server: ServerName { version: env!("CARGO_PKG_VERSION").to_owned(), name: server_name() },
    }))
}

/// What the server's machine calls itself; a name that is none of a host's is left out.
fn server_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if is_plain && !name.is_empty() { name } else { "server".to_owned() }
}

/// `POST /me/password`
pub(super) async fn set_password(
    asker: Asker,
    Body(request): Body<PasswordChange>,
) -> Result<Json<MeView>, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let (operator, candidate) = prove(api, &asker, request.current).await?;
    let password = api.logins.hash(request.new, true).await?;
    let keep = operator.login();
    let done =
        api.host.store.set_password(operator.id, candidate.password, password, keep, asker.who()).await?;
    api.revocations.add(done.ok_or_else(ApiError::wrong_login)?.into_iter().map(Credential::Login));
    me(asker).await
}

/// `POST /me/totp`
pub(super) async fn offer_totp(asker: Asker, _: Nothing) -> Result<Json<TotpAnswer>, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let (operator, candidate) = account(api, &asker).await?;
    if candidate.totp.is_some() {
        let message = "the second factor is on already";
        return Err(ApiError::new(StatusCode::CONFLICT, "totp-on", message).hint("turn it off first"));
    }
    let mut secret = vec![0; totp::SECRET];
    getrandom::fill(&mut secret).map_err(|error| ApiError::no_random(&error))?;
    let uri = totp::uri(&secret, &server_name(), &operator.name);
    let answer = TotpAnswer { secret: totp::base32(&secret), uri };
    api.host.store.offer_totp(operator.id, secret).await?;
    Ok(Json(answer))
}

/// `POST /me/totp/confirm`
pub(super) async fn confirm_totp(
    asker: Asker,
    Body(CodeRequest { code }): Body<CodeRequest>,
) -> Result<Json<MeView>, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let (operator, _) = account(api, &asker).await?;
    api.logins.take_name(&operator.name)?;
    let secret = api.host.store.offered_totp(operator.id).await?.ok_or_else(|| {
        ApiError::new(StatusCode::CONFLICT, "no-totp", "no second factor was asked for before")
    })?;
    let step = totp::step_of(&secret, &code, UnixMillis::now().0).ok_or_else(|| {
        ApiError::new(StatusCode::BAD_REQUEST, "wrong-code", "this is not the code of now")
            .hint("look whether the clock of the device with the app is right")
    })?;
    api.host.store.set_totp(operator.id, Some((secret, step)), asker.who()).await?;
    me(asker).await
}

/// `POST /me/totp/remove`
pub(super) async fn remove_totp(
    asker: Asker,
    Body(PasswordRequest { password }): Body<PasswordRequest>,
) -> Result<Json<MeView>, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let (operator, _) = prove(api, &asker, password).await?;
    api.host.store.set_totp(operator.id, None, asker.who()).await?;
    me(asker).await
}

/// The account of who asks, if it has a password.
async fn account<'a>(api: &Api, asker: &'a Asker) -> Result<(&'a Operator, Candidate), ApiError> {
    let none = || {
        ApiError::new(StatusCode::CONFLICT, "no-password", "there is no password of yours here")
            .hint("`holdfast user login NAME` makes a one-time login, by which it is set")
    };
    let Actor::Operator(operator) = asker.actor() else { return Err(none()) };
    Ok((operator, api.host.store.candidate_by_id(operator.id).await?.ok_or_else(none)?))
}

/// As [`account`], once the password was shown again.
async fn prove<'a>(
    api: &Api,
    asker: &'a Asker,
    password: String,
) -> Result<(&'a Operator, Candidate), ApiError> {
    let (operator, candidate) = account(api, asker).await?;
    api.logins.take_name(&operator.name)?;
    match api.logins.is_right(password, Some(candidate.password.clone()), true).await? {
        true => Ok((operator, candidate)),
        false => Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-password", "this is not your password")),
    }
}

/// Whose logins are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    operator: Option<String>,
}

/// `GET /logins`
pub(super) async fn logins(
    asker: Asker,
    Options(Whose { operator }): Options<Whose>,
) -> Result<Json<Page<LoginView>>, ApiError> {
    let own = asker.who().name;
    let name = operator.unwrap_or_else(|| own.clone());
    let action = if name == own { Action::Look } else { Action::ManageOperators };
    let api = asker.may(action, Object::Operator(&name))?;
    let current = asker.actor().operator().and_then(Operator::login);
    let rows = api.host.store.logins(Some(&name)).await?;
    let items = rows.into_iter().map(|row| LoginView {
        id: row.id,
        operator: row.operator,
        since: row.since.into(),
        last_seen: row.last_seen.into(),
        address: row.address,
        browser: row.browser,
        current: Some(row.hash) == current,
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// `POST /logins/{id}/revoke`
pub(super) async fn revoke(asker: Asker, Id(id): Id, _: Nothing) -> Result<Json<LoginView>, ApiError> {
    let own = asker.who().name;
    let api = asker.may(Action::OwnAccount, Object::Operator(&own))?;
    let row = api.host.store.logins(None).await?.into_iter().find(|row| row.id == id);
    let row = row.filter(|row| row.operator == own || asker.would(Action::ManageOperators));
    let row = row.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-login", "it has ended, or is not yours")
    })?;
    end(api, &asker, row.hash).await?;
    let current = asker.actor().operator().and_then(Operator::login) == Some(row.hash);
    Ok(Json(LoginView {
        id,
        operator: row.operator,
        since: row.since.into(),
        last_seen: row.last_seen.into(),
        address: row.address,
        browser: row.browser,
        current,
    }))
}

/// `POST /logout`
pub(super) async fn logout(
    asker: Asker,
    visitor: Result<Visitor, ApiError>,
    _: Nothing,
) -> Result<Response, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let Visitor(browser) = visitor?;
    if let Some(hash) = asker.actor().operator().and_then(Operator::login) {
        end(api, &asker, hash).await?;
    }
    Ok(([(header::SET_COOKIE, browser.no_cookie()?)], Json(serde_json::json!({}))).into_response())
}

/// Ends a login, and what is open by it.
async fn end(api: &Arc<Api>, asker: &Asker, hash: SecretHash) -> Result<(), ApiError> {
    api.host.store.end_login(hash, asker.who()).await?;
    api.revocations.add([Credential::Login(hash)]);
    Ok(())
}
