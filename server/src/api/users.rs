//! `/operators`, for admins: who is made, with which role, and by which one-time login they come in.

use std::sync::Arc;

use axum::{Json, http::StatusCode};
use protocol_core::code::Role;

use super::{
    Api,
    asker::{Asker, Body, Name, Nothing, done_whole},
    browser::hash,
    devices::expiry,
    error::ApiError,
    login::new_secret,
    operators::stop_all_of,
    rights::{Action, Object},
    view::{OneTimeLogin, OperatorRequest, RoleAnswer, RoleRequest},
};
use crate::{
    event::Who,
    store::{DeviceName, FirstLogin, OperatorRef, parse_role, rank},
};

/// For how long a one-time login is good, in seconds.
const EXPIRY: u64 = 86_400;

/// `POST /operators`
pub(super) async fn add(
    asker: Asker,
    Body(OperatorRequest { name, role }): Body<OperatorRequest>,
) -> Result<(StatusCode, Json<OneTimeLogin>), ApiError> {
    let api = asker.may(Action::ManageOperators, Object::Operators)?;
    let name: DeviceName = name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let role = role_of(&role)?;
    let (token, login) = one_time()?;
    let added = api.host.store.add_operator(name, role, login, asker.who()).await?;
    let operator = added.map_err(|refusal| {
        ApiError::new(StatusCode::CONFLICT, "name-taken", refusal.to_string())
            .hint("choose another name, or give this one a new one-time login: `holdfast user login NAME`")
    })?;
    Ok((StatusCode::CREATED, Json(answer(api, operator, &token, login))))
}

/// `POST /operators/{name}/login`
pub(super) async fn offer_login(
    asker: Asker,
    Name(name): Name,
    _: Nothing,
) -> Result<(StatusCode, Json<OneTimeLogin>), ApiError> {
    let api = asker.may(Action::ManageOperators, Object::Operator(&name))?;
    let (token, login) = one_time()?;
    let offered = api.host.store.offer_login(&name, login, asker.who()).await?;
    let operator = offered.ok_or_else(|| ApiError::no_such_operator(&name))?;
    Ok((StatusCode::CREATED, Json(answer(api, operator, &token, login))))
}

/// `POST /operators/{name}/role`
pub(super) async fn set_role(
    asker: Asker,
    Name(name): Name,
    Body(RoleRequest { role }): Body<RoleRequest>,
) -> Result<Json<RoleAnswer>, ApiError> {
    let api = asker.may(Action::ManageOperators, Object::Operator(&name))?;
    let role = role_of(&role)?;
    done_whole(change_role(Arc::clone(api), name, role, asker.who())).await.map(Json)
}

async fn change_role(api: Arc<Api>, name: String, role: Role, who: Who) -> Result<RoleAnswer, ApiError> {
    let before = api.host.store.set_role(&name, role, who).await?;
    let before = before.ok_or_else(|| ApiError::no_such_operator(&name))?;
    // What was asked with the role before, and is not done yet, is not done.
    api.revocations.change_role(before.id);
    if rank(role) < rank(before.role) {
        // Looking is what all may, but for cameras that their devices show to some only; what was begun by a higher role
        // ends.
        let reason = format!("{name} has the role {role} now");
        stop_all_of(&api, before.id, &reason);
    }
    Ok(RoleAnswer { name, role: role.to_string(), before: before.role.to_string() })
}

/// The role of this name.
pub(super) fn role_of(name: &str) -> Result<Role, ApiError> {
    let expected =
        || ApiError::bad_request(format!("role: expected viewer, operator or admin, found {name:?}"));
    parse_role(name).ok_or_else(expected)
}

/// A new token, and what is kept of it.
fn one_time() -> Result<(String, FirstLogin), ApiError> {
    let token = new_secret()?;
    let login = FirstLogin { hash: hash(&token), expires_at: expiry(EXPIRY)? };
    Ok((token, login))
}

fn answer(api: &Api, operator: OperatorRef, token: &str, login: FirstLogin) -> OneTimeLogin {
    let links = api.console_addresses().into_iter().map(|address| format!("{address}#/first/{token}"));
    OneTimeLogin {
        name: operator.name,
        role: operator.role.to_string(),
        login: token.to_owned(),
        expires: login.expires_at.into(),
        links: links.collect(),
    }
}
