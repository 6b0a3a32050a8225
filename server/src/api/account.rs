//! `/me`, `/logins`, `/logout`: who asks, their password and second factor, and the browsers in which they are logged in.

use std::sync::Arc;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Api,
    asker::{Asker, Body, Id, Nothing, Options, done_whole},
    browser::Visitor,
    error::ApiError,
    login::refuse,
    rights::{Action, Actor, Credential, Object, Operator},
    view::{
        CodeRequest, LoginView, MeView, Page, PasswordChange, PasswordRequest, ServerName, TotpAnswer,
        TotpRemoval,
    },
};
use crate::{
    store::{Candidate, LoginRow, SecretHash, UnixMillis},
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
        name: asker.actor().name(),
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
    done_whole(async move {
        let api = asker.may(Action::OwnAccount, Object::Server)?;
        let (operator, candidate) = prove(api, &asker, request.current).await?;
        let password = api.logins.hash(request.new).await?;
        let keep = operator.login();
        let done = api.host.store.set_password(operator.id, candidate.password, password, keep, asker.who());
        api.revocations
            .add(done.await?.ok_or_else(ApiError::wrong_login)?.into_iter().map(Credential::Login));
        me(asker).await
    })
    .await
}

/// `POST /me/totp`
pub(super) async fn offer_totp(
    asker: Asker,
    Body(PasswordRequest { password }): Body<PasswordRequest>,
) -> Result<Json<TotpAnswer>, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let (operator, candidate) = prove(api, &asker, password).await?;
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
    api.logins.take_own(operator.id)?;
    let none = || ApiError::new(StatusCode::CONFLICT, "no-totp", "no second factor was asked for before");
    let secret = api.host.store.offered_totp(operator.id).await?.ok_or_else(none)?;
    let step = totp::step_of(&secret, &code, UnixMillis::now().0).ok_or_else(ApiError::wrong_code)?;
    if !api.host.store.set_totp(operator.id, Some((secret, step)), asker.who()).await? {
        return Err(none());
    }
    me(asker).await
}

/// `POST /me/totp/remove`
pub(super) async fn remove_totp(
    asker: Asker,
    Body(TotpRemoval { password, code }): Body<TotpRemoval>,
) -> Result<Json<MeView>, ApiError> {
    let api = asker.may(Action::OwnAccount, Object::Server)?;
    let (operator, candidate) = prove(api, &asker, password).await?;
    let none = || ApiError::new(StatusCode::CONFLICT, "no-totp", "there is no second factor");
    if candidate.totp.is_none() {
        return Err(none());
    }
    if api.logins.step_of(&candidate, &code)?.is_none() {
        refuse(api, Some(&operator.name), operator.address, "wrong code, logged in");
        return Err(ApiError::wrong_code());
    }
    if !api.host.store.set_totp(operator.id, None, asker.who()).await? {
        return Err(none());
    }
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
    api.logins.take_own(operator.id)?;
    if api.logins.is_right(password, Some(candidate.password.clone()), true).await? {
        return Ok((operator, candidate));
    }
    refuse(api, Some(&operator.name), operator.address, "wrong password, logged in");
    Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-password", "this is not your password"))
}

/// Whose logins are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    operator: Option<String>,
}

/// `GET /logins`
pub(super) async fn logins(
    asker: Asker,
    Options(Whose { operator }): Options<Whose>,
) -> Result<Json<Page<LoginView>>, ApiError> {
    let own = asker.actor().name();
    let name = operator.unwrap_or_else(|| own.clone());
    let action = if name == own { Action::Look } else { Action::ManageOperators };
    let api = asker.may(action, Object::Operator(&name))?;
    let items = api.host.store.logins(Some(&name)).await?.into_iter().map(|row| view(&asker, row));
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// `POST /logins/{id}/revoke`
pub(super) async fn revoke(asker: Asker, Id(id): Id, _: Nothing) -> Result<Json<LoginView>, ApiError> {
    let own = asker.actor().name();
    let api = asker.may(Action::OwnAccount, Object::Operator(&own))?;
    let row = api.host.store.logins(None).await?.into_iter().find(|row| row.id == id);
    let row = row.filter(|row| row.operator == own || asker.would(Action::ManageOperators));
    let row = row.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-login", "it has ended, or is not yours")
    })?;
    end(api, &asker, row.hash).await?;
    Ok(Json(view(&asker, row)))
}

fn view(asker: &Asker, row: LoginRow) -> LoginView {
    LoginView {
        id: row.id,
        operator: row.operator,
        since: row.since.into(),
        last_seen: row.last_seen.into(),
        address: row.address,
        browser: row.browser,
        current: Some(row.hash) == asker.actor().operator().and_then(Operator::login),
    }
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
    let (api, who) = (Arc::clone(api), asker.who());
    done_whole(async move {
        api.host.store.end_login(hash, who).await?;
        api.revocations.add([Credential::Login(hash)]);
        Ok(())
    })
    .await
}
